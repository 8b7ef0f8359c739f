"""Writes GCP roles and bindings: the vendor's predefined roles, or the least that the master's calls need."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from quorate.iam.explained import Reasons
from quorate.iam.finding import MissingOption, RefusedRequest
from quorate.iam.gcp import roles as known
from quorate.iam.request import Audience, Profile

_PROJECT = re.compile(r"([a-z][a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]")
_EMAIL = re.compile(r"[a-z0-9][a-z0-9.-]*@[a-z0-9.-]+\.[a-z]+")
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")


_SAMPLES = {
    "project": "my-project",
    "master_account": "quorate-master@my-project.iam.gserviceaccount.com",
    "agent_account": "quorate-agent@my-project.iam.gserviceaccount.com",
    "region": "europe-west4",
    "subnet": "my-subnet",
    "user": "group:researchers@example.org",
}


class On(StrEnum):
    """What a role is bound on; the narrower, the better."""

    PROJECT = "project"
    ACCOUNT = "service account"
    SUBNET = "subnet"
    BUCKET = "bucket"
    REPOSITORY = "repository"


@dataclass(frozen=True, slots=True)
class GcpRequest:
    """All that roles depend on. `host_project`, `region` and `subnet` are those of a shared VPC."""

    audience: Audience
    profile: Profile = Profile.STRICT
    project: str | None = None
    cluster: str = "cluster"
    master_account: str | None = None
    agent_account: str | None = None
    host_project: str | None = None
    region: str | None = None
    subnet: str | None = None
    image_project: str | None = None
    bucket: str | None = None
    repo: str | None = None
    user: str | None = None
    external_ip: bool = False
    legacy_scope: bool = False
    data_disk: bool = False
    may_delete: bool = False

    def __post_init__(self) -> None:
        for text, pattern, what in (
            (self.project, _PROJECT, "project"),
            (self.host_project, _PROJECT, "host project"),
            (self.image_project, _PROJECT, "image project"),
            (self.master_account, _EMAIL, "master's account"),
            (self.agent_account, _EMAIL, "agents' account"),
            (self.cluster, _NAME, "cluster"),
            (self.region, _NAME, "region"),
            (self.subnet, _NAME, "subnet"),
            (self.bucket, _BUCKET, "bucket"),
            (self.repo, _NAME, "repository"),
        ):
            if text is not None and not pattern.fullmatch(text):
                raise RefusedRequest(f"the {what} {text!r} is not one that GCP would accept")
        if self.master_account and self.master_account == self.agent_account:
            raise RefusedRequest(
                "master and agents must not share a service account: users' code runs with the agents'"
            )

    def needs(self, name: str, why: str) -> str:
        value = getattr(self, name)
        if value is None:
            raise MissingOption(name, why, _SAMPLES[name])
        return str(value)


@dataclass(frozen=True, slots=True)
class Permission:
    """A permission and its reasons."""

    name: str
    reasons: Reasons


@dataclass(frozen=True, slots=True)
class CustomRole:
    """A role to create in the project."""

    id: str
    title: str
    permissions: tuple[Permission, ...]

    def as_json(self) -> dict[str, object]:
        """What `gcloud iam roles create --file` takes."""
        return {
            "title": self.title,
            "description": f"Made by quorate iam policy; {len(self.permissions)} permissions, each explained there.",
            "stage": "GA",
            "includedPermissions": sorted(permission.name for permission in self.permissions),
        }


@dataclass(frozen=True, slots=True)
class Binding:
    """A role for a member on something. `where` is that thing's name and, in order, the flags that complete it."""

    id: str
    on: On
    where: tuple[str, ...]
    role: str
    member: str
    reasons: Reasons
    condition: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class GcpPolicy:
    """Roles to make, bindings to set, the scopes of the machine, and what else to know."""

    roles: tuple[CustomRole, ...]
    bindings: tuple[Binding, ...]
    scopes: tuple[Permission, ...]
    notes: tuple[str, ...]


def generate(request: GcpRequest) -> GcpPolicy:
    """The roles for a request. Raises RefusedRequest where they would be void or open."""
    match request.audience:
        case Audience.MASTER if request.legacy_scope:
            return _legacy()
        case Audience.MASTER if request.profile is Profile.AS_DOCUMENTED:
            return GcpPolicy(
                (), tuple(_master_as_documented(request)), (_full_scope(),), ("The vendor's roles, as documented.",)
            )
        case Audience.MASTER:
            return _master(request)
        case Audience.AGENT:
            return GcpPolicy(_agent_roles(request), tuple(_agent(request)), (_full_scope(),), ())
        case Audience.USER:
            bindings = tuple(_user(request))
            note = "People talk to the master alone: no role is needed. --bucket, --repo add some."
            return GcpPolicy((), bindings, (), () if bindings else (note,))
        case Audience.JOB:
            note = (
                "A member of a job has no identity in the cloud: the metadata addresses are closed to it. "
                "What it reads and writes goes through its agent's machine (--for agent)."
            )
            return GcpPolicy((), (), (), (note,))


def _full_scope() -> Permission:
    return Permission(
        known.SCOPE_CLOUD_PLATFORM,
        Reasons(
            "The scope bounds nothing, so that the account's roles alone do; the vendor recommends it.",
            "Calls fail with insufficient authentication scopes whatever the roles say.",
            known.SCOPES_DOC,
        ),
    )


def _legacy() -> GcpPolicy:
    scope = Permission(
        known.SCOPE_COMPUTE,
        Reasons(
            "The vendor's second option: the default service account with Compute Engine: Read Write.",
            "The master may read machines and not start them.",
            known.DETERMINED_DOC,
        ),
    )
    note = (
        "Legacy: the default service account holds the editor role in many projects, and the agents may hold it too. "
        "Prefer a service account of the master's own."
    )
    return GcpPolicy((), (), (scope,), (note,))


def _project(request: GcpRequest) -> str:
    return request.needs("project", "the project in which the machines are")


def _master_member(request: GcpRequest) -> str:
    return (
        f"serviceAccount:{request.needs('master_account', 'the email of the service account that the master runs as')}"
    )


def _agent_email(request: GcpRequest) -> str:
    return request.needs("agent_account", "the email of the service account that agents run as")


def _master_as_documented(request: GcpRequest) -> Iterator[Binding]:
    project, member = _project(request), _master_member(request)
    yield Binding(
        "compute",
        On.PROJECT,
        (project,),
        "roles/compute.admin",
        member,
        Reasons("Manages the machines.", "No machine can be started.", known.DETERMINED_DOC),
    )
    if request.agent_account:
        yield Binding(
            "act-as",
            On.PROJECT,
            (project,),
            "roles/iam.serviceAccountUser",
            member,
            Reasons("Gives agents a service account.", "Machines start without an account.", known.DETERMINED_DOC),
        )
    if request.host_project:
        yield Binding(
            "shared-vpc",
            On.PROJECT,
            (request.host_project,),
            "roles/compute.networkUser",
            member,
            Reasons("Puts agents into a shared VPC.", "Starting there fails with 403.", known.DETERMINED_DOC),
        )


_MASTER_PERMISSIONS: tuple[tuple[str, str, str], ...] = (
    ("compute.instances.list", "Sees which machines there are.", "Machines that are gone are not noticed."),
    ("compute.instances.get", "Looks at one machine.", "A machine that fails to start has no reason."),
    ("compute.instances.create", "Starts machines.", "Pools stay at the machines that they have."),
    ("compute.instances.setMetadata", "Passes the join token and the startup script.", "Agents never join."),
    ("compute.instances.setLabels", "Marks machines as this cluster's.", "Starting with labels is refused."),
    ("compute.instances.setTags", "Sets the tag that firewall rules name.", "Rules do not apply to agents."),
    ("compute.instances.setServiceAccount", "Gives machines the agents' account.", "Starting with one is refused."),
    ("compute.disks.create", "Makes the boot disk.", "Starting fails for want of a disk."),
    ("compute.zoneOperations.get", "Waits for starts and ends.", "A start that fails looks like one that is slow."),
)


def _master(request: GcpRequest) -> GcpPolicy:
    project, member = _project(request), _master_member(request)
    agent = _agent_email(request)
    granted = [Permission(name, Reasons(why, without, known.INSERT_DOC)) for name, why, without in _MASTER_PERMISSIONS]
    if request.image_project is None:
        granted.append(_because("compute.images.useReadOnly", "Starts from the agents' image.", "No image to start."))
    if request.host_project is None:
        granted.append(_because("compute.subnetworks.use", "Puts machines into the subnet.", "Starting them fails."))
    if request.external_ip:
        granted.append(
            _because("compute.subnetworks.useExternalIp", "Gives machines an external address.", "They get none.")
        )
    if request.data_disk:
        granted.append(
            _because("compute.disks.useReadOnly", "Attaches an existing disk, to be read.", "Agents lack their data.")
        )
    make = CustomRole("quorateMaster", "Quorate master: start and see machines", tuple(granted))
    end = CustomRole(
        "quorateMasterEnd",
        "Quorate master: end machines",
        (_because("compute.instances.delete", "Ends idle machines.", "Idle machines go on costing."),),
    )
    act_as = CustomRole(
        "quorateActAsAgent",
        "Quorate master: act as an agent",
        (
            Permission(
                "iam.serviceAccounts.actAs",
                Reasons("Gives machines the agents' account.", "Starting with it is refused.", known.ACT_AS_DOC),
            ),
        ),
    )
    prefix = f"{request.cluster}-"
    own = (
        f"{request.cluster} machines",
        'resource.type == "compute.googleapis.com/Instance" && '
        f'resource.name.extract("/instances/{{name}}").startsWith("{prefix}")',
    )
    bindings = [
        Binding(
            "start",
            On.PROJECT,
            (project,),
            _custom(project, make),
            member,
            Reasons("Starts and sees machines.", "No machine can be started.", known.COMPUTE_ROLES_DOC),
        ),
        Binding(
            "end",
            On.PROJECT,
            (project,),
            _custom(project, end),
            member,
            Reasons(
                f"Ends machines, and only those named {prefix}…; the master's own must be named otherwise.",
                "Idle machines go on costing.",
                known.CONDITIONS_DOC,
            ),
            own,
        ),
        Binding(
            "act-as",
            On.ACCOUNT,
            (agent, f"--project={project}"),
            _custom(project, act_as),
            member,
            Reasons(
                "The agents' account, and no other of the project.", "Starting with it is refused.", known.ACT_AS_DOC
            ),
        ),
    ]
    bindings += _shared(request, member)
    notes = ["Custom-role permissions follow the calls that the master makes; they were not tried against GCP itself."]
    return GcpPolicy((make, end, act_as), tuple(bindings), (_full_scope(),), tuple(notes))


def _shared(request: GcpRequest, member: str) -> Iterator[Binding]:
    if request.host_project:
        subnet = request.needs("subnet", "the shared VPC's subnet, so that the role holds on it alone")
        region = request.needs("region", "the region of the shared subnet")
        yield Binding(
            "shared-vpc",
            On.SUBNET,
            (subnet, f"--region={region}", f"--project={request.host_project}"),
            "roles/compute.networkUser",
            member,
            Reasons("Puts machines into one shared subnet.", "Starting there fails with 403.", known.SHARED_VPC_DOC),
        )
    if request.image_project:
        yield Binding(
            "image",
            On.PROJECT,
            (request.image_project,),
            "roles/compute.imageUser",
            member,
            Reasons("Starts from an image of another project.", "No image to start.", known.COMPUTE_ROLES_DOC),
        )


def _because(name: str, why: str, without: str) -> Permission:
    return Permission(name, Reasons(why, without, known.INSERT_DOC))


def _custom(project: str, role: CustomRole) -> str:
    return f"projects/{project}/roles/{role.id}"


def _agent_roles(request: GcpRequest) -> tuple[CustomRole, ...]:
    if not request.bucket or request.profile is Profile.AS_DOCUMENTED:
        return ()
    permissions = [
        ("storage.objects.get", "Reads data and checkpoints.", "Resuming fails."),
        ("storage.objects.list", "Finds the newest checkpoint.", "Resuming fails."),
        ("storage.objects.create", "Writes checkpoints under new names.", "The first checkpoint fails."),
    ]
    if request.may_delete:
        permissions.append(("storage.objects.delete", "Overwrites and deletes checkpoints.", "Old ones remain."))
    listed = tuple(Permission(name, Reasons(why, without, known.STORAGE_DOC)) for name, why, without in permissions)
    return (CustomRole("quorateCheckpoints", "Quorate agents: checkpoints", listed),)


def _agent(request: GcpRequest) -> Iterator[Binding]:
    project = _project(request)
    member = f"serviceAccount:{_agent_email(request)}"
    yield Binding(
        "logs",
        On.PROJECT,
        (project,),
        "roles/logging.logWriter",
        member,
        Reasons("Sends the agent's own log.", "The log stays on the machine.", known.LOGGING_DOC),
    )
    if request.bucket:
        role = "roles/storage.objectUser"
        if request.profile is Profile.STRICT:
            role = _custom(project, _agent_roles(request)[0])
        yield Binding(
            "bucket",
            On.BUCKET,
            (f"gs://{request.bucket}",),
            role,
            member,
            Reasons("Checkpoints and data in one bucket.", "The first checkpoint fails.", known.STORAGE_DOC),
        )
    if request.repo:
        yield _repository(request, "repo", "roles/artifactregistry.reader", member, "Pulls the jobs' images.")


def _user(request: GcpRequest) -> Iterator[Binding]:
    if not (request.bucket or request.repo):
        return
    member = request.needs("user", "whom the roles are for, such as group:researchers@example.org")
    if request.bucket:
        yield Binding(
            "results",
            On.BUCKET,
            (f"gs://{request.bucket}",),
            "roles/storage.objectViewer",
            member,
            Reasons("Fetches results.", "Results are fetched through the master only.", known.STORAGE_DOC),
        )
    if request.repo:
        yield _repository(request, "push", "roles/artifactregistry.writer", member, "Pushes the jobs' images.")


def _repository(request: GcpRequest, need: str, role: str, member: str, why: str) -> Binding:
    location = request.needs("region", "the location of the repository")
    where = (request.repo or "", f"--location={location}", f"--project={_project(request)}")
    return Binding(
        need, On.REPOSITORY, where, role, member, Reasons(why, "Jobs fail for want of an image.", known.REGISTRY_DOC)
    )
