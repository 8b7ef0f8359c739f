"""What a job would become if it were submitted now: the scheduler's and the launchers' own answers, nothing kept."""

from quorate.launch.config import Configuration, Purpose
from quorate.launch.config import Member as LaunchMember
from quorate.launch.launchers import Launch, LauncherError, derive
from quorate.master.api import render
from quorate.master.api.problems import ApiProblem
from quorate.master.services import wall
from quorate.master.state import State
from quorate.master.transitions.placing import preview
from quorate.model.ids import JobId, allocation_id
from quorate.model.job import JobSpec
from quorate.model.messages import PlannedMember
from quorate.model.views import PlanView
from quorate.network import catalogue

#: Stands for the id that the job would get.
_JOB = JobId("preview")


def check_entrypoint(spec: JobSpec) -> None:
    """Ends the request where the job's launcher cannot start its entry point: better now than on an agent."""
    ports = {Purpose.TORCH: catalogue.port("torch-rendezvous"), Purpose.MAIN: catalogue.port("master-port")}
    alone = LaunchMember(rank=0, role="main", index=1, name="main1", address="127.0.0.1", ports=ports)
    _derive(spec, Configuration(allocation=allocation_id(_JOB, 1), members=(alone,), rank=0))


def plan_view(state: State, spec: JobSpec, owner: str, now: float) -> PlanView:
    """The plan; ends the request where the launcher cannot start the entry point."""
    check_entrypoint(spec)
    planned = preview(state, spec, owner, now, wall())
    if isinstance(planned, str):
        return PlanView(fits_now=False, waits_for=planned)
    allocation = allocation_id(_JOB, 1)
    environments, commands = [], []
    for member in planned:
        configuration = Configuration(
            allocation=allocation, members=tuple(map(_launched, planned)), rank=member.rank, nonce="00" * 16
        )
        launch = _derive(spec, configuration)
        environments.append(dict(launch.environment))
        commands.append(launch.argv)
    return PlanView(
        fits_now=True,
        members=tuple(render.planned_view(member, allocation) for member in planned),
        environment=tuple(environments),
        commands=tuple(commands),
    )


def _derive(spec: JobSpec, configuration: Configuration) -> Launch:
    try:
        return derive(spec.launcher.value, configuration, spec.entrypoint, spec.environment)
    except LauncherError as error:
        raise ApiProblem(422, "ENTRYPOINT-INVALID", str(error)) from None


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
