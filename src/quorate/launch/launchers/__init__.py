"""Who starts the processes of a member. A launcher is one file here: a module with `derive`, found by its name.

    derive(configuration, entrypoint, environment) -> Launch

`environment` is what the user has set. Launchers are pure, so the master plans with the code that the agents run.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from typing import Dict, Mapping, Sequence, Tuple

from quorate.launch import environment as variables
from quorate.launch.config import Configuration, ConfigurationError


class LauncherError(ValueError):
    """No such launcher, or an entry point or variables that it cannot use; the text says what to write instead."""


@dataclasses.dataclass(frozen=True)
class Launch:
    """How to start a member."""

    argv: Tuple[str, ...]
    #: To be added to the environment; holds nothing that the user has set.
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)


def names() -> Sequence[str]:
    """Every launcher there is."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def derive(
    launcher: str, configuration: Configuration, entrypoint: Sequence[str], environment: Mapping[str, str]
) -> Launch:
    """How to start the member that the configuration means, with all variables that are to be added.

    Raises LauncherError.
    """
    if launcher not in names():
        raise LauncherError(f"there is no launcher {launcher!r}; there are {', '.join(names())}")
    if not entrypoint:
        raise LauncherError("the entry point is empty")
    module = importlib.import_module(f"{__name__}.{launcher}")
    launch: Launch = module.derive(configuration, tuple(entrypoint), environment)
    try:
        added: Dict[str, str] = dict(variables.derive(configuration, environment, launcher))
    except ConfigurationError as error:
        raise LauncherError(str(error)) from None
    added.update(variables.without_overriding(environment, launch.environment))
    return Launch(launch.argv, added)
