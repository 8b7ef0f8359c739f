"""Jobs that really hang, diagnosed: a rank that skips a collective, and a port that a firewall rejects."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.agent.checked import Fleet, fleet, own_network
from tests.agent.conftest import until

pytestmark = [pytest.mark.lab, pytest.mark.torch]

SKIPS = """
import time
import torch
import torch.distributed as dist
dist.init_process_group("gloo")
values = torch.ones(8)
dist.all_reduce(values)
print("met", flush=True)
if dist.get_rank() == 1:
    time.sleep(1000)
dist.all_reduce(values)
"""
SECRET = "hunter2-in-the-environment"


@contextmanager
def rejecting(port: int) -> Iterator[None]:
    """A firewall of this namespace that answers every connection to the port with a reset."""
    rules = f"""
    table inet rejecting {{
        chain input {{
            type filter hook input priority 0
            tcp dport {port} reject with tcp reset
        }}
    }}
    """
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)
    try:
        yield
    finally:
        subprocess.run(["nft", "delete", "table", "inet", "rejecting"], check=True)


def hanging(pair: Fleet, script: Path, **spec: Any) -> str:
    script.write_text(SKIPS)
    return pair.submit(
        sys.executable,
        str(script),
        launcher="torch",
        resources={"nodes": 2},
        environment={"API_KEY": SECRET},
        preflight="off",
        **spec,
    )


def until_met(pair: Fleet, job: str) -> None:
    until(lambda: pair.client.get(f"/api/v1/jobs/{job}/logs").text.count('"met"') == 2)


def test_a_rank_that_skips_a_collective_is_named_and_the_job_diagnosed_by_itself(tmp_path: Path) -> None:
    with own_network(tmp_path), fleet(tmp_path, "a", "b", stalled_s=1.0) as pair:
        job = hanging(pair, tmp_path / "train.py")
        until_met(pair, job)
        done = pair.quorate("job", "diagnose", job, "--json")
        found = json.loads(done.stdout)
        assert done.returncode == 1
        assert "rank 0 (main1) waits in all_reduce at train.py:11 for rank 1 (sub1)" in found["cause"]
        assert "at train.py:10" in found["cause"]
        assert [finding["code"] for finding in found["findings"]] == ["COLLECTIVE-MISSED"]
        main, sub = found["members"]
        assert {socket["flow"] for socket in main["sockets"]} >= {"torch-rendezvous", "rendezvous", "watch"}
        assert [s["peer"] for s in sub["sockets"] if s["remote_port"] == 29400] == ["main1", "main1"]
        assert all(one["outcome"] == "open" for one in found["tried"])
        assert main["device"] == "lo"
        assert SECRET not in done.stdout

        sentence = until(lambda: pair.job(job)["diagnosis"])
        kept = pair.quorate("job", "diagnose", job, "--kept", "--json")
        assert json.loads(kept.stdout)["cause"] == sentence
        shown = pair.quorate("job", "show", job).stdout
        assert f"quorate job diagnose {job} --kept" in shown
        until(lambda: "makes no progress" in pair.master.log.read_text())
        pair.cancel(job)
        assert "all_reduce" in pair.quorate("job", "diagnose", job, "--kept").stdout
        refused = pair.quorate("job", "diagnose", job)
        assert refused.returncode == 1
        assert "only members that run can be looked at" in refused.stderr


def test_a_port_that_a_firewall_rejects_is_named_with_its_flow_and_the_command_that_mends_it(tmp_path: Path) -> None:
    with own_network(tmp_path), fleet(tmp_path, "a", "b") as pair, rejecting(29400):
        job = hanging(pair, tmp_path / "train.py")

        def diagnosed() -> dict[str, Any] | None:
            answer = pair.client.post(f"/api/v1/jobs/{job}/diagnose")
            found: dict[str, Any] = answer.json()
            # Until torch listens there, the connection is refused with good reason.
            listens = answer.is_success and any(s["local_port"] == 29400 for s in found["members"][0]["sockets"])
            return found if listens else None

        found = until(diagnosed)
        assert "sub1 to main1 (127.0.0.11) on tcp 29400 (torch-rendezvous" in found["cause"]
        assert "although it listens there: a firewall rejects it" in found["cause"]
        assert found["findings"][0]["code"] == "NET-REFUSED"
        assert "ip saddr 127.0.0.12 tcp dport 29400 accept" in found["findings"][0]["remedy"]
        elsewhere = json.loads(pair.quorate("job", "diagnose", job, "--for", "aws", "--json").stdout)
        assert elsewhere["findings"][0]["remedy"].startswith("aws ec2 authorize-security-group-ingress")
        unknown = pair.quorate("job", "diagnose", job, "--for", "awss")
        assert unknown.returncode == 2
        assert "did you mean 'aws'" in unknown.stderr
        pair.cancel(job)
