"""What all tests share: in CI, a test that needs a lab, Docker or a browser must run."""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

# A run of CI says the same of the same commit; developers' runs go on looking for new examples.
settings.register_profile("ci", derandomize=True, deadline=None)
if os.environ.get("QUORATE_CI"):
    settings.load_profile("ci")

#: Markers of what a developer's machine may lack, and CI must have.
NEEDED_IN_CI = ("lab", "docker", "browser")


#: Tests with a whole cluster, or an agent that may make private networks: on one machine they want the same ports and
#: the same lock, so they run one after the other. (By path, since xdist's groups are lost with pytest 9.)
ONE_AFTER_THE_OTHER = (
    "tests/agent/", "tests/chaos/", "tests/cli/", "tests/demo/", "tests/launch/test_torch.py", "tests/test_readme.py",
)  # fmt: skip


class _OneClusterAtATime(LoadScopeScheduling):  # type: ignore[misc]
    def _split_scope(self, nodeid: str) -> str:
        return "cluster" if nodeid.startswith(ONE_AFTER_THE_OTHER) else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    return _OneClusterAtATime(config, log) if config.getoption("dist") == "load" else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Generator[None, Any, Any]:
    report = yield
    needed = [name for name in NEEDED_IN_CI if item.get_closest_marker(name)]
    if os.environ.get("QUORATE_CI") and report.skipped and needed:
        report.outcome = "failed"
        report.longrepr = f"marked {', '.join(needed)} and did not run, which is a failure in CI: {report.longrepr}"
    return report
