"""What the vendors' documents ask of a firewall, statement by statement, and what Quorate makes of each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from quorate.network.catalogue import (
    ADS,
    BACKENDAI,
    DETERMINED_FIREWALL,
    DETERMINED_GCP,
    DETERMINED_NETWORK,
)


class Outcome(StrEnum):
    """What becomes of a statement."""

    KEPT = "kept"
    NARROWED = "narrowed"
    UNNEEDED = "unneeded"
    CORRECTED = "corrected"
    ADDED = "added"


@dataclass(frozen=True, slots=True)
class Statement:
    """One requirement of a document and its answer."""

    document: str
    asks: str
    outcome: Outcome
    answer: str
    #: The flows that carry it, where any do.
    flows: tuple[str, ...] = ()


_K, _N, _U, _C, _A = Outcome.KEPT, Outcome.NARROWED, Outcome.UNNEEDED, Outcome.CORRECTED, Outcome.ADDED
_D, _DN, _G = DETERMINED_FIREWALL, DETERMINED_NETWORK, DETERMINED_GCP

STATEMENTS = (
    Statement(_D, "Inbound TCP to the master from agents and users' machines: 8443 with TLS, 8080 without", _K,
              "The same ports. TLS is the default wherever the master listens beyond loopback.",
              ("api", "api-tls", "agent-link", "agent-link-tls")),
    Statement(_D, "Outbound TCP from the master to all ports on the agents", _U,
              "Agents dial the master, never the other way round; proxied apps come back through connections that the "
              "agent opened. An agent needs no inbound rule from the master."),
    Statement(_D, "Inbound TCP from all ports on the master to all ports on the agent", _U,
              "As above. Opening all ports would let whoever holds the master reach every service of every agent."),
    Statement(_D, "Outbound TCP from all ports on the agent to the master's network port", _K,
              "Kept: source ports are ephemeral, so a rule names none.", ("agent-link", "agent-link-tls")),
    Statement(_D, "Outbound TCP to the services that host images, packages, data and other resources", _N,
              "Named services and addresses, or one proxy, instead of everything outside.",
              ("registry", "packages", "store", "agent-cloud-api", "proxy")),
    Statement(_D, "Inbound and outbound TCP on all ports between agents", _U,
              "Members have networks of their own: between agents passes VXLAN on one UDP port, and inside it the "
              "flows of the job alone. In `host` mode the frameworks' ports are opened, each by its name.", ("vxlan",)),
    Statement(_D, "1734 and 1750 between trial containers: synchronization", _K,
              "Rendezvous with preflight, and the watch through which one member's failure reaches the others.",
              ("rendezvous", "watch")),
    Statement(_D, "12350 between trial containers: SSH", _K, "Kept, with keys and host keys of the allocation's own.",
              ("ssh",)),
    Statement(_D, "29500 with DeepSpeedTrial: rendezvous", _K, "Kept.", ("deepspeed-rendezvous",)),
    Statement(_D, "29400 with PyTorchTrial and the torch backend: rendezvous", _K, "Kept.", ("torch-rendezvous",)),
    Statement(_D, "12355 for all other distributed modes: Gloo rendezvous", _N,
              "Only for launchers that have no rendezvous port of their own.", ("gloo-rendezvous",)),
    Statement(_D, "Ephemeral ports 1024-65536 for Gloo", _C,
              "65536 is not a port. Gloo takes what the kernel gives for port 0: 32768-60999 unless the window is set.",
              ("gloo",)),
    Statement(_D, "One ephemeral port in 1024-65536 for every GPU, for NCCL", _C,
              "As for Gloo; and NCCL takes more than one: its budget stands below.", ("nccl",)),
    Statement(_D, "Two more ephemeral ports in 1024-65536 between trial containers", _C,
              "They are fixed: 12360 and 12365, the control ports of the training SDK.", ("control-1", "control-2")),
    Statement(_D, "2600-2899 for TensorBoards, 2900-3199 for notebooks, 3200-3599 for shells", _N,
              "Inside the sandbox, from the companion to the app; no firewall of a machine sees them.",
              ("tensorboard", "notebook", "shell")),
    Statement(_DN, "2600-2900 for TensorBoards", _C,
              "2900 is the first notebook's port; the later page's 2600-2899 is used.", ("tensorboard",)),
    Statement(_DN, "Master and agents in the same physical network or VPC", _K,
              "Two networks are the finding `NET-SPLIT`, and `quorate net check` measures the way between them."),
    Statement(_DN, "Agents need Docker Hub, and where workloads need the Internet, a way there or a proxy", _K,
              "Docker Hub is the default registry; `network.proxy` takes the place of every outside flow; no way out "
              "is the finding `NO-INTERNET`.", ("registry", "proxy")),
    Statement(_DN, "On GCP an external IP address or Cloud NAT", _K,
              "`where.internet` says which; NAT is advised, for an external address puts agents one rule away from the "
              "Internet."),
    Statement(_DN, "On AWS a public IP address and an Internet gateway", _N,
              "A NAT gateway in a public subnet does the same with no public address on an agent."),
    Statement(_G, "\"Allow HTTP traffic\" ticked for the master's machine, which opens tcp/80 to everybody", _U,
              "Nothing of ours listens on 80, so no inbound rule opens it: the master's own ports are opened, to users "
              "and agents alone."),
    Statement(_G, "`gloo_port_range` and `nccl_port_range` configure the ranges", _C,
              "In Determined they do nothing since 2022 (commit 3016fc1038). Here they set the kernel's range in the "
              "member's own network namespace, their hull; ranges that do not touch are an error.", ("gloo", "nccl")),
    Statement(ADS, "A private subnet, and a security list that opens specific ports between nodes", _K,
              "`quorate net rules --for oci-security-list` and `oci-nsg` write them; groups are narrower."),
    Statement(ADS, "Dask: 8786 scheduler, 8787 dashboard", _K, "Kept.", ("dask-scheduler", "dask-dashboard")),
    Statement(ADS, "Dask: workers and nannies on random ports, or on ranges given by an option", _N,
              "Always on ranges: 8700-8800 and 3000-3100, which whoever starts Dask in a job gives to it.",
              ("dask-worker", "dask-nanny")),
    Statement(ADS, "PyTorch uses 29400", _C,
              "Only its rendezvous does; Gloo and NCCL need the window besides.", ("torch-rendezvous", "gloo", "nccl")),
    Statement(ADS, "Horovod: all TCP ports within the subnet", _N,
              "All ports above 1023 between its members, for it binds any; in a network of its own nothing else is "
              "exposed by that, and `network.horovod_port_range` narrows it in `host` mode.", ("horovod",)),
    Statement(ADS, "TensorFlow: one worker port, 12345 by default, from all source ports", _K, "Kept.",
              ("tensorflow",)),
    Statement(BACKENDAI, "A private bridge on one agent, a private overlay across agents, open inside", _K,
              "`auto` chooses the same; `members: open` is the default for clusters and free-form jobs.",
              ("open", "open-udp", "vxlan")),
    Statement(BACKENDAI, "MASTER_PORT is 29500, or BACKENDAI_DIST_MASTER_PORT", _K, "Kept.", ("master-port",)),
    Statement(BACKENDAI, "TF_CONFIG gives each worker the base port plus its rank", _C,
              "The base follows a user's MASTER_PORT, and a rank past port 65535 is refused at submit.",
              ("tf-config",)),
    Statement(BACKENDAI, "SSH between containers without prompts", _K,
              "On 12350; host keys are made for the allocation, so strict checking stays on.", ("ssh",)),
    Statement(BACKENDAI, "The overlay is auto-configured; its ports are not stated", _A,
              "4789/udp between agents, which that system's Docker Swarm needs too, with 2377 and 7946 besides.",
              ("vxlan",)),
    Statement(BACKENDAI, "User to agent and user to container must be blocked", _K,
              "Forbidden flows: rules never open them, audits look for them (`NET-EXPOSED`, `AGENT-PUBLIC`).",
              ("user-to-agent", "user-to-member", "anyone-to-agent", "anyone-to-member")),
    Statement(BACKENDAI, "Interactive apps are reached through a proxy that authenticates", _K,
              "The master's, on an origin of its own.", ("apps", "apps-tls")),
    Statement(BACKENDAI, "Agents in a private network without public addresses; checklists in a security guide", _A,
              "That guide has none; `docs/security.md` has them."),
)  # fmt: skip
