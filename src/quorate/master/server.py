"""The master's process: opens the store, listens, turns until it is told to stop, and stops in order."""

import asyncio
import contextlib
import datetime
import errno
import gc
import json
import logging
import os
import resource
import signal
import socket
import ssl
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

import uvicorn
import uvloop

from quorate import __version__
from quorate.master import backup
from quorate.master.api.app import make_app
from quorate.master.auth import Failures, local_admin_token, write_admin_token
from quorate.master.config import LOOPBACK, Config, Listener
from quorate.master.contexts import ContextStore
from quorate.master.core import Core
from quorate.master.door import Door
from quorate.master.events import TokenCreated
from quorate.master.files import write_private
from quorate.master.firstwords import Impatient
from quorate.master.link import Links
from quorate.master.logs import LogStore
from quorate.master.secrets import Sealer, SecretsError
from quorate.master.services import Services, wall
from quorate.master.store import Store, StoreError, open_store
from quorate.master.strangers import MOST, Strangers
from quorate.master.tls import Certificate, CertificateError, operators_certificate, own_certificate
from quorate.master.writer import Writer, now

log = logging.getLogger("quorate.master")

#: Requests that are under way when the master stops get so long.
GRACE_S: Final = 5
#: How often logs, contexts and certificates are looked over.
HOUSEKEEPING_S: Final = 3600.0
BACKLOG: Final = 4096
#: An agent holds two connections; users and files come on top.
WANTED_FILES: Final = 65_536
EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2


class CannotStart(Exception):
    """The master cannot start; the text says why and what to do."""


def run(config: Config) -> int:
    """Runs a master until it is told to stop; returns the process's exit code."""
    _log_to_stderr(verbose=config.verbose)
    try:
        _raise_file_limit()
        # The store, the writer of logs and their readers share the interpreter with the event loop: at the usual 5 ms
        # each hand-over could be felt.
        sys.setswitchinterval(0.001)
        config.state_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with backup.locked(config.state_directory):
            return uvloop.run(_serve(config))
    except (CannotStart, CertificateError, SecretsError, backup.BackupError) as error:
        log.critical("%s", error)
        return EXIT_USAGE
    except StoreError as error:
        # Memory is ahead of the disk, or somebody else has the store: nothing more may be shown or sent.
        log.critical("the store failed and the master ends: %s", error)
        return EXIT_FAILED
    except OSError as error:
        log.critical("%s", error)
        return EXIT_FAILED


async def _serve(config: Config) -> int:
    # Left behind by a master that was killed.
    config.ready_file.unlink(missing_ok=True)
    # Before anything is opened: a port that is taken is the most common reason not to start.
    certificate = _certificate(config)
    sockets = [(listener, _bind(listener)) for listener in config.listeners]
    store = open_store(config.store_file)
    try:
        core = Core.open(store, config.settings, now=now(), wall=wall(), entropy=os.urandom(32))
        services = _services(config, core, store, certificate)
        await _run(services, sockets, certificate)
    finally:
        store.close()
        config.ready_file.unlink(missing_ok=True)
    return EXIT_OK


def _services(config: Config, core: Core, store: Store, certificate: Certificate | None) -> Services:
    logs = LogStore(config.state_directory / "logs", reserve_bytes=config.reserve_bytes)
    failures = Failures()
    # Effects come only once `run` turns the writer, by when `services` is there.
    writer = Writer(core, store, lambda effect: services.release(effect))
    key_file = config.secrets_key or config.state_directory / "secrets.key"
    services = Services(
        config=config,
        writer=writer,
        logs=logs,
        contexts=ContextStore(
            config.state_directory / "contexts",
            reserve_bytes=config.reserve_bytes,
            bytes_per_user=config.contexts_per_user,
        ),
        sealer=Sealer.from_file(key_file, make=config.secrets_key is None),
        links=Links(writer, logs, failures, heartbeat_s=config.settings.heartbeat_s),
        failures=failures,
        fingerprint=certificate.fingerprint if certificate else "-",
        authority=certificate.authority if certificate else b"",
    )
    return services


async def _run(
    services: Services, sockets: "list[tuple[Listener, socket.socket]]", certificate: Certificate | None
) -> None:
    config = services.config
    turning = asyncio.create_task(services.writer.run())
    # A store that fails is noticed whatever else is being waited for.
    turning.add_done_callback(lambda _: services.stopping.set())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, services.stopping.set)
    context = certificate.context() if certificate and any(listener.tls for listener, _ in sockets) else None
    # Of all that a process may open, half is for those whom it knows, and for its files.
    strangers = Strangers(min(MOST, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2))
    servers = [
        _Server(make_app(services), sock, context if listener.tls else None, strangers) for listener, sock in sockets
    ]
    try:
        await _leave_admin_token(services)
        for server in servers:
            await server.start()
        for work in (
            services.links.close_silent(),
            services.lag.measure(),
            services.reach.run(),
            services.diagnoses.watch(),
            services.gatherings.run(),
            _keep_house(services, context),
        ):
            services.background(work)
        _say_ready(services)
        await services.stopping.wait()
        if turning.done():
            # Its store failed: memory is ahead of the disk, and nothing of it may be shown or sent any more.
            return
        log.info("stopping; members run on")
        config.ready_file.unlink(missing_ok=True)
        services.notices.stop()
        services.links.close_all()
        services.streams.close_all()
        await asyncio.gather(*(server.stop() for server in servers))
    finally:
        await services.cancel_background()
        services.writer.stop()
        await services.logs.close()
        # Raises what ended the writer, if it did not end by itself.
        await turning


async def _leave_admin_token(services: Services) -> None:
    file = services.config.admin_token_file
    token = local_admin_token(services.state, file, wall())
    if token is not None:
        await services.writer.ask(TokenCreated(now=now(), wall=wall(), token=token.record))
        write_admin_token(file, token)


def _say_ready(services: Services) -> None:
    # What was made up to here stays for good: the collector, which may have been off until now, need not look at it.
    gc.freeze()
    gc.enable()
    config = services.config
    urls = [listener.url for listener in config.listeners]
    ready = {
        "pid": os.getpid(),
        "urls": urls,
        "fingerprint": services.fingerprint,
        "cluster": services.state.identity.cluster,
    }
    line = json.dumps(ready).encode() + b"\n"
    write_private(config.ready_file, line)
    if config.ready_fd is not None:
        with contextlib.suppress(OSError):
            os.write(config.ready_fd, line)
            os.close(config.ready_fd)
    identity = services.state.identity
    log.info(
        "Quorate %s: cluster %s, epoch %d, %d jobs, %d agents; listening on %s",
        __version__,
        identity.cluster,
        identity.epoch,
        len(services.state.jobs),
        len(services.state.agents),
        ", ".join(listener.described for listener in config.listeners),
    )
    if services.fingerprint != "-":
        log.info("authority: sha256 %s", services.fingerprint)
    log.info("this machine's operator: token in %s", config.admin_token_file)


async def _keep_house(services: Services, context: ssl.SSLContext | None) -> None:
    """Removes what has outlived its time, and renews the certificate; for ever."""
    config = services.config
    state = services.state

    def still_runs(job: str) -> bool:
        record = state.jobs.get(job)
        return record is not None and not record.state.final

    async def remove() -> None:
        removed = await services.logs.forget_before(wall() - config.keep_logs_s, keep=still_runs)
        needed = {state.specs[job].spec.context for job, record in state.jobs.items() if not record.state.final}
        dropped = await services.contexts.collect({context for context in needed if context})
        if removed or dropped:
            log.info("removed %d old logs and %d unused contexts", removed, dropped)

    async def renew() -> None:
        if context is not None:
            renewed = await asyncio.to_thread(_certificate, config)
            if renewed is not None:
                renewed.load_into(context)

    while True:
        for chore in (remove, renew):
            try:
                await chore()
            except Exception:
                # Such as a certificate that its owner is about to replace. Each has its next time.
                log.exception("could not %s what has had its time", chore.__name__)
        await asyncio.sleep(HOUSEKEEPING_S)


def _certificate(config: Config) -> Certificate | None:
    if not any(listener.tls for listener in config.listeners):
        return None
    if config.certificate is not None and config.certificate_key is not None:
        return operators_certificate(config.certificate, config.certificate_key, config.certificate_authority)
    return own_certificate(config.state_directory / "tls", config.names, datetime.datetime.now(datetime.UTC))


def _bind(listener: Listener) -> socket.socket:
    address = "127.0.0.1" if listener.address == "localhost" else listener.address
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((address, listener.port))
    except OSError as error:
        sock.close()
        remedy = (
            "choose another with --port, or find who listens: ss -ltnp"
            if error.errno == errno.EADDRINUSE
            else "name one of this machine's addresses with --listen: ip -brief address"
        )
        raise CannotStart(
            f"{listener.address} port {listener.port} cannot be listened on: {error.strerror}; {remedy}"
        ) from None
    if not listener.tls and address not in LOOPBACK:
        log.warning("%s: no TLS although others can reach it; tokens and logs can be read on the way", listener.url)
    return sock


class _Server(uvicorn.Server):
    """uvicorn on a socket of ours; signals and the order of stopping are the master's."""

    def __init__(
        self,
        app: Callable[..., Awaitable[None]],
        sock: socket.socket,
        context: ssl.SSLContext | None,
        strangers: Strangers,
    ) -> None:
        config = uvicorn.Config(
            app,
            http=Impatient,
            ws="websockets-sansio",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws_per_message_deflate=False,
            # Agents send heartbeats, which say more than a ping does.
            ws_ping_interval=None,
            ws_max_size=8 * 1024 * 1024,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=GRACE_S,
        )
        config.load()
        super().__init__(config)
        self._sock = sock
        #: Given as made, not as files: it is renewed in place.
        self._context = context
        self._strangers = strangers
        self._ticking: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The master has handlers of its own."""
        yield

    async def start(self) -> None:
        """Returns once connections are taken."""
        self.lifespan = self.config.lifespan_class(self.config)
        # Of a server uvicorn wants that it closes, and no more.
        self.servers = [Door(self._sock, self._protocol, self._context, self._strangers, BACKLOG)]  # type: ignore[list-item]
        self.started = True
        self._ticking = asyncio.create_task(self.main_loop())

    def _protocol(self) -> Impatient:
        return Impatient(self.config, self.server_state, {})

    async def stop(self) -> None:
        """Takes no more connections, lets what is under way end, and closes the rest."""
        self.should_exit = True
        if self._ticking is not None:
            await self._ticking
            await self.shutdown(sockets=[self._sock])


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED_FILES if hard == resource.RLIM_INFINITY else min(hard, WANTED_FILES)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class _Lines(logging.Formatter):
    """`2026-01-02T03:04:05.678Z info quorate.master: text`; journald adds its own time and can do without ours."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z"


def _log_to_stderr(*, verbose: bool) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("quorate").setLevel(logging.DEBUG if verbose else logging.INFO)
    # What it would report, the API's handlers and the links have reported already; the rest is peers that went away.
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    logging.getLogger("alembic").setLevel(logging.WARNING)
