"""Images that Podman pulls."""

from tests.agent.runtime.test_pulls import *  # noqa: F403
