"""The client of the API: one method for each thing that the API does, with the views that it answers."""

from __future__ import annotations

import contextlib
import json
import ssl
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ValidationError

from quorate.client import streams
from quorate.client.errors import ApiError, ClientError, NotAMaster, SettingsError, Unreachable, Untrusted
from quorate.client.lean import load_httpx
from quorate.client.settings import Settings
from quorate.client.trust import speaks_tls
from quorate.model.job import JobSpec
from quorate.model.problem import Problem
from quorate.model.views import (
    AgentPage,
    AgentView,
    DiagnosisView,
    JobDetail,
    JobNetworkView,
    JobPage,
    JobView,
    LogLine,
    MasterView,
    NetCheckView,
    PlanView,
    PoolPage,
    PoolView,
    StopView,
    TokenCreatedView,
    TokenPage,
    TokenView,
)

if TYPE_CHECKING:
    import httpx

    from quorate.client.context import PackedContext

View = TypeVar("View", bound=BaseModel)

#: Seconds. A master answers in milliseconds; a gang's plan on a large cluster may take longer than one would think.
CONNECT_TIMEOUT = 5.0
ANSWER_TIMEOUT = 30.0
#: Streams carry an empty line now and then; silence for so long is a dead connection.
STREAM_TIMEOUT = 90.0
#: How long a request that may be repeated safely is repeated when its connection broke in the middle.
REPEAT_FOR = 30.0
#: So many broken connections in a row are looked into: whoever speaks TLS there ends every other one without a word.
BREAKS = 3


class Client:
    """A connection to one master. Use it as a context manager, or close it. Threads may share it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._http: httpx.Client | None = None

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connections."""
        if self._http is not None:
            self._http.close()
            self._http = None

    # --- jobs --------------------------------------------------------------------------------------------------

    def submit(self, spec: JobSpec) -> JobView:
        """Submits a job once, however often the connection breaks on the way."""
        return self._ask(JobView, "POST", "/api/v1/jobs", body={"spec": wire_spec(spec)}, key=uuid.uuid4().hex)

    def plan(self, spec: JobSpec) -> PlanView:
        """What would happen if the job were submitted now."""
        return self._ask(PlanView, "POST", "/api/v1/jobs/plan", body={"spec": wire_spec(spec)})

    def jobs(self, *, state: str = "", owner: str = "", kind: str = "", limit: int = 100) -> Iterator[JobView]:
        """Jobs, newest first, page after page, at most `limit`."""
        query = {"state": state, "owner": owner, "kind": kind, "limit": str(min(limit, 200)), "cursor": ""}
        while limit > 0:
            page = self._ask(JobPage, "GET", "/api/v1/jobs", query=query)
            yield from page.items[:limit]
            limit -= len(page.items)
            if not page.next or not page.items:
                return
            query["cursor"] = page.next

    def job(self, job: str) -> JobDetail:
        """One job with its history."""
        return self._ask(JobDetail, "GET", f"/api/v1/jobs/{segment(job)}")

    def cancel(self, job: str) -> JobView:
        """Asks for the end of a job; it ends when its members have."""
        return self._ask(JobView, "POST", f"/api/v1/jobs/{segment(job)}/cancel", key=uuid.uuid4().hex)

    def wait(self, job: str, timeout: float = 30.0) -> JobView:
        """The job when it is final, or as it is after `timeout` seconds (the master allows 60 at most)."""
        query = {"timeout": f"{timeout:g}"}
        return self._ask(
            JobView, "GET", f"/api/v1/jobs/{segment(job)}/wait", query=query, timeout=timeout + ANSWER_TIMEOUT
        )

    def states(self, job: str, told: streams.Watcher | None = None, *, patient: bool = False) -> Iterator[JobView]:
        """The job now and after every change until it is final, through a master's absence.

        `told` hears of a break, and with None that it is over. A first connection that fails is an error unless
        `patient`.
        """
        return streams.job_states(self._lines, segment(job), streams.Breaks(told, patient=patient))

    def logs(
        self,
        job: str,
        *,
        follow: bool = False,
        member: str = "",
        attempt: int | None = None,
        tail: int | None = None,
        told: streams.Watcher | None = None,
        patient: bool = False,
    ) -> Iterator[LogLine]:
        """A job's log lines; with `follow` until it has ended, through a master's absence, without loss or doubling."""
        query = {
            "member": member,
            "attempt": "" if attempt is None else str(attempt),
            "tail": "" if tail is None else str(tail),
            "follow": "true" if follow else "",
        }
        ended = lambda: self.job(job).state.final  # noqa: E731
        breaks = streams.Breaks(told, patient=patient)
        return streams.log_lines(self._lines, segment(job), {k: v for k, v in query.items() if v}, ended, breaks)

    def diagnose(self, job: str, platform: str = "") -> DiagnosisView:
        """Why a job that runs does not go on; takes some seconds.

        `platform`: whose commands mend it (`nft`, `aws`…); without one, those of each agent's own platform.
        """
        query = {"for": platform} if platform else None
        path = f"/api/v1/jobs/{segment(job)}/diagnose"
        return self._ask(DiagnosisView, "POST", path, query=query, timeout=STREAM_TIMEOUT)

    def diagnosis(self, job: str) -> DiagnosisView:
        """The newest diagnosis that was made of the job; raises ApiError where there is none."""
        return self._ask(DiagnosisView, "GET", f"/api/v1/jobs/{segment(job)}/diagnosis")

    def network(self, job: str) -> JobNetworkView:
        """What passed between the members of a job, and what was refused."""
        return self._ask(JobNetworkView, "GET", f"/api/v1/jobs/{segment(job)}/network")

    def upload(self, context: PackedContext, told: Callable[[int], None] | None = None) -> bool:
        """Sends a packed context unless the master has it; says whether it was sent. `told` hears the bytes sent."""
        from quorate.client.context import chunks

        path = f"/api/v1/contexts/{context.sha256}"
        if self._send("HEAD", path, accept=(404,)).status_code != 404:
            return False
        for again in self._repeats():
            with again, context.file.open("rb") as file:
                headers = {"Content-Type": "application/gzip", "Content-Length": str(context.packed_bytes)}
                self._once("PUT", path, content=chunks(file, told), headers=headers, timeout=STREAM_TIMEOUT)
        return True

    # --- the cluster -------------------------------------------------------------------------------------------

    def agents(self) -> Iterator[AgentView]:
        """All agents, by name."""
        return self._pages(AgentPage, "/api/v1/agents")

    def agent(self, agent: str) -> AgentView:
        """One agent."""
        return self._ask(AgentView, "GET", f"/api/v1/agents/{segment(agent)}")

    def tell_agent(self, agent: str, what: str, *, gone: bool = False) -> AgentView:
        """`drain`, `resume` or `revoke`; `gone` with the last says that its machine runs no more."""
        query = {"gone": "true"} if gone else {}
        path = f"/api/v1/agents/{segment(agent)}/{what}"
        return self._ask(AgentView, "POST", path, query=query, key=uuid.uuid4().hex)

    def check_network(self, pool: str = "") -> Iterator[NetCheckView]:
        """All agents (of the pool) try each other: how they are connected, then their probes as they are done."""
        with self._stream("POST", "/api/v1/net/check", {"pool": pool} if pool else {}) as pieces:
            for line in streams.split_lines(pieces):
                yield NetCheckView.model_validate_json(line)

    def pools(self) -> Iterator[PoolView]:
        """All pools, by name."""
        return self._pages(PoolPage, "/api/v1/pools")

    def master(self) -> MasterView:
        """The master itself."""
        return self._ask(MasterView, "GET", "/api/v1/master")

    def stop_master(self, absence: float = 0.0) -> StopView:
        """Stops the master; with an `absence` (seconds), agents first agree to wait that long for it."""
        return self._ask(StopView, "POST", "/api/v1/master/stop", body={"for": absence}, timeout=120.0)

    def adopt(self) -> MasterView:
        """Takes the store as it is after a restore; agents follow it from then on."""
        return self._ask(MasterView, "POST", "/api/v1/master/adopt")

    def create_token(self, **wanted: Any) -> TokenCreatedView:
        """`kind="join"` with `pool` and `uses`, or `kind="user"` with `user` and `operator`; `ttl` in seconds."""
        body = {name: value for name, value in wanted.items() if value not in (None, "", False)}
        return self._ask(TokenCreatedView, "POST", "/api/v1/tokens", body=body)

    def tokens(self) -> Iterator[TokenView]:
        """All tokens by id, without their secrets."""
        return self._pages(TokenPage, "/api/v1/tokens")

    def revoke_token(self, token: str) -> None:
        """Makes a token worthless; raises ApiError for an unknown one."""
        self._send("DELETE", f"/api/v1/tokens/{segment(token)}")

    def backup(self) -> Iterator[bytes]:
        """The pieces of a tar with the store and the contexts, taken while the master runs."""
        with self._stream("POST", "/api/v1/master/backup", {}) as pieces:
            yield from pieces

    # --- underneath --------------------------------------------------------------------------------------------

    def _pages(self, page_type: type[Any], path: str) -> Iterator[Any]:
        cursor = ""
        while True:
            page = self._ask(page_type, "GET", path, query={"cursor": cursor})
            yield from page.items
            if not page.next:
                return
            cursor = page.next

    def _ask(self, view: type[View], method: str, path: str, **options: Any) -> View:
        answer = self._send(method, path, **options)
        try:
            return view.model_validate_json(answer.content)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the whole"
            raise self._no_master(f"its answer to {method} {path} cannot be read ({where}: {first['msg']})") from None

    def _send(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        query: dict[str, str] | None = None,
        key: str = "",
        accept: tuple[int, ...] = (),
        timeout: float = ANSWER_TIMEOUT,
    ) -> httpx.Response:
        headers = {"Idempotency-Key": key} if key else {}
        content = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            content = json.dumps(body).encode()
        query = {name: value for name, value in (query or {}).items() if value}
        # Without a key a POST may have been done although its answer was lost, so it is not repeated.
        for again in self._repeats() if key or method != "POST" else [contextlib.nullcontext()]:
            with again:
                return self._once(
                    method, path, content=content, params=query, headers=headers, timeout=timeout, accept=accept
                )
        raise AssertionError("the last repetition returns or raises")

    def _repeats(self) -> Iterator[contextlib.AbstractContextManager[None]]:
        deadline = time.monotonic() + REPEAT_FOR
        done = False
        broken = 0
        wait = streams.FIRST_PAUSE

        @contextlib.contextmanager
        def attempt() -> Iterator[None]:
            nonlocal done, broken
            try:
                yield
                done = True
            except Unreachable as error:
                # Refused at once means that no master is there: a person wants to know that now.
                if not isinstance(error, _Broken) or time.monotonic() > deadline:
                    raise
                broken += 1
                url = self.settings.master
                if broken == BREAKS and url.startswith("http://") and speaks_tls(url):
                    raise self._no_master("it speaks TLS", url.replace("http://", "https://", 1)) from None

        while not done:
            yield attempt()
            if not done:
                time.sleep(wait)
                wait = min(streams.LONGEST_PAUSE, wait * 2)

    def _once(self, method: str, path: str, *, accept: tuple[int, ...] = (), **options: Any) -> httpx.Response:
        with self._problems():
            answer = self._connection().request(method, path, **options)
        if answer.status_code not in accept:
            self._check(answer)
        return answer

    def _lines(self, path: str, parameters: dict[str, str]) -> contextlib.AbstractContextManager[Iterator[bytes]]:
        return self._stream("GET", path, parameters)

    @contextlib.contextmanager
    def _stream(self, method: str, path: str, parameters: dict[str, str]) -> Iterator[Iterator[bytes]]:
        load_httpx()
        import httpx

        timeout = httpx.Timeout(STREAM_TIMEOUT, connect=CONNECT_TIMEOUT)
        with (
            self._problems(),
            self._connection().stream(method, path, params=parameters, timeout=timeout) as answer,
        ):
            if answer.is_error:
                answer.read()
            self._check(answer)
            yield answer.iter_bytes()

    def _connection(self) -> httpx.Client:
        if self._http is None:
            import httpx

            headers = {"Accept": "application/json", "User-Agent": "quorate"}
            if self.settings.token:
                headers["Authorization"] = f"Bearer {self.settings.token}"
            self._http = httpx.Client(
                base_url=self.settings.master,
                headers=headers,
                verify=self.tls(),
                timeout=httpx.Timeout(ANSWER_TIMEOUT, connect=CONNECT_TIMEOUT),
                # A proxy in the environment is for the Internet; a master is named by the user.
                trust_env=False,
            )
        return self._http

    def tls(self) -> ssl.SSLContext:
        """How the master's certificate is judged; for plain HTTP one that would let nobody in."""
        if not self.settings.master.startswith("https"):
            # Reading the system's authorities takes 20 ms that plain HTTP has no use for.
            return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        ca: Path | None = self.settings.ca
        try:
            return ssl.create_default_context(cafile=str(ca) if ca else None)
        except (OSError, ssl.SSLError) as error:
            raise SettingsError(f"the CA file {ca} cannot be read: {error}", "quorate login --ca FILE") from None

    @contextlib.contextmanager
    def _problems(self) -> Iterator[None]:
        load_httpx()
        import httpx

        url, source = self.settings.master, self.settings.source
        try:
            yield
        except httpx.ConnectError as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise Untrusted(
                    f"{url} shows a certificate that {self.settings.ca or 'the system'} does not vouch for: {error}",
                    f"quorate login {url} --fingerprint SHA256, which the operator knows (quorate master show)",
                ) from None
            if "SSL" in str(error):
                plain = f"it may speak none: {url.replace('https://', 'http://', 1)}"
                raise self._no_master(f"no TLS is spoken there: {error}", plain) from None
            raise Unreachable(f"nothing answers at {url} (from {source}): {_reason(error)}", _start_hint(url)) from None
        except httpx.ConnectTimeout:
            raise Unreachable(
                f"{url} (from {source}) took no connection within {CONNECT_TIMEOUT:g} s: a firewall may drop it",
                "quorate doctor",
            ) from None
        except httpx.TimeoutException:
            raise _Broken(f"{url} took the request and did not answer in time", "quorate doctor") from None
        except httpx.TransportError as error:
            raise _Broken(f"the connection to {url} broke: {_reason(error)}", "quorate doctor") from None

    def _check(self, answer: httpx.Response) -> None:
        if answer.is_success:
            return
        kind = answer.headers.get("content-type", "")
        if "problem+json" in kind:
            try:
                raise ApiError(Problem.model_validate_json(answer.content))
            except ValidationError:
                pass
        raise self._no_master(f"it answered {answer.status_code} {answer.reason_phrase} without saying why")

    def _no_master(self, evidence: str, hint: str = "") -> ClientError:
        url, source = self.settings.master, self.settings.source
        return NotAMaster(
            f"what answers at {url} (from {source}) is no Quorate master: {evidence}", hint or f"curl {url}/healthz"
        )


class _Broken(Unreachable):
    """The connection broke after the request was sent, so nobody knows whether the master acted on it."""


def wire_spec(spec: JobSpec) -> dict[str, Any]:
    """The spec as the API takes it: only what differs from the defaults, and the secrets' values in clear."""
    data = spec.model_dump(mode="json", exclude_defaults=True)
    if spec.secrets:
        data["secrets"] = {name: value.get_secret_value() for name, value in spec.secrets.items()}
    return data


def segment(name: str) -> str:
    """A name as one segment of a path: what a person typed must not reach another endpoint."""
    return quote(name, safe="")


def _reason(error: Exception) -> str:
    text = str(error).removeprefix("[Errno ").partition("] ")
    return (text[2] or str(error) or type(error).__name__).strip()


def _start_hint(url: str) -> str:
    local = any(name in url for name in ("//127.", "//localhost", "//[::1]"))
    return "quorate up starts a local cluster" if local else f"quorate doctor --master {url}"
