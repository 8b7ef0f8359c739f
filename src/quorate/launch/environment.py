"""The variables that tell a member who it is and where the others are. Pure; what the user set is never overridden."""

from __future__ import annotations

import collections
import json
from typing import Dict, List, Mapping

from quorate.launch.config import Configuration, ConfigurationError, Member, Network, Purpose

MASTER_PORT = "MASTER_PORT"
#: What Backend.AI's users set instead of MASTER_PORT ("Distributed Training Environment Variables").
DIST_MASTER_PORT = "BACKENDAI_DIST_MASTER_PORT"
_LAST_PORT = 65535

#: What each variable means, in the words of the documentation, which is generated from here.
MEANINGS: Mapping[str, str] = {
    "QUORATE_JOB": "Id of the job.",
    "QUORATE_ALLOCATION": "Id of this placement of the job: `<job>-<attempt>`.",
    "QUORATE_ATTEMPT": "Which attempt of the job this is, from 1. Scope checkpoints that must not overlap by it.",
    "QUORATE_MEMBER": "Id of this start of this member: `<allocation>.<rank>.<incarnation>`.",
    "QUORATE_ROLE": "Role of this member, such as `main` or `sub`.",
    "QUORATE_INDEX": "Number of this member in its role, from 1.",
    "QUORATE_RANK": "Number of this member in the allocation, from 0.",
    "QUORATE_SIZE": "How many members the allocation has.",
    "QUORATE_HOST": "Name of this member, such as `main1`.",
    "QUORATE_HOSTS": "Names of all members in rank order, separated by commas.",
    "QUORATE_ADDRESS": "Address of this member.",
    "QUORATE_ADDRESSES": "Addresses of all members in rank order, separated by commas.",
    "QUORATE_REPLICAS": "Members of each role, such as `main:1,sub:3`.",
    "QUORATE_NETWORK": "How members reach each other: `bridge`, `overlay`, or `host` for the hosts' own network.",
    "QUORATE_SLOTS": "How many slots this member has.",
    "QUORATE_PORTS": "Ports that this member may listen on: `purpose:port`, separated by commas.",
    "BACKENDAI_CLUSTER_SIZE": "The same as QUORATE_SIZE.",
    "BACKENDAI_CLUSTER_HOSTS": "The same as QUORATE_HOSTS.",
    "BACKENDAI_CLUSTER_REPLICAS": "The same as QUORATE_REPLICAS.",
    "BACKENDAI_CLUSTER_HOST": "The same as QUORATE_HOST.",
    "BACKENDAI_CLUSTER_IDX": "The same as QUORATE_INDEX.",
    "BACKENDAI_CLUSTER_ROLE": "The same as QUORATE_ROLE.",
    "BACKENDAI_CLUSTER_LOCAL_RANK": "The same as QUORATE_RANK: in spite of its name it counts in the whole allocation.",
    "MASTER_ADDR": "Where the first member is: its name, or its address where names do not resolve. "
    "Only with several members.",
    "MASTER_PORT": f"Port of the first member for the framework's use: what the job sets as {DIST_MASTER_PORT}, else "
    "PyTorch's usual one, or a lease on the hosts' own network. Only with several members.",
    "TF_CONFIG": "TensorFlow's cluster of workers, one a member in rank order, at MASTER_PORT + rank. "
    "Only with several members and without a launcher.",
    "NODE_RANK": "The same as QUORATE_RANK, for scripts that know it by this name. Only with several members.",
    "NODE_COUNT": "The same as QUORATE_SIZE, for scripts that know it by this name. Only with several members.",
}

#: Derived once everything else is known, so that what a bootstrap script sets counts: bootstrap.py.
DISTRIBUTED = ("MASTER_ADDR", MASTER_PORT, "TF_CONFIG")


def derive(configuration: Configuration, environment: Mapping[str, str], launcher: str = "none") -> Dict[str, str]:
    """What to add to a member's environment; `environment` is what user and image have set: none of it is overridden.

    RANK, WORLD_SIZE and LOCAL_RANK never occur: they belong to each process, and a member may have several. Raises
    ConfigurationError where MASTER_PORT, as it was set, leaves no port for each rank.
    """
    added = _own(configuration, environment)
    if configuration.size > 1:
        added.update(_distributed(configuration, environment, launcher))
    return without_overriding(environment, added)


def without_overriding(environment: Mapping[str, str], added: Mapping[str, str]) -> Dict[str, str]:
    """Those of `added` that the environment does not have."""
    return {variable: value for variable, value in added.items() if variable not in environment}


def main_host(configuration: Configuration) -> str:
    """How the first member is reached."""
    return host_of(configuration, configuration.first)


def host_of(configuration: Configuration, member: Member) -> str:
    """How a member is reached: by name in a network of our own, by address on the hosts' network."""
    return member.address if configuration.network is Network.HOST else member.name


def chosen_port(environment: Mapping[str, str], ranks: int = 1) -> int | None:
    """The MASTER_PORT that user or image have chosen, if any, from which `ranks` ports follow one another.

    Raises ConfigurationError where they are none.
    """
    for variable in (MASTER_PORT, DIST_MASTER_PORT):
        text = environment.get(variable)
        if text is None:
            continue
        # isdecimal() alone would let the digits of other scripts through.
        if not (text.isascii() and text.isdecimal() and len(text) <= 5 and 1 <= int(text) <= _LAST_PORT):
            raise ConfigurationError(f"{variable}: {text[:40]!r} is no port; ports are 1 to {_LAST_PORT}")
        port = int(text)
        if port + ranks - 1 > _LAST_PORT:
            raise ConfigurationError(
                f"{variable}: {ranks} members need the ports {port} to {port + ranks - 1} for TF_CONFIG, one for each "
                f"rank, but ports end at {_LAST_PORT}; take {_LAST_PORT - ranks + 1} or lower"
            )
        return port
    return None


def ports_of(configuration: Configuration, environment: Mapping[str, str]) -> Dict[str, int]:
    """The ports of the configuration's own member, by purpose; the main one is where its MASTER_PORT says."""
    ports = dict(configuration.own.ports)
    chosen = chosen_port(environment) if configuration.size > 1 else None
    if chosen is not None and Purpose.MAIN in ports:
        ports[Purpose.MAIN] = chosen
    return ports


def _own(configuration: Configuration, environment: Mapping[str, str]) -> Dict[str, str]:
    own, members = configuration.own, configuration.members
    replicas = collections.Counter(member.role for member in members)
    variables = {
        "QUORATE_JOB": configuration.job,
        "QUORATE_ALLOCATION": configuration.allocation,
        "QUORATE_ATTEMPT": str(configuration.attempt),
        "QUORATE_MEMBER": configuration.member_id,
        "QUORATE_ROLE": own.role,
        "QUORATE_INDEX": str(own.index),
        "QUORATE_RANK": str(own.rank),
        "QUORATE_SIZE": str(configuration.size),
        "QUORATE_HOST": own.name,
        "QUORATE_HOSTS": ",".join(member.name for member in members),
        "QUORATE_ADDRESS": own.address,
        "QUORATE_ADDRESSES": ",".join(member.address for member in members),
        "QUORATE_REPLICAS": ",".join(f"{role}:{count}" for role, count in replicas.items()),
        "QUORATE_NETWORK": configuration.network.value,
        "QUORATE_SLOTS": str(len(own.slots)),
        "QUORATE_PORTS": ",".join(
            f"{purpose}:{port}" for purpose, port in sorted(ports_of(configuration, environment).items())
        ),
    }
    for backend_ai, quorate in _BACKEND_AI.items():
        variables[f"BACKENDAI_CLUSTER_{backend_ai}"] = variables[f"QUORATE_{quorate}"]
    return variables


#: Backend.AI docs, "Detection of clustered setups": each variable, and ours of the same meaning.
_BACKEND_AI = {
    "SIZE": "SIZE",
    "HOSTS": "HOSTS",
    "REPLICAS": "REPLICAS",
    "HOST": "HOST",
    "IDX": "INDEX",
    "ROLE": "ROLE",
    "LOCAL_RANK": "RANK",
}


def check_port(environment: Mapping[str, str], size: int, launcher: str) -> None:
    """Raises ConfigurationError where a member of so many could not be told its MASTER_PORT or TF_CONFIG."""
    if size > 1:
        chosen_port(environment, size if _is_ranked(environment, launcher) else 1)


def _is_ranked(environment: Mapping[str, str], launcher: str) -> bool:
    """Whether members need a port each, for TF_CONFIG: a framework's launcher has no use for it."""
    return launcher == "none" and "TF_CONFIG" not in environment


def _distributed(configuration: Configuration, environment: Mapping[str, str], launcher: str) -> Dict[str, str]:
    ranked = _is_ranked(environment, launcher)
    chosen = chosen_port(environment, configuration.size if ranked else 1)
    first = configuration.first.port(Purpose.MAIN) if chosen is None else chosen
    variables = {
        "MASTER_ADDR": main_host(configuration),
        MASTER_PORT: str(first),
        "NODE_RANK": str(configuration.rank),
        "NODE_COUNT": str(configuration.size),
    }
    if ranked:
        ports = [
            member.ports.get(Purpose.TENSORFLOW, first + member.rank) if chosen is None else first + member.rank
            for member in configuration.members
        ]
        # A lease that was not made for it may lie too high; nobody has asked for this variable then.
        if max(ports) <= _LAST_PORT:
            workers = [
                _with_port(host_of(configuration, member), ports[member.rank]) for member in configuration.members
            ]
            variables["TF_CONFIG"] = _tf_config(workers, configuration.rank)
    return variables


def _with_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _tf_config(workers: List[str], rank: int) -> str:
    return json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": rank}})
