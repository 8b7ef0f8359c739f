"""Modules of `launch` as one text, which a machine runs that has nothing but Python 3.8: nothing is installed there.

They are read as data, so this works from a checkout, a wheel and a zip alike, and nothing of them runs here.
"""

from __future__ import annotations

import importlib.resources

#: What the remote prober is made of, `main` in the last.
PROBER = (
    "reactor",
    "lines",
    "devices",
    "probewords",
    "probesockets",
    "probevalues",
    "probeattempts",
    "probe",
    "probelisten",
    "proberemote",
)
#: Reads the length of a program, then the program, from standard input, and leaves the rest to it. It holds no quote
#: but double ones, so that every login shell takes it between single ones.
BOOTSTRAP = "import sys; i = sys.stdin.buffer; exec(i.read(int(i.readline())))"

_HEAD = """\
import sys
if sys.version_info < (3, 8):
    print('{{"too_old": "%d.%d"}}' % sys.version_info[:2])
    sys.exit(3)
import importlib.abc, importlib.util, linecache
SOURCES = {sources!r}
PACKAGES = {packages!r}
class Travelled(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path, target=None):
        if name in SOURCES or name in PACKAGES:
            return importlib.util.spec_from_loader(name, self, is_package=name in PACKAGES)
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        name = module.__name__
        source = SOURCES.get(name, "")
        linecache.cache["<%s>" % name] = len(source), None, source.splitlines(True), "<%s>" % name
        exec(compile(source, "<%s>" % name, "exec"), module.__dict__)
sys.meta_path.insert(0, Travelled())
from {main} import main
main()
"""


def program(modules: tuple[str, ...] = PROBER) -> str:
    """Return the text; it runs `main` of the last module."""
    sources = {f"quorate.launch.{name}": _source(name) for name in modules}
    return _HEAD.format(sources=sources, packages=("quorate", "quorate.launch"), main=f"quorate.launch.{modules[-1]}")


def parcel(modules: tuple[str, ...] = PROBER) -> bytes:
    """Return what the bootstrap reads from its standard input."""
    text = program(modules).encode()
    return b"%d\n" % len(text) + text


def _source(name: str) -> str:
    return importlib.resources.files("quorate").joinpath("launch", f"{name}.py").read_text(encoding="utf-8")
