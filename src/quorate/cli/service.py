"""`quorate service`: master and agent as systemd services."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from quorate.cli.app import new_group
from quorate.cli.errors import CommandError, usage
from quorate.cli.output import note

app = new_group("Install master and agent as systemd services.", no_args_is_help=True)

UNITS = Path("/etc/systemd/system")


class Role(StrEnum):
    """What can be a service."""

    MASTER = "master"
    AGENT = "agent"
    #: Of an agent's machine: makes its members' private networks, and is installed with the agent.
    HELPER = "helper"
    #: Also of an agent's machine: has its engine pull images by the agent's proxy, and comes with the agent.
    ENGINE_PROXY = "engine-proxy"


_MASTER = """\
[Unit]
Description=Quorate master
After=network-online.target
Wants=network-online.target

[Service]
Type=notify
ExecStart={command} master{config}
Restart=always
RestartSec=1
# Agents hold their members through a restart, so stopping is always safe; the store needs no longer than this.
TimeoutStopSec=30
LimitNOFILE=65536

# It needs one folder, the network, and nothing else of the machine.
DynamicUser=yes
StateDirectory=quorate/master
StateDirectoryMode=0700
Environment=QUORATE_MASTER_STATE_DIR=%S/quorate/master
UMask=0077
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome={protect_home}
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProcSubset=pid
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""

_AGENT = """\
[Unit]
Description=Quorate agent
# An engine that came later would not be found: the agent looks for one when it starts.
After=network-online.target quorate-helper.service docker.service podman.socket
Wants=network-online.target quorate-helper.service

[Service]
Type=exec
ExecStart={command} agent{config}
Restart=always
RestartSec=2
# Members outlive the agent: only its own process is ended, and the next one finds them.
KillMode=process
SendSIGKILL=no
# A member that runs out of memory is that member's failure, not this service's.
OOMPolicy=continue
# Members get control groups of their own below this one.
Delegate=yes
TasksMax=infinity
LimitNOFILE=1048576
LimitMEMLOCK=infinity
StateDirectory=quorate/agent
StateDirectoryMode=0711
Environment=QUORATE_AGENT_STATE_DIR=%S/quorate/agent

# Members inherit what is set here, and a training may need any device or folder; so only what harms none of them.
ProtectClock=yes
ProtectKernelLogs=yes
RestrictRealtime=no
LockPersonality=yes

[Install]
WantedBy=multi-user.target
"""


_HELPER = """\
[Unit]
Description=Quorate helper, which makes the private networks of this machine's members
Before=quorate-agent.service

[Service]
# The agent starts once it listens, else it would start a helper of its own.
Type=notify
ExecStart={command}.agent.helper --user 0
Restart=always
RestartSec=1

# Namespaces are mounts, and the agent has to see them: so nothing here that would give this service mounts of its own.
CapabilityBoundingSet=CAP_NET_ADMIN CAP_SYS_ADMIN CAP_SYS_PTRACE
NoNewPrivileges=yes
RestrictAddressFamilies=AF_UNIX AF_NETLINK AF_INET
RestrictNamespaces=net
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
UMask=0077

[Install]
WantedBy=multi-user.target
"""

_UNITS = {Role.MASTER: _MASTER, Role.AGENT: _AGENT, Role.HELPER: _HELPER}


def unit(role: Role, config: Path | None) -> str:
    """The text of the unit file; it starts this very installation of Quorate."""
    command = f"{_quoted(sys.executable)} -m quorate"
    # A virtual environment below a home could not be read with ProtectHome=yes.
    protect_home = "read-only" if _below_home(Path(sys.executable)) else "yes"
    option = f" --config {_quoted(str(config))}" if config else ""
    return _UNITS[role].format(command=command, config=option, protect_home=protect_home)


@app.callback()
def _group() -> None: ...


@app.command()
def install(
    role: Annotated[Role, typer.Argument(help="master, agent, or of an agent its helper or engine-proxy alone.")],
    config: Annotated[Path | None, typer.Option(help="Its settings; else /etc/quorate/…", metavar="FILE")] = None,
    folder: Annotated[Path, typer.Option("--dir", metavar="FOLDER", help="Where unit files lie.")] = UNITS,
    print_only: Annotated[bool, typer.Option("--print", help="Print the unit file and write nothing.")] = False,
    now: Annotated[bool, typer.Option("--now", help="Enable and start it as well.")] = False,
) -> None:
    """Write the unit file of a master or an agent.

    \b
      quorate service install agent --print
      sudo quorate service install agent --now

    Where an agent's settings name a proxy, its engine's service is told of it, too: that pulls images itself. It takes
    effect when the engine starts next.
    """
    from quorate.cli.daemons import engine_proxy, told_engines

    if config and not config.is_file():
        usage(f"there is no file {config}")
    proxy = engine_proxy(config) if role in (Role.AGENT, Role.ENGINE_PROXY) else None
    if role is Role.ENGINE_PROXY and proxy is None:
        raise CommandError("the agent's settings name no proxy", hint="proxy: {url: …} in /etc/quorate/agent.yaml")
    # Files can be kept apart on a disk, and not in what is printed.
    roles = [Role.HELPER, Role.AGENT] if role is Role.AGENT and not print_only else [role]
    texts = {
        f"quorate-{each}.service": unit(each, config.resolve() if config else None) for each in roles if each in _UNITS
    }
    if print_only:
        print(proxy.text if proxy and role is Role.ENGINE_PROXY else texts[f"quorate-{role}.service"], end="")
        return
    for name, text in texts.items():
        _write(folder / name, text, role)
    if proxy:
        _write(folder / proxy.file, proxy.text, role, mode=0o600)
    if role is Role.MASTER and _below_home(Path(sys.prefix)):
        note(f"its user must be able to read {sys.prefix}, which lies in a home: better installed below /opt")
    for left in told_engines(folder) if role is Role.AGENT and not proxy else ():
        note(f"{left} tells the engine of a proxy that the agent's settings name no more: rm {left}")
    if folder != UNITS:
        return
    if shutil.which("systemctl") is None:
        raise CommandError(
            "there is no systemctl here, so systemd does not know of the unit yet",
            hint=f"without systemd, let what you have in its place run: quorate {role}",
        )
    _systemctl("daemon-reload")
    if texts and now:
        _systemctl("enable", "--now", *texts)
    elif texts:
        note(f"systemctl enable --now {' '.join(texts)} starts it")
    if proxy and now and role is Role.ENGINE_PROXY:
        _systemctl("restart", proxy.service)
    elif proxy:
        # Without live-restore it would end every container of the machine: not for us to choose the moment.
        note(f"systemctl restart {proxy.service} has it pull by the proxy; without live-restore its containers end")


def _write(path: Path, text: str, role: Role, mode: int = 0o644) -> None:
    try:
        path.parent.mkdir(exist_ok=True)
        draft = path.parent / f".{path.name}.{os.getpid()}"
        draft.touch(mode)
        draft.write_text(text)
        draft.replace(path)
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}", hint=f"sudo {_again(role)}") from None
    print(f"wrote {path}")


def _systemctl(*arguments: str) -> None:
    done = subprocess.run(["systemctl", *arguments], capture_output=True, text=True)
    if done.returncode:
        lines = tuple((done.stderr or done.stdout).strip().splitlines())
        raise CommandError(f"systemctl {' '.join(arguments)} failed", lines=lines, hint="systemctl status")


def _again(role: Role) -> str:
    return f"{sys.executable} -m quorate service install {role}"


def _quoted(word: str) -> str:
    """As systemd reads a word: % is for specifiers, $ for variables, quotes keep blanks together."""
    word = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{word}"' if any(letter in word for letter in " '\t") else word


def _below_home(path: Path) -> bool:
    return any(path.is_relative_to(home) for home in ("/home", "/root", "/run/user"))
