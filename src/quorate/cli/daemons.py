"""The only place where the command line reaches into master and agent; it imports them when they are started."""

from __future__ import annotations

import gc
import os
import shutil
import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from quorate.cli.errors import CommandError
from quorate.cli.exits import Exit

if TYPE_CHECKING:
    from quorate.agent.config import AgentConfig
    from quorate.model.yamlfile import FileProblems


def run_master(config: Path | None, flags: Mapping[str, Any], *, ready_fd: int | None, verbose: bool) -> int:
    """Runs the master until it is told to stop; raises CommandError for settings that cannot be used."""
    # A quarter of the time that its imports take goes into collecting garbage of which there is none; `run` ends this.
    gc.disable()
    from quorate.master import config as master_config
    from quorate.master import server
    from quorate.model.yamlfile import FileProblems

    try:
        settings = master_config.load(flags, os.environ, config, ready_fd=_also_systemd(ready_fd), verbose=verbose)
    except FileProblems as error:
        raise _bad_settings(error, "master") from None
    except master_config.ConfigError as error:
        raise CommandError(str(error), hint="quorate master --help", code=Exit.USAGE) from None
    return server.run(settings)


def restore_master(file: Path, flags: Mapping[str, Any], config: Path | None, *, force: bool) -> int:
    """Puts a backup where a master with these settings will start."""
    from quorate.cli.output import note
    from quorate.master import backup
    from quorate.master import config as master_config
    from quorate.model.yamlfile import FileProblems

    try:
        folder = master_config.load(flags, os.environ, config).state_directory
    except FileProblems as error:
        raise _bad_settings(error, "master") from None
    except master_config.ConfigError as error:
        raise CommandError(str(error), hint="quorate master restore --help", code=Exit.USAGE) from None
    try:
        notes = backup.restore(file, folder, force=force)
    except backup.BackupError as error:
        raise CommandError(str(error)) from None
    print(f"{file} is restored in {folder}")
    for line in notes:
        note(line)
    note("start the master; its agents change nothing until: quorate master adopt")
    return Exit.OK


#: Variables of an agent besides QUORATE_AGENT_<KEY>: what users and agents call alike.
_AGENT_VARIABLES = {"master": "QUORATE_MASTER", "token": "QUORATE_TOKEN", "ca_file": "QUORATE_CA"}
AGENT_FILE = Path("/etc/quorate/agent.yaml")


def run_agent(config: Path | None, flags: Mapping[str, Any]) -> int:
    """Runs this machine's agent until it is told to stop; raises CommandError for settings that cannot be used."""
    from quorate.agent import daemon

    settings = agent_settings(config, flags, os.environ)
    # Whatever this process starts must not carry the token in its environment.
    os.environ.pop("QUORATE_TOKEN", None)
    daemon.log_to_stderr()
    return daemon.run(settings)


def agent_settings(config: Path | None, flags: Mapping[str, Any], environment: Mapping[str, str]) -> AgentConfig:
    """Flag beats environment beats file beats default."""
    from quorate.agent.config import AgentConfig
    from quorate.agent.runtime.policy import trusted
    from quorate.model.yamlfile import Document, FileProblems, parse_yaml, validate

    named = config or (Path(environment["QUORATE_CONFIG"]) if environment.get("QUORATE_CONFIG") else None)
    file = named or AGENT_FILE
    document = Document("the command line", {})
    try:
        document = parse_yaml(file.read_text(), str(file))
        # It says what jobs may have of this machine, so an agent that is root believes nobody but root.
        if os.geteuid() == 0 and (why := trusted(file)):
            raise CommandError(
                f"an agent that is root does not trust its settings: {why}",
                hint=f"chown root {file}; chmod go-w {file}",
                code=Exit.USAGE,
            )
    except FileNotFoundError:
        if named:
            raise CommandError(f"there is no file {named}", hint="quorate agent --help", code=Exit.USAGE) from None
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{file} cannot be read: {error}", hint=f"ls -l {file}", code=Exit.USAGE) from None
    except FileProblems as error:
        raise _bad_settings(error, "agent") from None
    if isinstance(document.data, dict):
        for key in AgentConfig.model_fields:
            for variable in (_AGENT_VARIABLES.get(key, ""), f"QUORATE_AGENT_{key.upper()}"):
                if variable and environment.get(variable):
                    document.data[key] = environment[variable]
        document.data |= flags
        if not document.data.get("master"):
            raise CommandError(
                "which master? This would run the agent of this machine",
                hint="quorate agent --master URL --token TOKEN, or quorate agent list for the cluster's agents",
                code=Exit.USAGE,
            )
    try:
        return validate(document, AgentConfig)
    except FileProblems as error:
        raise _bad_settings(error, "agent") from None


class EngineProxy(NamedTuple):
    """What has this machine's engine pull images by the agent's proxy."""

    #: The engine's unit.
    service: str
    #: In the folder of unit files.
    file: Path
    text: str


def engine_proxy(config: Path | None) -> EngineProxy | None:
    """None where the agent's settings name no proxy. Raises CommandError for settings that cannot be used."""
    from quorate.agent.runtime.engineproxy import DROP_IN, drop_in

    settings = _settings_alone(config)
    if settings is None or settings.proxy is None:
        return None
    podman = "podman" in settings.runtime.socket or (shutil.which("podman") and not shutil.which("dockerd"))
    service = f"{'podman' if podman else 'docker'}.service"
    return EngineProxy(service, Path(f"{service}.d", DROP_IN), drop_in(settings.proxy.url, settings.proxy.no_proxy))


def told_engines(units: Path) -> list[Path]:
    """The files in a folder of units that tell engines of a proxy, whatever the agent's settings say now."""
    from quorate.agent.runtime.engineproxy import DROP_IN

    return sorted(units.glob(f"*.service.d/{DROP_IN}"))


def engine_detour() -> tuple[str, str]:
    """How this machine's engine goes outside otherwise than its agent's proxy says, and the remedy; empty where not.

    Raises CommandError where there is nothing to compare, or the settings cannot be used.
    """
    from quorate.agent.runtime.containers import detour
    from quorate.agent.runtime.engine import EngineError, find

    settings = _settings_alone(None)
    if settings is None or settings.proxy is None:
        raise CommandError(f"{AGENT_FILE} names no proxy")
    try:
        found = detour(find(settings.runtime.socket), settings.proxy.url)
    except EngineError as error:
        raise CommandError(str(error)) from None
    return found or ("", "")


def _settings_alone(config: Path | None) -> AgentConfig | None:
    """What the agent's file says, before any variable or flag; None where there is no file."""
    named = config or (Path(os.environ["QUORATE_CONFIG"]) if os.environ.get("QUORATE_CONFIG") else None)
    if not (named or AGENT_FILE).is_file():
        return None
    # The master may be a flag's or a variable's, and is of no interest here.
    return agent_settings(named, {"master": "https://any"}, {})


def end_agent(state_dir: Path) -> bool:
    """Ends the agent of a state folder with all its members; False if some are left."""
    from quorate.agent import daemon

    return daemon.end(state_dir)


def try_private_network() -> str:
    """Makes a private network beside all others and removes it; why it could not be made, empty where it could."""
    import tempfile

    from quorate.agent.sandbox.network import Network
    from quorate.agent.sandbox.place import Place

    with tempfile.TemporaryDirectory() as folder:
        return Network(Place(Path(folder))).able()


def _bad_settings(error: FileProblems, command: str) -> CommandError:
    lines = tuple(str(problem) for problem in error.problems)
    return CommandError("the settings cannot be used", lines=lines, hint=f"quorate {command} --help", code=Exit.USAGE)


def _also_systemd(ready_fd: int | None) -> int | None:
    """Where systemd waits for word (Type=notify), passes readiness on to it, as sd_notify(3) describes."""
    address = os.environ.pop("NOTIFY_SOCKET", "")
    if not address or ready_fd is not None:
        return ready_fd
    reader, writer = os.pipe()

    def pass_on() -> None:
        with os.fdopen(reader, "rb") as ready:
            if not ready.readline():
                return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.connect("\0" + address[1:] if address.startswith("@") else address)
            notify.sendall(b"READY=1")

    threading.Thread(target=pass_on, name="systemd", daemon=True).start()
    return writer
