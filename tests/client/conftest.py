"""What tests of the client share."""

from __future__ import annotations

import socket

import pytest


@pytest.fixture
def unused_url() -> str:
    """A URL at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"
