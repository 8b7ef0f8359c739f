"""What an audit of a cloud's rules says mends them, done to what its tool prints, leaves nothing to mend.

`done` does to a platform's text what its command would do there. It knows the commands that the audit prints and no
others, and fails for one that names what is not in the text.
"""

from __future__ import annotations

import copy
import json
import shlex
from typing import Any

import pytest

from quorate.model.clusterfile import ClusterFile
from quorate.network.audit import AuditReport, audit
from quorate.network.clusterplan import plan_cluster
from quorate.network.plan import Plan
from quorate.network.rules import render

GROUPS = {"master": "sg-0aaaaaaaaaaaaaaaa", "east": "sg-0bbbbbbbbbbbbbbbb", "west": "sg-0cccccccccccccccc"}


def plan(*, addresses: bool = True) -> Plan:
    def where(name: str, *networks: str) -> dict[str, Any]:
        placed = {"addresses": list(networks)} if addresses else {}
        return {"where": {"security_groups": [GROUPS[name]], "vpc": "vpc-1", "internet": "nat", **placed}}

    return plan_cluster(
        ClusterFile.model_validate(
            {
                "master": where("master", "10.0.0.2"),
                "users": {"where": {"addresses": ["192.0.2.0/24", "2001:db8:5::/48"]}},
                "operators": {"where": {"addresses": ["192.0.2.5"]}},
                "pools": [
                    {
                        "name": name,
                        **where(name, f"10.0.{index}.0/24"),
                        "network": {"modes": ["overlay", "host"], "launchers": ["torch"]},
                    }
                    for index, name in enumerate(("east", "west"), start=1)
                ],
                "outside": {"dns": ["10.0.0.53"], "ntp": ["10.0.0.53"], "registries": [{"addresses": ["10.0.9.9"]}]},
            }
        )
    )


def codes(report: AuditReport) -> set[tuple[str, str]]:
    return {(finding.code, finding.subject) for finding in report.findings}


def remedies(report: AuditReport) -> list[str]:
    return list(dict.fromkeys(part for finding in report.findings for part in finding.remedy.split("; ") if part))


Group = dict[str, Any]
_PEERS = {
    "IpRanges": "CidrIp",
    "Ipv6Ranges": "CidrIpv6",
    "UserIdGroupPairs": "GroupId",
    "PrefixListIds": "PrefixListId",
}


def aws() -> list[Group]:
    """The plan's own groups, as `describe-security-groups` lists them once they are there."""
    groups: list[Group] = json.loads(render(plan(), "aws").text)["SecurityGroups"]
    assert {group["GroupId"] for group in groups} == set(GROUPS.values())
    return groups


def done_to_aws(groups: list[Group], commands: list[str]) -> list[Group]:
    found = {group["GroupId"]: copy.deepcopy(group) for group in groups}
    for command in commands:
        words = shlex.split(command)
        assert words[:2] == ["aws", "ec2"], command
        verb, _, way = words[2].partition("-security-group-")
        assert words[3::2] == ["--group-id", "--ip-permissions"] and verb in ("authorize", "revoke"), command
        held = found[words[4]].setdefault("IpPermissions" if way == "ingress" else "IpPermissionsEgress", [])
        for permission in json.loads(words[6]):
            if verb == "authorize":
                held.append(permission)
            else:
                assert any(revoked(own, permission) for own in held), f"{permission} is not there"
    return list(found.values())


def revoked(own: Group, permission: Group) -> bool:
    """Take the peers of a permission out of one that is there, if it is of the same protocol and ports."""
    if any(own.get(key) != permission.get(key) for key in ("IpProtocol", "FromPort", "ToPort")):
        return False
    there = False
    for key, inner in _PEERS.items():
        gone = {peer[inner] for peer in permission.get(key, ())}
        left = [peer for peer in own.get(key, ()) if peer[inner] not in gone]
        there |= len(left) < len(own.get(key, ()))
        own[key] = left
    return there


def of(groups: list[Group], name: str) -> Group:
    return next(group for group in groups if group["GroupId"] == GROUPS[name])


def without(groups: list[Group], flow: str) -> list[Group]:
    left = copy.deepcopy(groups)
    for group in left:
        for key in ("IpPermissions", "IpPermissionsEgress"):
            group[key] = [permission for permission in group[key] if f"{flow}:" not in json.dumps(permission)]
    return left


def wider(groups: list[Group], name: str, *, key: str = "IpPermissions", **permission: Any) -> list[Group]:
    left = copy.deepcopy(groups)
    of(left, name)[key].append(permission)
    return left


SSH = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
SPOILT_AWS = {
    **{
        f"{flow} is missing": without(aws(), flow) for flow in ("vxlan", "agent-link-tls", "api-tls", "dns", "registry")
    },
    "SSH is open to all": wider(aws(), "east", **SSH),
    "SSH is open to all and to none by itself": wider(without(aws(), "admin-ssh-agent"), "east", **SSH),
    "everything is open to all": wider(
        aws(), "west", IpProtocol="-1", IpRanges=[{"CidrIp": "0.0.0.0/0"}], Ipv6Ranges=[{"CidrIpv6": "::/0"}]
    ),
    "everything may go out": wider(
        aws(), "west", key="IpPermissionsEgress", IpProtocol="-1", IpRanges=[{"CidrIp": "0.0.0.0/0"}]
    ),
    "pools reach each other": wider(aws(), "west", IpProtocol="-1", UserIdGroupPairs=[{"GroupId": GROUPS["east"]}]),
}


def audited_aws(groups: list[Group]) -> AuditReport:
    return audit(plan(), "aws", json.dumps({"SecurityGroups": groups}))


@pytest.mark.parametrize("groups", SPOILT_AWS.values(), ids=[name.replace(" ", "-") for name in SPOILT_AWS])
def test_security_groups_are_mended(groups: list[Group]) -> None:
    assert codes(audited_aws(aws())) == set()
    before = audited_aws(groups)
    assert codes(before), "there is something to mend"
    assert codes(audited_aws(done_to_aws(groups, remedies(before)))) == set()
