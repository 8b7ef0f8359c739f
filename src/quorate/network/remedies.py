"""What lets one blocked flow pass, as a command for the firewall at hand."""

from __future__ import annotations

import json
from enum import StrEnum

from quorate.model.ports import PortRange

#: IANA's numbers, which OCI wants as text.
_NUMBERS = {"tcp": "6", "udp": "17"}


class Platform(StrEnum):
    """Where a machine's firewall is set."""

    NFTABLES = "nft"
    GCP = "gcp"
    AWS = "aws"
    OCI = "oci"
    KUBERNETES = "kubernetes"


def opening(
    platform: Platform, flow: str, transport: str, ports: PortRange, source: str, destination: str, *, v6: bool = False
) -> str:
    """Return the command that lets the flow pass from one address to another.

    The addresses go in as they are given, so they may be placeholders. What only the operator knows (a group, a
    network, a namespace) stands in capitals.
    """
    first, last = max(1, ports.first), ports.last
    source_host, destination_host = (f"{address}/{128 if v6 else 32}" for address in (source, destination))
    match platform:
        case Platform.NFTABLES:
            family = "ip6" if v6 else "ip"
            return (
                f"nft insert rule inet filter input {family} saddr {source} {transport} dport {ports} accept  "
                f"# on {destination}; in inet quorate_host inbound where the rules of Quorate are loaded"
            )
        case Platform.GCP:
            return (
                f"gcloud compute firewall-rules create quorate-{flow} --network=NETWORK --direction=INGRESS "
                f"--source-ranges={source_host} --destination-ranges={destination_host} --allow={transport}:{ports}"
            )
        case Platform.AWS:
            ranges, key = ("Ipv6Ranges", "CidrIpv6") if v6 else ("IpRanges", "CidrIp")
            permission = {
                "IpProtocol": transport,
                "FromPort": first,
                "ToPort": last,
                ranges: [{key: source_host, "Description": flow}],
            }
            return (
                f"aws ec2 authorize-security-group-ingress --group-id GROUP-OF-{destination} "
                f"--ip-permissions '{json.dumps([permission])}'"
            )
        case Platform.OCI:
            rule = {
                "direction": "INGRESS",
                "protocol": _NUMBERS[transport],
                "source": source_host,
                "sourceType": "CIDR_BLOCK",
                f"{transport}Options": {"destinationPortRange": {"min": first, "max": last}},
                "description": flow,
            }
            return f"oci network nsg rules add --nsg-id GROUP-OF-{destination} --security-rules '{json.dumps([rule])}'"
        case Platform.KUBERNETES:
            port = {"protocol": transport.upper(), "port": first}
            ends = {**port, "endPort": last} if last != first else port
            policy = {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "NetworkPolicy",
                "metadata": {"name": f"quorate-{flow}"},
                "spec": {
                    "podSelector": {},
                    "ingress": [{"from": [{"ipBlock": {"cidr": source_host}}], "ports": [ends]}],
                },
            }
            return f"kubectl apply -n NAMESPACE -f - <<< '{json.dumps(policy)}'"
