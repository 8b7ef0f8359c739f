"""`quorate version`: what is installed here, and what the master runs."""

import platform

from quorate import __version__
from quorate.cli.app import new_group
from quorate.cli.output import Json, print_json

app = new_group("Print the version.")


@app.command()
def version(as_json: Json = False) -> None:
    """Print the version."""
    if as_json:
        print_json({"quorate": __version__, "python": platform.python_version()})
    else:
        print(f"quorate {__version__}")
