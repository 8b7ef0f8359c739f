"""Docker engines on the lab's hosts know nothing of each other, and take their containers with them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.lab import dockers
from tests.lab.hosts import Lab

pytestmark = [pytest.mark.lab, pytest.mark.docker]


def test_two_hosts_have_engines_of_their_own_and_nothing_of_them_is_left(lab: Lab) -> None:
    if missing := dockers.missing():
        pytest.skip(f"needs {', '.join(missing)}: apt install --no-install-recommends docker.io")
    lab.open("h1", "h2")
    with dockers.engine(lab["h1"]), dockers.engine(lab["h2"]):
        for name in ("h1", "h2"):
            usr = ("-v", "/usr:/usr:ro")
            lab[name].run("docker", "run", "-d", "--name", f"of-{name}", *usr, dockers.IMAGE, "/bin/sleep", "1000")
            assert lab[name].run("docker", "ps", "--format", "{{.Names}}") == f"of-{name}\n"
            assert lab[name].run("docker", "exec", f"of-{name}", "/bin/sh", "-c", "echo /usr/b*n") == "/usr/bin\n"
    assert not list(Path("/sys/fs/cgroup").glob(f"**/{lab.folder.name}*"))
