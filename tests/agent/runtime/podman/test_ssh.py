"""Whoever enters a container of Podman's."""

from tests.agent.runtime.test_ssh import *  # noqa: F403
