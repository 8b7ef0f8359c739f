"""Launch goes to machines that have nothing but an old Python."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet
from beside import Beside
from launch_vocabulary import gang, seen_by

import quorate.launch

PACKAGE = Path(quorate.launch.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE.parent.parent).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
    if path.name != "__init__.py"
)


def old_pythons() -> list[ParameterSet]:
    """Interpreters of 3.8 on this machine; where there is none, a test that says so and is skipped."""
    found = [*Path.home().glob(".pyenv/versions/3.8.*/bin/python"), *Path("/usr/bin").glob("python3.8")]
    if not found:
        why = "no Python 3.8 here (pyenv install 3.8): what travels is only known to be written in it, not run by it"
        return [pytest.param(None, id="python3.8", marks=pytest.mark.skip(reason=why))]
    return [pytest.param(python, id=str(python)) for python in found]


@pytest.mark.parametrize("module", MODULES)
def test_a_module_is_written_in_python_3_8(module: str) -> None:
    source = PACKAGE.parent.parent / (module.replace(".", "/") + ".py")
    ast.parse(source.read_text(), feature_version=(3, 8))


@pytest.mark.parametrize("python", [pytest.param(Path(sys.executable), id=sys.executable), *old_pythons()])
def test_it_imports_with_nothing_but_the_standard_library(python: Path) -> None:
    # -S and -I: no site-packages, nothing from this checkout but what is named.
    program = (
        f"import sys; sys.path.insert(0, {str(PACKAGE.parent.parent)!r})\n"
        f"for module in {MODULES!r}: __import__(module)\n"
        "from quorate.launch import launchers\n"
        "print(*launchers.names())"
    )
    ran = subprocess.run([python, "-I", "-S", "-c", program], capture_output=True, text=True, timeout=30)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == ["none", "torch"]


@pytest.mark.parametrize("python", old_pythons())
def test_companions_of_old_and_new_pythons_understand_each_other(python: Path) -> None:
    configuration = gang(2)
    old, new = Beside(configuration, str(python)), Beside(seen_by(configuration, 1))
    try:
        old.goes()
        new.goes()
        new.exited(code=1)
        assert old.stops() == "member sub1 failed with exit code 1"
    finally:
        old.close()
        new.close()
