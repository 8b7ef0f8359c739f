"""The schema of the store and how an older one becomes the present one (Alembic, without files of settings).

Alembic takes a tenth of a second to import, so it is only where there is something to do.
"""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory

#: The newest revision under versions/; a test holds it to that.
HEAD: Final = "0002"


class NewerSchema(Exception):
    """The database has a revision that this program does not know."""

    def __init__(self, found: str, known: str) -> None:
        super().__init__(found)
        self.found = found
        self.known = known


@cache
def scripts() -> "ScriptDirectory":
    """All revisions that this program knows."""
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    return ScriptDirectory.from_config(config)


def upgrade(connection: sa.Connection) -> None:
    """Brings the schema to the newest revision in one transaction; raises NewerSchema."""
    present = _present(connection)
    if present == HEAD:
        return
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext

    known = scripts()
    if present is not None and present not in {script.revision for script in known.walk_revisions()}:
        raise NewerSchema(present, HEAD)
    context = EnvironmentContext(Config(), known, fn=lambda revision, _: known._upgrade_revs(HEAD, revision))
    with connection.begin():
        context.configure(connection=connection)
        context.run_migrations()


def _present(connection: sa.Connection) -> str | None:
    """The revision that the database is at; None for a new one. Alembic keeps it in this table."""
    with connection.begin():
        if not sa.inspect(connection).has_table("alembic_version"):
            return None
        found: str | None = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
        return found
