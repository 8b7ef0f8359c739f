"""What the commands of `quorate net` read: `master.yaml`, plans, job files, rule dumps, and the live cluster."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn, get_args

from quorate.cli.errors import CommandError
from quorate.cli.exits import Exit
from quorate.model.clusterfile import ClusterFile, Launcher, PoolSection
from quorate.model.ports import InvalidPorts, PortRange
from quorate.model.yamlfile import FileProblems, did_you_mean, parse_yaml, validate
from quorate.network.budget import Shape
from quorate.network.clusterplan import plan_cluster
from quorate.network.noproxy import no_proxy
from quorate.network.overlaps import At, nowhere
from quorate.network.plan import Plan
from quorate.network.remedies import Platform
from quorate.network.settings import UNSERVED

SYSTEM_FILE = Path("/etc/quorate/master.yaml")
#: What is printed about firewalls of thousands of machines is a few MiB; more is a mistake.
MAX_DUMP_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Source:
    """A cluster as its file, or the defaults where there is none, and its plan."""

    file: ClusterFile
    plan: Plan
    #: Where the file was found; None where there is none.
    path: Path | None

    @property
    def no_proxy(self) -> str | None:
        """The value of NO_PROXY, where a proxy is used."""
        proxies = [settings.proxy for settings in map(self.file.settings, self.file.pools) if settings.proxy]
        return no_proxy(self.plan, extra=[name for proxy in proxies for name in proxy.no_proxy]) if proxies else None


def refuse(cause: str, hint: str = "", lines: tuple[str, ...] = ()) -> NoReturn:
    """End the command with exit code 2."""
    raise CommandError(cause, hint=hint, lines=lines, code=Exit.USAGE)


def read(path: Path, limit: int = MAX_DUMP_BYTES) -> str:
    """Return the text of a file, `-` for standard input; end the command with a sentence where that fails."""
    try:
        data = sys.stdin.buffer.read(limit + 1) if str(path) == "-" else path.read_bytes()
    except FileNotFoundError:
        names = sorted(each.name for each in path.parent.iterdir()) if path.parent.is_dir() else []
        refuse(f"there is no file {path}", did_you_mean(path.name, names) or "")
    except OSError as error:
        refuse(f"{path} cannot be read: {error.strerror}")
    if len(data) > limit:
        refuse(f"{path} is larger than {limit >> 20} MiB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        refuse(f"{path}: byte {error.start} is not UTF-8 text")


def cluster(
    path: Path | None, *, live: bool = False, master: str | None = None, token: str | None = None
) -> Source:  # fmt: skip
    """Return the cluster that a command speaks of; with no file at all it is one master and one default pool."""
    chosen = path or _found()
    file, at = _load(chosen, may_be_empty=live or path is None) if chosen else (ClusterFile(), nowhere)
    if live:
        from quorate.cli.netlive import live_cluster

        file = live_cluster(file, master, token)
    made = plan_cluster(file, unserved=UNSERVED if live else frozenset(), at=at)
    if chosen is None and not live:
        # A description of the ports: that no address is known then is no finding.
        known = tuple(finding for finding in made.findings if finding.code != "PLAN-UNRESOLVED")
        made = replace(made, findings=known)
    return Source(file, made, chosen)


def plan_file(path: Path) -> Plan:
    """Return the plan in a file: a `master.yaml`, or what `net plan --json` printed."""
    from quorate.network.planfile import read_plan

    try:
        return read_plan(read(path), str(path))
    except FileProblems as error:
        _refuse_file(path, error)


def job_plan(path: Path, source: Source) -> Plan:
    """Return the plan of a job before it is placed: with its members' names, and example addresses."""
    from quorate.cli.jobfile import load
    from quorate.network.examplejob import plan_of_spec
    from quorate.network.jobcheck import mistaken_master_port_of_job
    from quorate.network.jobplan import PortsPastTheEnd

    spec = load(path, {}).spec
    pool(source.file, spec.resources.pool)
    if mistake := mistaken_master_port_of_job(spec):
        refuse(f"{path}: {mistake}")
    try:
        return plan_of_spec(spec, source.file)
    except PortsPastTheEnd as error:
        refuse(f"{path}: {error}")


def pool(file: ClusterFile, name: str | None) -> PoolSection:
    """Return the pool of that name, or the first."""
    if name is None:
        return file.pools[0]
    for section in file.pools:
        if section.name == name:
            return section
    names = [section.name for section in file.pools]
    refuse(f"there is no pool {name!r}", did_you_mean(name, names) or f"pools: {', '.join(names)}")


def shape(launcher: str, nodes: int, ranks: int, groups: int, gpu: bool) -> Shape:
    """Return the shape that the options describe."""
    known = get_args(Launcher)
    if launcher not in known:
        refuse(f"there is no launcher {launcher!r}", did_you_mean(launcher, known) or f"launchers: {', '.join(known)}")
    return Shape(launcher, ranks, nodes, groups, gpu)


def platform(name: str) -> Platform:
    """Return the platform whose commands are wanted."""
    try:
        return Platform(name)
    except ValueError:
        known = [each.value for each in Platform]
        refuse(f"there is no platform {name!r}", did_you_mean(name, known) or f"platforms: {', '.join(known)}")


def port_range(text: str) -> PortRange:
    """Return the range that an option names."""
    try:
        return PortRange.parse(text)
    except InvalidPorts as error:
        refuse(str(error), "write a range as 40000-40999")


def _found() -> Path | None:
    named = os.environ.get("QUORATE_CONFIG")
    if named:
        return Path(named)
    return SYSTEM_FILE if SYSTEM_FILE.exists() else None


def _load(path: Path, *, may_be_empty: bool) -> tuple[ClusterFile, At]:
    try:
        document = parse_yaml(read(path), str(path))
        if not (document.data or may_be_empty):
            raise FileProblems([document.problem((), "the file is empty and describes no cluster")])
        return validate(document, ClusterFile), document.shown
    except FileProblems as error:
        _refuse_file(path, error)


def _refuse_file(path: Path, error: FileProblems) -> NoReturn:
    count = len(error.problems)
    cause = f"{path} has {count} mistakes" if count > 1 else f"{path} has a mistake"
    refuse(cause, lines=tuple(map(str, error.problems)))
