"""The schema of the store and how an older one becomes the present one (Alembic, without files of settings)."""

from functools import cache
from pathlib import Path

import sqlalchemy as sa
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory


class NewerSchema(Exception):
    """The database has a revision that this program does not know."""

    def __init__(self, found: str, known: str) -> None:
        super().__init__(found)
        self.found = found
        self.known = known


@cache
def _scripts() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    return ScriptDirectory.from_config(config)


def upgrade(connection: sa.Connection) -> None:
    """Brings the schema to the newest revision in one transaction; raises NewerSchema."""
    scripts = _scripts()
    head = scripts.get_current_head()
    assert head is not None
    with connection.begin():
        present = MigrationContext.configure(connection).get_current_revision()
    if present == head:
        return
    if present is not None and present not in {script.revision for script in scripts.walk_revisions()}:
        raise NewerSchema(present, head)
    context = EnvironmentContext(Config(), scripts, fn=lambda revision, _: scripts._upgrade_revs(head, revision))
    with connection.begin():
        context.configure(connection=connection)
        context.run_migrations()
