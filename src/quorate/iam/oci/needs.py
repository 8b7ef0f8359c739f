"""What each audience has to do in OCI, as grants with their reasons; the generator only puts names to them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from quorate.iam.explained import Reasons
from quorate.iam.oci.lint_statement import CHECKPOINT_PERMISSIONS, PUSH_PERMISSIONS
from quorate.iam.oci.request import OciRequest, of_kind
from quorate.iam.oci.syntax import Grant, PermissionGrant, Principal, Subject, SubjectKind, Verb, VerbGrant
from quorate.iam.oci.vocabulary import CORE, DATA_SCIENCE, LOGGING, MONITORING, OBJECT_STORAGE, REGISTRY
from quorate.iam.request import Audience, Profile, Target

ADS_PAGE = "ADS docs, distributed training, Configurations page"
RUN_CREATE_PAGE = "https://docs.oracle.com/en-us/iaas/Content/data-science/using/scheduler-policies.htm"
DYNAMIC_PAGE = (
    "https://docs.oracle.com/en-us/iaas/Content/Identity/callresources/Writing_Policies_for_Dynamic_Groups.htm"
)


class Place(StrEnum):
    """Where a need is met: in the compartment, in the network's own, or nowhere less than the tenancy."""

    HERE = "compartment"
    NETWORK = "network"
    TENANCY = "tenancy"


@dataclass(frozen=True, slots=True)
class Need:
    """One thing that has to be possible. `conditions` must all hold; `subject` where it is not the request's own."""

    id: str
    grant: Grant
    reasons: Reasons
    place: Place = Place.HERE
    conditions: tuple[tuple[str, str], ...] = ()
    subject: Subject | None = None


def needs(request: OciRequest) -> Iterator[Need]:
    """What the audience of the request needs, in a fixed order."""
    match request.target, request.audience:
        case Target.DATA_SCIENCE, Audience.USER:
            yield from _starting_jobs(request)
        case Target.DATA_SCIENCE, _:
            yield from _job_runs(request)
        case _, Audience.MASTER:
            yield from _master(request)
        case _, Audience.AGENT:
            yield from _agent(request)
        case _:
            yield from _results(request)


def _on(verb: Verb, resource: str) -> VerbGrant:
    return VerbGrant(verb, resource)


def _in_bucket(request: OciRequest) -> tuple[tuple[str, str], ...]:
    return (("target.bucket.name", request.needs_bucket()),)


def _in_repo(request: OciRequest) -> tuple[tuple[str, str], ...]:
    return (("target.repo.name", request.repo),) if request.repo else ()


def _pull(request: OciRequest, whose: str) -> Need:
    return Need(
        "repos-pull",
        _on(Verb.READ, "repos"),
        Reasons("Pulls the job's image.", f"{whose} cannot pull the image.", REGISTRY),
        conditions=_in_repo(request),
    )


def _push(request: OciRequest) -> Iterator[Need]:
    if request.profile is Profile.AS_DOCUMENTED:
        yield Need(
            "repos-push",
            _on(Verb.MANAGE, "repos"),
            Reasons("Pushes the job's image.", "`docker push` is refused.", ADS_PAGE),
            conditions=_in_repo(request),
        )
    elif request.repo:
        yield Need(
            "repos-push",
            PermissionGrant(PUSH_PERMISSIONS),
            Reasons("Pushes the job's image; may not delete one.", "`docker push` is refused.", REGISTRY),
            conditions=_in_repo(request),
        )


def _objects(request: OciRequest, why: str, without: str) -> Need:
    if request.profile is Profile.AS_DOCUMENTED:
        grant: Grant = _on(Verb.MANAGE, "objects")
        source = ADS_PAGE
    else:
        grant = PermissionGrant(CHECKPOINT_PERMISSIONS + (("OBJECT_DELETE",) if request.may_delete else ()))
        source = OBJECT_STORAGE
    return Need("objects", grant, Reasons(why, without, source), conditions=_in_bucket(request))


def _log_content(request: OciRequest, why: str, without: str) -> Need:
    if request.profile is Profile.AS_DOCUMENTED:
        return Need("logs-write", _on(Verb.USE, "logging-family"), Reasons(why, without, ADS_PAGE))
    return Need("logs-write", _on(Verb.USE, "log-content"), Reasons(why, without, LOGGING))


def _metrics_out(request: OciRequest) -> Iterator[Need]:
    if request.metrics_namespace:
        yield Need(
            "metrics-write",
            _on(Verb.USE, "metrics"),
            Reasons(
                "Publishes GPU metrics under one namespace.", "The metrics are refused; training goes on.", MONITORING
            ),
            conditions=(("target.metrics.namespace", request.metrics_namespace),),
        )


def _starting_jobs(request: OciRequest) -> Iterator[Need]:
    documented = request.profile is Profile.AS_DOCUMENTED
    yield from _push(request)
    if documented or not request.repo:
        yield _pull(request, "The user")
    yield Need(
        "projects-read",
        _on(Verb.READ, "data-science-projects"),
        Reasons(
            "A job and its runs belong to a project, which is looked up when they are created.",
            "Creating a job fails with 404 NotAuthorizedOrNotFound, though jobs may be managed.",
            RUN_CREATE_PAGE,
        ),
    )
    yield Need(
        "jobs",
        _on(Verb.MANAGE, "data-science-jobs"),
        Reasons("Creates the job that describes the training.", "No job can be created.", DATA_SCIENCE),
    )
    yield Need(
        "job-runs",
        _on(Verb.MANAGE, "data-science-job-runs"),
        Reasons("Starts, watches and cancels the runs, one for each node.", "No run can be started.", DATA_SCIENCE),
    )
    yield _attach(request)
    if documented:
        yield Need(
            "log-groups",
            _on(Verb.MANAGE, "log-groups"),
            Reasons("Makes a log group for the runs.", "The log group must exist beforehand.", ADS_PAGE),
        )
    else:
        yield Need(
            "log-groups",
            _on(Verb.USE, "log-groups"),
            Reasons("Makes a log in the group that the operator made.", "Runs start without logs.", LOGGING),
        )
    yield _log_content(request, "Reads the runs' output.", "The output of a run cannot be seen.")
    yield Need(
        "metrics-read",
        _on(Verb.READ, "metrics"),
        Reasons("Shows the runs' CPU, memory and GPU use.", "The charts stay empty; training goes on.", MONITORING),
    )
    yield _objects(
        request, "Uploads code and data, and fetches results.", "Nothing can be put into the work directory."
    )


def _attach(request: OciRequest) -> Need:
    return Need(
        "network-attach",
        _on(Verb.USE, "virtual-network-family"),
        Reasons(
            "Attaches runs to the private subnet over which the nodes talk. The vendor documents the family, "
            "and no narrower set for job runs.",
            "Runs cannot be started in the subnet, so the nodes cannot reach each other.",
            DATA_SCIENCE,
        ),
        place=Place.NETWORK,
    )


def _job_runs(request: OciRequest) -> Iterator[Need]:
    documented = request.profile is Profile.AS_DOCUMENTED
    yield _pull(request, "The run")
    if documented:
        yield Need(
            "data-science-use",
            _on(Verb.USE, "data-science-family"),
            Reasons("Looks up the job and its runs.", "A node cannot find the others.", ADS_PAGE),
        )
    else:
        for need, resource in (("jobs-read", "data-science-jobs"), ("job-runs-read", "data-science-job-runs")):
            yield Need(
                need,
                _on(Verb.READ, resource),
                Reasons("A node looks up its own run and its peers'.", "A node cannot find the others.", DATA_SCIENCE),
            )
    yield _attach(request)
    yield Need(
        "network-service",
        _on(Verb.USE, "virtual-network-family"),
        Reasons(
            "The Data Science service puts the runs' network cards into your subnet.",
            "Runs in a subnet of your own fail to start.",
            DATA_SCIENCE,
        ),
        place=Place.NETWORK,
        subject=Subject(SubjectKind.SERVICE, (Principal("datascience"),)),
    )
    if documented:
        yield Need(
            "log-groups",
            _on(Verb.USE, "log-groups"),
            Reasons("Finds the log group.", "Runs write no logs.", ADS_PAGE),
        )
    yield _log_content(request, "Writes the run's output to its log.", "Runs write no logs.")
    yield from _metrics_out(request)
    yield _objects(request, "Writes checkpoints and reads code and data.", "The first checkpoint fails.")
    yield _bucket(request)


def _bucket(request: OciRequest) -> Need:
    documented = request.profile is Profile.AS_DOCUMENTED
    return Need(
        "bucket",
        _on(Verb.MANAGE if documented else Verb.READ, "buckets"),
        Reasons(
            "Looks the bucket up before artifacts are copied into it.",
            "Copying stops with BucketNotFound.",
            ADS_PAGE if documented else OBJECT_STORAGE,
        ),
        conditions=_in_bucket(request),
    )


def _master(request: OciRequest) -> Iterator[Need]:
    if request.profile is Profile.AS_DOCUMENTED:
        yield from _launching_as_documented()
        return
    create = ("INSTANCE_INSPECT", "INSTANCE_READ", "INSTANCE_CREATE")
    attach = ("INSTANCE_ATTACH_VOLUME", "INSTANCE_DETACH_VOLUME") if request.volumes else ()
    delete = () if request.tag else ("INSTANCE_DELETE",)
    yield Need(
        "instances",
        PermissionGrant(create + attach + delete),
        Reasons(
            "Starts agents' machines and sees which there are.", "Pools stay at the machines that they have.", CORE
        ),
    )
    if request.tag:
        yield Need(
            "instances-end",
            PermissionGrant(("INSTANCE_DELETE",)),
            Reasons(
                "Terminates idle machines, and only those with the cluster's tag.", "Idle machines go on costing.", CORE
            ),
            conditions=((f"target.resource.tag.{request.tag.namespace}.{request.tag.key}", request.tag.value),),
        )
        yield Need(
            "tag",
            _on(Verb.USE, "tag-namespaces"),
            Reasons("Puts the cluster's tag on new machines.", "Starting a machine with the tag is refused.", CORE),
            place=Place.TENANCY,
            conditions=(("target.tag-namespace.name", request.tag.namespace),),
        )
    of_kind("--image", request.image, "image")
    yield Need(
        "image",
        PermissionGrant(("INSTANCE_IMAGE_READ",)) if request.image else _on(Verb.READ, "instance-images"),
        Reasons("Starts machines from the agents' image.", "LaunchInstance fails for want of its image.", CORE),
        conditions=(("target.image.id", request.image),) if request.image else (),
    )
    for need, resource, why in (
        ("subnet", "subnets", "Puts machines into the agents' subnet, and takes them out when they end."),
        ("vnic", "vnics", "Makes the machines' network cards, and deletes them."),
        ("nsg", "network-security-groups", "Puts the cards into the agents' security group."),
    ):
        yield Need(
            need,
            _on(Verb.USE, resource),
            Reasons(why, "LaunchInstance fails with 404 NotAuthorizedOrNotFound.", CORE),
            place=Place.NETWORK,
        )
    if request.volumes:
        yield Need(
            "volume",
            _on(Verb.USE, "volumes"),
            Reasons("Attaches data volumes to new machines.", "Agents start without their data volume.", CORE),
        )
        yield Need(
            "volume-attachment",
            _on(Verb.MANAGE, "volume-attachments"),
            Reasons("Makes and ends those attachments.", "Agents start without their data volume.", CORE),
        )


def _launching_as_documented() -> Iterator[Need]:
    for need, verb, resource, place in (
        ("instances", Verb.MANAGE, "instance-family", Place.HERE),
        ("volume", Verb.USE, "volume-family", Place.HERE),
        ("subnet", Verb.USE, "virtual-network-family", Place.NETWORK),
    ):
        yield Need(
            need,
            _on(verb, resource),
            Reasons("Starts and ends machines.", "No machine can be started.", DYNAMIC_PAGE),
            place=place,
        )


def _agent(request: OciRequest) -> Iterator[Need]:
    yield _pull(request, "The agent")
    yield _objects(request, "Saves checkpoints and reads code and data.", "The first checkpoint fails.")
    yield _bucket(request)
    yield _log_content(request, "Sends the agent's own log to the cloud's.", "The log stays on the machine.")
    yield from _metrics_out(request)


def _results(request: OciRequest) -> Iterator[Need]:
    """On Quorate's own agents people talk to the master alone; what is left is images and results."""
    yield from _push(request)
    if request.bucket:
        yield Need(
            "results",
            _on(Verb.READ, "objects"),
            Reasons("Fetches checkpoints and results.", "Results are fetched through the master only.", OBJECT_STORAGE),
            conditions=_in_bucket(request),
        )
