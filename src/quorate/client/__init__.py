"""The Python client of the API: `Client(resolve())`."""

from quorate.client.errors import (
    ApiError,
    ClientError,
    ContextRefused,
    NotAMaster,
    SettingsError,
    Unreachable,
    Untrusted,
)
from quorate.client.settings import Settings, resolve

__all__ = [
    "ApiError",
    "Client",
    "ClientError",
    "ContextRefused",
    "NotAMaster",
    "Settings",
    "SettingsError",
    "Unreachable",
    "Untrusted",
    "resolve",
]


def __getattr__(name: str) -> object:
    # The views that Client needs take a tenth of a second to import, which `quorate --help` must not pay.
    if name == "Client":
        from quorate.client.api import Client

        return Client
    raise AttributeError(name)
