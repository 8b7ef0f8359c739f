"""What `quorate run --plan` shows: where the members would run, under which names and ports, with what environment."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from quorate.cli.output import bold, dim, table
from quorate.model.duration import format_duration
from quorate.model.job import JobSpec
from quorate.model.views import PlanView


def show_plan(spec: JobSpec, plan: PlanView, context: str) -> None:
    """Prints the plan for people."""
    print(bold(f"job {spec.name}: " + ("fits now" if plan.fits_now else f"would wait: {plan.waits_for}")))
    print(f"context: {context}")
    limits = {"max_runtime": spec.max_runtime, "start_timeout": spec.start_timeout, "grace": spec.grace}
    said = ", ".join(f"{name} {format_duration(value)}" for name, value in limits.items() if value is not None)
    print(f"restarts {spec.restarts}, priority {spec.priority}, {said}")
    for line in (*_images(spec), *_network(plan)):
        print(line)
    print()
    if plan.members:
        rows = [
            (
                member.name,
                str(member.rank),
                f"{member.agent} ({member.underlay})" if member.underlay else member.agent,
                member.address,
                ",".join(map(str, member.slots)) or "-",
                ", ".join(f"{purpose} {port}" for purpose, port in member.ports.items()) or "-",
            )
            for member in plan.members
        ]
        table(["MEMBER", ">RANK", "AGENT", "ADDRESS", "SLOTS", "PORTS"], rows)
    same = {k: v for k, v in plan.environment[0].items() if all(e.get(k) == v for e in plan.environment)} if (
        plan.environment
    ) else {}  # fmt: skip
    if same:
        print(bold("\nenvironment of every member"))
        _variables(same)
    for rank, environment in enumerate(plan.environment):
        own = {name: value for name, value in environment.items() if name not in same}
        name = plan.members[rank].name if rank < len(plan.members) else f"rank {rank}"
        if own:
            print(bold(f"\nonly of {name}"))
            _variables(own)
    names = {member.rank: member.name for member in plan.members}
    for rank, command in enumerate(plan.commands):
        name = names.get(rank, f"rank {rank}")
        if rank == 0:
            print(bold(f"\ncommand of {name}"))
            print(f"  {shlex.join(command) or 'that of its image; without one it waits'}")
        elif command != plan.commands[0]:
            print(f"  {dim(f'{name}:')} {_difference(plan.commands[0], command)}")
    print(dim("\nnothing was started"))


def _images(spec: JobSpec) -> Iterator[str]:
    """Which role runs what; nothing where all members are processes."""
    if not spec.images:
        return
    roles = dict.fromkeys(role for role, _ in spec.members())
    images = {role: spec.roles[role].image if role in spec.roles else None for role in roles}
    shown = {role: str(image or spec.image or "no image") for role, image in images.items()}
    if len(set(shown.values())) == 1:
        yield f"image: {next(iter(shown.values()))}"
    else:
        yield "images: " + ", ".join(f"{role} {image}" for role, image in shown.items())


def _network(plan: PlanView) -> Iterator[str]:
    """How members would be joined, why, and what the network would be."""
    network = plan.network
    if network is None:
        mode, _, because = plan.joined.partition(": ")
        if mode:
            yield f"network: that of the {mode}s, for {because}"
        return
    yield f"network: {network.mode}, for {network.because}"
    yield (
        f"         {network.subnet}, gateway {network.gateway}, VNI {network.vni}, MTU {network.mtu}; among members "
        f"{network.members}, {network.enforcement}; egress {network.egress}"
    )


def _difference(first: tuple[str, ...], other: tuple[str, ...]) -> str:
    """The words in which a command differs from the first one; all of it where they are not alike."""
    if len(first) != len(other):
        return shlex.join(other)
    return "the same, but " + shlex.join(word for word, same in zip(other, first, strict=True) if word != same)


def _variables(variables: dict[str, str]) -> None:
    for name, value in sorted(variables.items()):
        print(f"  {name}={value}")
