"""Measures the rules of a large cluster: `python bench/rules.py` prints a table and writes the figures.

A plan of a thousand agents, each an address of its own that touches no other, in overlay and host mode with the torch
launcher. Each format is rendered, and what was rendered is audited by the same plan; nftables is audited in the form in
which `nft -j list ruleset` prints it, where that tool and root are there. Bounds: a second to render, five to audit.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Any

import yaml
from harness import summary, write

from quorate.network.audit import audit
from quorate.network.flows import Role
from quorate.network.plan import Plan
from quorate.network.planfile import read_plan
from quorate.network.rules import FORMATS, render

READ_AS = {
    "nftables": "nftables",
    "iptables": "iptables",
    "gcp": "gcp",
    "aws": "aws",
    "oci-nsg": "oci",
    "oci-security-list": "oci",
    "kubernetes": "kubernetes",
}


def plan_of(agents: int) -> Plan:
    """A cluster of one pool, whose agents' addresses cannot be joined to larger networks."""
    first = int(IPv4Address("10.0.1.0"))
    where = {"addresses": [str(IPv4Address(first + 2 * number)) for number in range(agents)]}
    cluster = {
        "name": "large",
        "master": {"where": {"addresses": ["10.200.0.5"], "tags": ["master"], "labels": {"app": "master"}}},
        "users": {"where": {"addresses": ["192.168.0.0/16"]}},
        "outside": {
            "registries": [{"hosts": ["registry.example.org"], "addresses": ["203.0.113.7"]}],
            "dns": ["10.200.0.2"],
            "ntp": ["10.200.0.3"],
        },
        "network": {"modes": ["host", "overlay"], "launchers": ["torch"]},
        "pools": [{"name": "gpu", "where": {**where, "tags": ["agent"], "labels": {"app": "agent"}}}],
    }
    return read_plan(yaml.safe_dump(cluster), "master.yaml")


def listed(form: str, text: str) -> str | None:
    """What the platform's own tool prints of rules; None where it cannot be asked."""
    if form != "nftables":
        return text
    if not shutil.which("nft"):
        return None
    script = ["unshare", "-n", "sh", "-c", "nft -f - && nft -j list ruleset"]
    done = subprocess.run(script, input=text, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else None


def timed(action: Callable[[], object]) -> float:
    """CPU milliseconds of one call: one thread that waits for nothing, whatever else the machine does."""
    start = time.process_time()
    action()
    return (time.process_time() - start) * 1000


def main() -> None:
    """Render and audit each format several times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=7)
    chosen = parser.parse_args()
    plan = plan_of(chosen.agents)
    series: dict[str, dict[str, Any]] = {}
    late: list[str] = []
    for form, about in FORMATS.items():
        role = Role.AGENT if about.needs_role else None
        text = render(plan, form, role).text
        rendering = summary([timed(lambda form=form, role=role: render(plan, form, role)) for _ in range(chosen.runs)])
        row = {"bytes": len(text), "render_ms": rendering}
        there = listed(form, text) if form in READ_AS else None
        if there is not None:
            read_as = READ_AS[form]
            row["rules"] = audit(plan, read_as, there, role).rules
            row["audit_ms"] = summary(
                [
                    timed(lambda form=read_as, text=there, role=role: audit(plan, form, text, role))
                    for _ in range(chosen.runs)
                ]
            )
            late += [f"{form} audits in {row['audit_ms']['median']} ms"] * (row["audit_ms"]["median"] > 5000)
        late += [f"{form} renders in {rendering['median']} ms"] * (rendering["median"] > 1000)
        series[form] = row
        audited = f"{row['audit_ms']['median']:9.1f} ms" if "audit_ms" in row else "          –"
        print(f"{form:18} {len(text):>10,} bytes   render {rendering['median']:8.1f} ms   audit {audited}")
    how = f"CPU milliseconds of {chosen.runs} calls in a warm process, for {chosen.agents} agents with a /32 each"
    write("rules", series, how=how)
    if late:
        sys.exit("\n".join(late))


if __name__ == "__main__":
    main()
