"""What a job would become if it were submitted now: the scheduler's and the launchers' own answers, nothing kept."""

from quorate.launch import environment as variables
from quorate.launch.config import Configuration, ConfigurationError, Purpose
from quorate.launch.config import Member as LaunchMember
from quorate.launch.config import Network as LaunchNetwork
from quorate.launch.launchers import Launch, LauncherError, derive
from quorate.master.api import render
from quorate.master.api.problems import ApiProblem
from quorate.master.memberspecs import role_specs
from quorate.master.services import wall
from quorate.master.state import State
from quorate.master.transitions.placing import preview
from quorate.master.transitions.submitting import network_refusal
from quorate.model.ids import JobId, allocation_id
from quorate.model.job import JobSpec
from quorate.model.messages import PlannedMember, RoleSpec
from quorate.model.views import PlanView
from quorate.network import catalogue

#: Stands for the id that the job would get.
_JOB = JobId("preview")


def check_images(spec: JobSpec) -> None:
    """Ends the request of a job whose image is still to be built: the folder is on its user's machine."""
    for where, settings in (("image", spec), *((f"roles.{name}.image", role) for name, role in spec.roles.items())):
        if settings.image is not None and not settings.image.name:
            raise ApiProblem(
                422,
                "IMAGE-NOT-BUILT",
                f"spec.{where} is to be built from {settings.image.build}, which the master cannot see",
                "quorate run builds and pushes it first; so does quorate image build",
            )


def check_entrypoint(spec: JobSpec) -> None:
    """Ends the request where the job's launcher cannot start its entry point: better now than on an agent."""
    ports = {Purpose.TORCH: catalogue.port("torch-rendezvous"), Purpose.MAIN: catalogue.port("master-port")}
    roles = role_specs(spec)
    members = spec.members()
    for role in dict.fromkeys(role for role, _ in members):
        try:
            variables.check_port(_said(spec, roles.get(role)), len(members), spec.launcher.value)
        except ConfigurationError as error:
            raise ApiProblem(422, "MASTER-PORT-INVALID", str(error)) from None
        alone = LaunchMember(rank=0, role=role, index=1, name=f"{role}1", address="127.0.0.1", ports=ports)
        configuration = Configuration(allocation=allocation_id(_JOB, 1), members=(alone,), rank=0)
        _derive(spec, configuration, roles.get(role))


def plan_view(state: State, spec: JobSpec, owner: str, now: float) -> PlanView:
    """The plan; ends the request where the launcher cannot start the entry point."""
    check_images(spec)
    check_entrypoint(spec)
    unfit = network_refusal(state, spec)
    if unfit is not None:
        raise ApiProblem(unfit.status, unfit.code, unfit.detail, unfit.hint)
    planned = preview(state, spec, owner, now, wall())
    if isinstance(planned, str):
        return PlanView(fits_now=False, waits_for=planned)
    network = LaunchNetwork(planned.network.mode) if planned.network else LaunchNetwork.HOST
    allocation, roles = allocation_id(_JOB, 1), role_specs(spec)
    environments, commands, views = [], [], []
    members = tuple(map(_launched, planned.members))
    for member in planned.members:
        configuration = Configuration(
            allocation=allocation, members=members, rank=member.rank, nonce="00" * 16, network=network
        )
        launch = _derive(spec, configuration, roles.get(member.role))
        said = _said(spec, roles.get(member.role))
        environments.append({**said, **launch.environment})
        commands.append(launch.argv)
        ports = variables.ports_of(configuration, said)
        views.append(render.planned_view(member, allocation).model_copy(update={"ports": ports}))
    return PlanView(
        fits_now=True,
        members=tuple(views),
        network=render.network_view(planned.network, planned.joined),
        joined=planned.joined,
        environment=tuple(environments),
        commands=tuple(commands),
    )


def _derive(spec: JobSpec, configuration: Configuration, role: RoleSpec | None) -> Launch:
    """The command and the added variables of one member; no command where its image or nothing has one."""
    entrypoint = role.entrypoint if role else spec.entrypoint
    environment = _said(spec, role)
    if not entrypoint:
        return Launch((), variables.derive(configuration, environment))
    try:
        return derive(spec.launcher.value, configuration, entrypoint, environment)
    except LauncherError as error:
        raise ApiProblem(422, "ENTRYPOINT-INVALID", str(error)) from None


def _said(spec: JobSpec, role: RoleSpec | None) -> dict[str, str]:
    """The variables that the job itself sets for members of the role."""
    return {**spec.environment, **(role.environment if role else {})}


def _launched(member: PlannedMember) -> LaunchMember:
    return LaunchMember(
        rank=member.rank,
        role=member.role,
        index=member.index,
        name=member.name,
        address=member.address,
        agent=member.agent,
        slots=member.slots,
        ports=member.ports,
    )
