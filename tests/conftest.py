"""What all tests share: in CI, a test that needs a lab, Docker or a browser must run."""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import settings

# A run of CI says the same of the same commit; developers' runs go on looking for new examples.
settings.register_profile("ci", derandomize=True, deadline=None)
if os.environ.get("QUORATE_CI"):
    settings.load_profile("ci")

#: Markers of what a developer's machine may lack, and CI must have.
NEEDED_IN_CI = ("lab", "docker", "browser")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests with a whole cluster run one after the other: the members of all of them want the same ports here.

    So there is one group for all of them, whatever they are about: two groups would be two clusters side by side.
    """
    for item in items:
        if item.get_closest_marker("torch") or "cluster" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("cluster"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Generator[None, Any, Any]:
    report = yield
    needed = [name for name in NEEDED_IN_CI if item.get_closest_marker(name)]
    if os.environ.get("QUORATE_CI") and report.skipped and needed:
        report.outcome = "failed"
        report.longrepr = f"marked {', '.join(needed)} and did not run, which is a failure in CI: {report.longrepr}"
    return report
