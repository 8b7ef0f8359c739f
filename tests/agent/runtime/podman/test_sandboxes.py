"""Members in containers of Podman's, in private networks."""

from tests.agent.runtime.test_sandboxes import *  # noqa: F403
