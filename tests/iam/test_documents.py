"""Everything that the vendors' pages ask for is in the output, or explained as wrong or unneeded."""

import re
from dataclasses import replace

import pytest

from quorate.iam.documents import GCP, OCI, PAGES, Documented, Fate
from quorate.iam.lint import lint_file
from quorate.iam.oci.generate import as_text, generate
from quorate.iam.oci.syntax import Statement, VerbGrant
from quorate.iam.pages import EXAMPLE_AWS, EXAMPLE_GCP, example_oci
from quorate.iam.policy import write
from quorate.iam.request import Audience, Part, Profile, Target

from .strictly import NotAccepted, parse

# The statements and rules of the page's code blocks and prose, in its order.
STATEMENTS_OF_THE_OCI_PAGE = """\
Allow group to manage repos in compartment
Allow group to read repos in compartment
Allow group to read repos in compartment where all { target.repo.name= }
Allow group to manage data-science-jobs in compartment
Allow group to manage data-science-job-runs in compartment
Allow group to use virtual-network-family in compartment
Allow group to manage log-groups in compartment
Allow group to use logging-family in compartment
Allow group to use read metrics in compartment
Allow dynamic-group to read repos in compartment
Allow dynamic-group to use data-science-family in compartment
Allow dynamic-group to use virtual-network-family in compartment
Allow dynamic-group to use log-groups in compartment
Allow dynamic-group to use logging-family in compartment
Allow group to manage objects in compartment your_compartment_name where all {target.bucket.name=}
Allow dynamic-group to manage objects in compartment your_compartment_name where all {target.bucket.name=}
Allow dynamic-group to manage buckets in compartment your_compartment_name where all {target.bucket.name=}
all { resource.type='datasciencejobrun', resource.compartment.id='' }
""".splitlines()


# What the page's prose asks for, by its words; the same page's "See also" links ask for nothing.
GRANTS_OF_THE_OCI_PAGES_PROSE = """\
manage repos
use repos
read repos
manage data-science-jobs
manage data-science-job-runs
use virtual-network-family
manage log-groups
use log-content
read metrics
manage objects
manage buckets
""".splitlines()

# What the page on dynamic agents asks for, by a word of each sentence that speaks of a right.
RIGHTS_OF_THE_GCP_PAGE = (
    "Compute Admin role",
    "Service Account User role",
    "Compute Network User role",
    "Compute Engine: Read Write",
    "cloud-platform",
    "associated with a service account",
    "Instance label",
    "boot_disk_source_image",
    "Attach an existing persistent disk",
    "external IP address",
    "Pull images from GCR",
)


def test_every_statement_of_the_page_is_in_the_table() -> None:
    assert {item.says for item in OCI} >= set(STATEMENTS_OF_THE_OCI_PAGE)


@pytest.mark.parametrize("grant", GRANTS_OF_THE_OCI_PAGES_PROSE)
def test_what_the_pages_prose_asks_for_is_written_as_documented_or_is_a_row_of_its_own(grant: str) -> None:
    asked = [
        as_text(generate(example_oci(audience, Target.DATA_SCIENCE, Profile.AS_DOCUMENTED)))
        for audience in (Audience.USER, Audience.JOB)
    ]
    assert any(f"to {grant} in" in text for text in asked) or any(item.says.startswith(grant) for item in OCI)


@pytest.mark.parametrize("right", RIGHTS_OF_THE_GCP_PAGE)
def test_every_right_of_the_gcp_page_is_a_row(right: str) -> None:
    assert len([item for item in GCP if right in item.says]) == 1


def test_the_gcp_table_has_no_row_that_the_page_does_not_ask_for() -> None:
    assert len(GCP) == len(RIGHTS_OF_THE_GCP_PAGE)


def written(item: Documented, profile: Profile) -> str:
    if item in OCI:
        request = example_oci(item.audience, Target.DATA_SCIENCE, profile)
        # A repository of one's own is pulled from by the right to push to it; without one, pulling is by itself.
        return as_text(generate(request)) + as_text(generate(replace(request, repo=None)))
    if item in GCP:
        shared = {"host_project": "host-project", "subnet": "net", "image_project": "images-project"}
        asked = replace(
            EXAMPLE_GCP, audience=item.audience, profile=profile, external_ip=True, data_disk=True, **shared
        )
        return write(asked, Part.NATIVE, as_json=False, bare=True)
    spot = profile is Profile.AS_DOCUMENTED
    return write(
        replace(EXAMPLE_AWS, audience=item.audience, profile=profile, spot=spot), Part.NATIVE, as_json=False, bare=True
    )


@pytest.mark.parametrize("item", [item for _, items in PAGES for item in items], ids=lambda item: item.says[:60])
def test_the_table_says_what_is_really_written(item: Documented) -> None:
    assert item.reason
    for profile, text in ((Profile.STRICT, item.strict), (Profile.AS_DOCUMENTED, item.documented)):
        if text is not None:
            assert text in written(item, profile)
    if item.fate in (Fate.KEPT, Fate.NARROWED, Fate.ADDED):
        assert item.strict is not None
    if item.fate is Fate.UNNEEDED and item.documented is not None:
        assert item.documented not in written(item, Profile.STRICT)


@pytest.mark.parametrize("item", [item for item in OCI if item.code], ids=lambda item: item.says[:60])
def test_the_linter_finds_what_is_wrong_with_the_text_of_the_page(item: Documented) -> None:
    assert item.code is not None
    assert item.code.name in {finding.code.name for finding in lint_file(item.says.encode())[1]}


@pytest.mark.parametrize("text", STATEMENTS_OF_THE_OCI_PAGE[:-1])
def test_no_statement_of_the_page_is_accepted_as_it_stands(text: str) -> None:
    with pytest.raises(NotAccepted):
        parse(text)


def test_narrower_means_narrower() -> None:
    """No verb of the strict profile is stronger than the page's for the same resource."""
    for item in OCI:
        found = re.fullmatch(r"(inspect|read|use|manage) ([a-z-]+)", item.strict or "")
        page = re.fullmatch(r"(inspect|read|use|manage) ([a-z-]+)", item.documented or "")
        if found and page and found[2] == page[2]:
            first, second = (parse(f"Allow group A to {text[0]} in tenancy") for text in (found, page))
            assert isinstance(first, Statement)
            assert isinstance(second, Statement)
            assert isinstance(first.grant, VerbGrant)
            assert isinstance(second.grant, VerbGrant)
            assert first.grant.verb.rank <= second.grant.verb.rank
