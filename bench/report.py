"""docs/benchmarks.md out of bench/results: `page` for docs/generate.py. Not a benchmark."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"

INTRODUCTION = """<!-- Made by docs/generate.py from bench/results; do not edit. -->

# Benchmarks

Every figure is the median with its 95 % interval, taken by the command beside it, which writes the file of the same
name in `bench/results`: there stand the machine, the commit and how it was taken. Sides that are compared run on the
same machine in turn, so that a busy moment is busy for both. `make bench` takes them all.
"""


@dataclass(frozen=True)
class Row:
    """One line: `figure` and `peer` find a text in the result of `name`; what to reach is given in words."""

    what: str
    reach: str
    name: str
    figure: Callable[[Any], str]
    peer: Callable[[Any], str] | None = None


def _within(interval: list[float] | None, digits: int, factor: int = 1) -> str:
    """In brackets; where too few runs were taken for an interval, that."""
    if interval is None:
        return "(too few runs for an interval)"
    low, high = (factor * end for end in interval)
    return f"({low:,.{digits}f} to {high:,.{digits}f})"


def median(key: str, unit: str, digits: int = 0) -> Callable[[Any], str]:
    """A summary of harness.py among the figures."""

    def text(result: Any) -> str:
        found = result["figures"].get(key)
        if found is None:
            return "not taken yet"
        return f"{found['median']:,.{digits}f}{f' {unit}' if unit else ''} {_within(found['interval95'], digits)}"

    return text


def peer(name: str, key: str, unit: str, digits: int = 0) -> Callable[[Any], str]:
    """A peer's summary; empty where it was not installed."""
    return lambda result: f"{name}: {median(key, unit, digits)(result)}" if key in result["figures"] else ""


def pass_ms(series: str, agents: int) -> Callable[[Any], str]:
    """A scheduling pass."""

    def text(result: Any) -> str:
        row = next(row for row in result["series"][series] if row["agents"] == agents)
        return f"{row['median_ms']:.0f} ms {_within(row['interval_95_ms'], 0)}"

    return text


def of_preflight(size: int, key: str, digits: int = 0) -> Callable[[Any], str]:
    """Milliseconds of an allocation of that size."""

    def text(result: Any) -> str:
        found = result["figures"]["by_members"][str(size)][key]
        return f"{1000 * found['median']:,.{digits}f} ms {_within(found['interval95'], digits, 1000)}"

    return text


def slowest_of_rules(key: str) -> Callable[[Any], str]:
    """CPU milliseconds of the slowest format of firewall rules."""

    def text(result: Any) -> str:
        slowest = max((name for name, found in result["figures"].items() if key in found),
                      key=lambda name: float(result["figures"][name][key]["median"]))  # fmt: skip
        found = result["figures"][slowest][key]
        return f"{found['median']:,.0f} ms {_within(found['interval95'], 0)}: {slowest}"

    return text


HALF_FULL = "half-full, 10,000 queued"
ROWS = (
    Row(
        "From submit until both members have run `true` and the job is done, two agents, through the API",
        "under 100 ms, and Slurm's `srun -N2`",
        "launch_latency",
        median("quorate_2_members_ms", "ms"),
        peer("`srun -N2`", "srun_2_nodes_ms", "ms"),
    ),
    Row(
        "The same with one member",
        "",
        "launch_latency",
        median("quorate_1_member_ms", "ms"),
        peer("`srun -N1`", "srun_1_node_ms", "ms"),
    ),
    Row(
        "200 one-member jobs drained, two agents, logs and durable exit codes",
        "above 60 jobs/s and above Slurm",
        "drain",
        median("quorate_jobs_per_s", "jobs/s"),
        peer("`sbatch`", "slurm_jobs_per_s", "jobs/s"),
    ),
    Row("One scheduling pass: 1,000 agents of 8 slots, half full, 10,000 jobs queued", "under 100 ms",
        "scheduling_pass", pass_ms(HALF_FULL, 1000)),
    Row("The same with 10,000 agents", "no upward bend", "scheduling_pass", pass_ms(HALF_FULL, 10_000)),
    Row("5,000 agents on one master: its share of a core", "under 50 %", "agents",
        median("master_cpu_percent_of_one_core", "%", 1)),
    Row("The same: memory of the master for each agent", "", "agents",
        lambda result: f"{result['figures']['memory_per_agent_kib']:.0f} KiB"),
    Row("The same: all back after the master was killed and started", "within 30 s", "agents",
        median("all_back_s_after_the_kill", "s", 1)),
    Row("Log lines into one master from four agents, synced, read back and compared", "above 50,000/s", "logs",
        median("master_lines_per_s", "lines/s")),
    Row("Log lines to one reader", "", "logs", median("read_lines_per_s", "lines/s")),
    Row("Log lines from two members that print to a reader who follows", "above 50,000/s", "logs",
        median("whole_lines_per_s", "lines/s")),
    Row("A member's line at who follows it with `quorate job logs -f`", "", "follow_latency",
        median("command_median_ms", "ms", 1), peer("over the API", "api_median_ms", "ms", 1)),
    Row("The same: 95 of 100 lines are there within", "", "follow_latency",
        median("command_95_ms", "ms", 1), peer("over the API", "api_95_ms", "ms", 1)),
    Row("The same: the slowest line of all", "under 300 ms", "follow_latency",
        lambda result: f"{result['figures']['command_max_ms']:.0f} ms",
        lambda result: f"over the API: {result['figures']['api_max_ms']:.0f} ms"),
    Row("The same after a second of silence", "", "follow_latency",
        median("command_after_1s_median_ms", "ms", 1), peer("over the API", "api_after_1s_median_ms", "ms", 1)),
    Row("`quorate --help`", "under 150 ms", "cli_startup", median("help_ms", "ms"),
        peer("bare python", "python_ms", "ms")),
    Row("`quorate job list` against a local master", "under 300 ms", "cli_startup", median("job_list_ms", "ms")),
    Row("DDP: steps/s under Quorate over steps/s under bare torchrun", "above 0.98", "ddp", median("ratio", "", 3),
        peer("torchrun", "torchrun_steps_per_s", "steps/s")),
    Row("What the preflight adds to the start of 2 members, all of them on this machine", "", "preflight",
        of_preflight(2, "added_s")),
    Row("The same of 8 members", "under 500 ms", "preflight", of_preflight(8, "added_s"),
        lambda result: f"one member's CPU: {of_preflight(8, 'cpu_of_one_member_s')(result)}"),
    *(
        Row(f"The same of {size} members, three of them real and the rest answering only", "", "preflight",
            of_preflight(size, "added_s"))
        for size in (64, 128, 256)
    ),
    Row("Firewall rules for 1,000 agents written, in the slowest of all formats", "under 1 s", "rules",
        slowest_of_rules("render_ms")),
    Row("The same audited", "under 5 s", "rules", slowest_of_rules("audit_ms")),
    Row("Members of a gang of 16 on one agent started, as processes on the host's network", "", "members",
        median("processes_per_s", "/s", 1)),
    Row("The same, each in a sandbox of its own", "", "members", median("sandboxed_per_s", "/s", 1)),
    Row("The same, in containers of Docker's", "", "members", median("containers_per_s", "/s", 1),
        peer("`docker run`", "docker_run_per_s", "/s", 1)),
    Row("A member's sandbox with its rules made, 16 on one host", "", "sandbox",
        median("bridge_member_made_ms", "ms", 1),
        lambda result: f"removed: {median('bridge_member_removed_ms', 'ms', 1)(result)}"),
    Row("The same typed: `ip netns`, `ip link`, `nft -f`", "", "sandbox", median("by_hand_member_made_ms", "ms", 1),
        lambda result: f"removed: {median('by_hand_member_removed_ms', 'ms', 1)(result)}"),
    Row("The same as the first over two hosts, with their overlay", "", "sandbox",
        median("overlay_member_made_ms", "ms", 1),
        lambda result: f"removed: {median('overlay_member_removed_ms', 'ms', 1)(result)}"),
    Row("Throughput between sandboxes over that of a VXLAN made by hand", "above 0.9", "sandbox",
        median("gbit_s_to_vxlan_by_hand", "", 3), peer("overlay", "overlay_gbit_s", "Gbit/s", 1)),
    Row("The same over that of the bare link", "", "sandbox",
        median("gbit_s_to_bare_link", "", 3), peer("bare link", "bare_link_gbit_s", "Gbit/s", 1)),
    Row("Throughput with a plan's rules over that without any", "above 0.95", "sandbox",
        median("gbit_s_to_without_rules", "", 3), peer("without", "without_rules_gbit_s", "Gbit/s", 1)),
    Row("Round trips with a plan's rules over those without any", "above 0.95", "sandbox",
        median("round_trips_per_s_to_without_rules", "", 3), peer("without", "without_rules_round_trips_per_s", "/s")),
    Row("The rules of a member in a gang of 10,000, written and loaded", "near nft alone", "sandbox",
        median("rules_loaded_ms", "ms"), peer("`nft -f`", "nft_alone_ms", "ms")),
)  # fmt: skip


def page() -> str:
    """The page; a benchmark without a result has no row."""
    lines = [INTRODUCTION, "| what | reach | figure | beside it | command |", "|---|---|---|---|---|"]
    for row in ROWS:
        path = RESULTS / f"{row.name}.json"
        if path.exists():
            result = json.loads(path.read_text())
            beside = row.peer(result) if row.peer else ""
            figure = row.figure(result)
            lines.append(f"| {row.what} | {row.reach} | {figure} | {beside} | `python bench/{row.name}.py` |")
    return "\n".join(lines) + "\n"
