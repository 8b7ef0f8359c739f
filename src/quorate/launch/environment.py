"""The variables that tell a member who it is and where the others are. Pure; what the user set is never overridden."""

from __future__ import annotations

import collections
from typing import Dict, Mapping

from quorate.launch.config import Configuration, Network, Purpose

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
    "QUORATE_SLOTS": "How many slots this member has.",
    "QUORATE_PORTS": "Ports that this member may listen on: `purpose:port`, separated by commas.",
    "MASTER_ADDR": "Where the first member is: its name, or its address where names do not resolve. "
    "Only with several members.",
    "MASTER_PORT": "Port of the first member for the framework's use. Only with several members.",
    "NODE_RANK": "The same as QUORATE_RANK, for scripts that know it by this name. Only with several members.",
    "NODE_COUNT": "The same as QUORATE_SIZE, for scripts that know it by this name. Only with several members.",
}


def derive(configuration: Configuration, environment: Mapping[str, str]) -> Dict[str, str]:
    """What to add to a member's environment; `environment` is what the user has set, and none of it is overridden.

    RANK, WORLD_SIZE and LOCAL_RANK never occur: they belong to each process, and a member may have several.
    """
    return without_overriding(environment, _of(configuration))


def without_overriding(environment: Mapping[str, str], added: Mapping[str, str]) -> Dict[str, str]:
    """Those of `added` that the environment does not have."""
    return {variable: value for variable, value in added.items() if variable not in environment}


def main_host(configuration: Configuration) -> str:
    """How the first member is reached: by name in a network of our own, by address on the hosts' network."""
    first = configuration.first
    return first.address if configuration.network is Network.HOST else first.name


def _of(configuration: Configuration) -> Dict[str, str]:
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
        "QUORATE_SLOTS": str(len(own.slots)),
        "QUORATE_PORTS": ",".join(f"{purpose}:{port}" for purpose, port in sorted(own.ports.items())),
    }
    if configuration.size > 1:
        variables["MASTER_ADDR"] = main_host(configuration)
        if Purpose.MAIN in configuration.first.ports:
            variables["MASTER_PORT"] = str(configuration.first.port(Purpose.MAIN))
        variables["NODE_RANK"] = str(configuration.rank)
        variables["NODE_COUNT"] = str(configuration.size)
    return variables
