"""What stands in `where` goes into rules as it is, so it must be what the platform takes for such a name."""

from __future__ import annotations

import pytest

from quorate.model.clusterfile import load_cluster_file
from quorate.model.yamlfile import FileProblems

LONG = "a" * 64
NSG = "ocid1.networksecuritygroup.oc1"


def wrong(where: str) -> str:
    with pytest.raises(FileProblems) as raised:
        load_cluster_file(f"pools:\n- name: gpu\n  where: {{{where}}}\n", "master.yaml")
    return str(raised.value)


@pytest.mark.parametrize("group", ["nope", "sg-1", "sg-0A0A0A0A", "sg-0123456789abcdef01", "ocid1.vcn.oc1.iad.a", NSG])
def test_a_security_group_is_an_id_of_amazon_or_an_ocid(group: str) -> None:
    told = wrong(f"security_groups: [sg-0a0a0a0a, {group!r}]")
    assert told.startswith("master.yaml:3:") and "pools[0].where.security_groups[1]" in told
    assert repr(group) in told and "sg-" in told and "ocid1.networksecuritygroup." in told


@pytest.mark.parametrize("tag", ["Bad_Tag", "1st", "ends-", "", LONG])
def test_a_tag_is_one_of_google(tag: str) -> None:
    told = wrong(f"tags: [{tag!r}]")
    assert told.startswith("master.yaml:3:") and "63" in told and "lower case" in told


@pytest.mark.parametrize(
    "label", ["'b c': d", "b: 'c d'", "'/b': c", "'Ex.io/b': c", "b: -c", f"{LONG}: c", f"b: {LONG}"]
)
def test_a_label_is_one_of_kubernetes(label: str) -> None:
    told = wrong(f"labels: {{{label}}}")
    assert told.startswith("master.yaml:3:") and "pools[0].where.labels" in told and "63" in told


@pytest.mark.parametrize("namespace", ["bad ns", "Upper", "a.b", "-a", "", LONG])
def test_a_namespace_is_one_of_kubernetes(namespace: str) -> None:
    told = wrong(f"namespace: {namespace!r}")
    assert told.startswith("master.yaml:3:") and "pools[0].where.namespace" in told and "63" in told


@pytest.mark.parametrize(
    "where",
    [
        "security_groups: [sg-0a0a0a0a, sg-0123456789abcdef0]",
        f"security_groups: [{NSG}.iad.aaaaaaaa2x, {NSG}.eu-frankfurt-1.m, {NSG}..x, {NSG}.iad.future.x]",
        f"tags: [a, quorate-agent, {'a' * 63}]",
        f"labels: {{app: gpu, app.kubernetes.io/name: Quo_ra.te, empty: '', A_b.c: '1', {'a' * 63}: {'b' * 63}}}",
        f"namespace: {'a' * 63}",
        "namespace: 1st",
    ],
)
def test_what_a_platform_takes_is_taken(where: str) -> None:
    load_cluster_file(f"pools:\n- name: gpu\n  where: {{{where}}}\n", "master.yaml")
