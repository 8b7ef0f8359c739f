"""Imports httpx without its own command line."""

from __future__ import annotations

import sys
import threading

_loading = threading.Lock()


def load_httpx() -> None:
    """Makes a following `import httpx` cheap.

    httpx imports its command line if it can, and with it Rich and Pygments: 40 ms that no user of ours has use for. It
    copes with the absence of that module, which is what it is shown here.
    """
    with _loading:
        if "httpx" in sys.modules:
            return
        sys.modules["httpx._main"] = None  # type: ignore[assignment]
        try:
            import httpx  # noqa: F401
        finally:
            del sys.modules["httpx._main"]
