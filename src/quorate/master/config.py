"""The master's settings as it runs with them: flag before environment before master.yaml before default."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, ip_address
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from quorate.master.settings import PoolNetwork, Settings
from quorate.model.clusterfile import ClusterFile, NetworkSettings, load_cluster_file
from quorate.network import catalogue
from quorate.network.flows import NetworkMode
from quorate.network.settings import modes_of
from quorate.scheduling.types import PoolPolicy

CONFIG_VARIABLE: Final = "QUORATE_CONFIG"
SYSTEM_CONFIG: Final = Path("/etc/quorate/master.yaml")
LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})

#: Environment variable to the key of master.yaml (and the flag) that it stands for.
VARIABLES: Final = {
    "QUORATE_MASTER_LISTEN": "listen",
    "QUORATE_MASTER_PORT": "port",
    "QUORATE_MASTER_TLS": "tls",
    "QUORATE_MASTER_NAMES": "names",
    "QUORATE_MASTER_STATE_DIR": "state_dir",
    "QUORATE_MASTER_CERTIFICATE": "certificate",
    "QUORATE_MASTER_CERTIFICATE_KEY": "certificate_key",
    "QUORATE_MASTER_CERTIFICATE_AUTHORITY": "certificate_authority",
    "QUORATE_MASTER_SECRETS_KEY": "secrets_key",
}
#: What a variable was called before; it is still taken.
_FORMER_VARIABLES: Final = {"QUORATE_MASTER_STATE": "state_dir"}


class ConfigError(Exception):
    """Settings that cannot be used; the text names where each comes from."""


@dataclass(frozen=True)
class Listener:
    """Where the API listens."""

    address: str
    port: int
    tls: bool

    @property
    def url(self) -> str:
        """As users on this machine write it."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.address, self.address)
        return f"{'https' if self.tls else 'http'}://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def described(self) -> str:
        """For the log, where one also wants to know who may come."""
        return f"{self.url} (all addresses)" if self.address in ("0.0.0.0", "::") else self.url


@dataclass(frozen=True)
class Config:
    """All that a master is started with."""

    state_directory: Path
    listeners: tuple[Listener, ...]
    #: Host names and addresses for a certificate of its own.
    names: tuple[str, ...] = ()
    certificate: Path | None = None
    certificate_key: Path | None = None
    certificate_authority: Path | None = None
    #: Where the key of the jobs' secrets lies, if not in the state directory.
    secrets_key: Path | None = None
    #: Logs of final jobs are removed after this (seconds).
    keep_logs_s: float = 30 * 86_400.0
    #: Bytes of the disk that logs leave free.
    reserve_bytes: int = 256 * 1024 * 1024
    #: Bytes that one user's contexts may take.
    contexts_per_user: int = 10 * 1024**3
    settings: Settings = field(default_factory=Settings)
    #: A file descriptor on which one line is written once the API listens; closed then.
    ready_fd: int | None = None
    verbose: bool = False

    @property
    def store_file(self) -> Path:
        """The database."""
        return self.state_directory / "master.db"

    @property
    def admin_token_file(self) -> Path:
        """The token of this machine's operator."""
        return self.state_directory / "admin.token"

    @property
    def ready_file(self) -> Path:
        """Exists while the API listens: JSON with pid, urls and fingerprint."""
        return self.state_directory / "master.ready"


def default_state_directory(environ: Mapping[str, str]) -> Path:
    """/var/lib/quorate as root, else the XDG state directory."""
    if os.geteuid() == 0:
        return Path("/var/lib/quorate/master")
    base = environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "quorate" / "master"


def load(flags: Mapping[str, Any], environ: Mapping[str, str], file: Path | None = None, **process: Any) -> Config:
    """The settings out of all their places; raises ConfigError or FileProblems.

    `flags` are by the keys of the `master` section (None where not given); `process` are Config's own fields that only
    a command line has, such as `ready_fd`.
    """
    named = file or (Path(environ[CONFIG_VARIABLE]) if environ.get(CONFIG_VARIABLE) else None)
    path = named or SYSTEM_CONFIG
    cluster = _read(path, must_exist=named is not None)
    variables = [*_FORMER_VARIABLES.items(), *VARIABLES.items()]
    given: dict[str, Any] = {key: environ[variable] for variable, key in variables if environ.get(variable)}
    given |= {key: value for key, value in flags.items() if value is not None}
    if isinstance(given.get("names"), str):
        given["names"] = tuple(filter(None, given["names"].split(",")))
    section = cluster.master.model_dump(mode="json", exclude_unset=True) | given
    try:
        master = type(cluster.master).model_validate(section)
    except ValidationError as error:
        raise ConfigError("; ".join(f"{_source(item['loc'])}: {item['msg']}" for item in error.errors())) from None
    tls = master.speaks_tls
    port = master.port if master.port is not None else catalogue.port("api-tls" if tls else "api")
    listeners = [Listener(master.listen, port, tls)]
    if tls and master.listen not in LOOPBACK and master.port is None:
        # The local command line needs no certificate to reach the master on its own machine.
        listeners.append(Listener("127.0.0.1", catalogue.port("api"), tls=False))
    return Config(
        state_directory=Path(master.state_dir) if master.state_dir else default_state_directory(environ),
        listeners=tuple(listeners),
        names=_names(master.listen, master.names),
        certificate=_path(master.certificate),
        certificate_key=_path(master.certificate_key),
        certificate_authority=_path(master.certificate_authority),
        secrets_key=_path(master.secrets_key),
        keep_logs_s=cluster.logs.keep,
        reserve_bytes=cluster.logs.reserve_mib * 1024 * 1024,
        contexts_per_user=cluster.contexts.per_user_mib * 1024 * 1024,
        settings=_settings(cluster, _names(master.listen, ()), port),
        **process,
    )


def _read(path: Path, *, must_exist: bool) -> ClusterFile:
    try:
        return load_cluster_file(path.read_text(), str(path))
    except FileNotFoundError:
        if must_exist:
            raise ConfigError(f"there is no file {path}") from None
        return ClusterFile()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None


def _settings(cluster: ClusterFile, names: tuple[str, ...], port: int) -> Settings:
    timers = cluster.timers
    # Wherever it listens: members are kept from the whole machine.
    outward = filter(_is_outward, (*names, *_own_addresses()))
    return Settings(
        heartbeat_s=timers.heartbeat,
        unreachable_s=timers.unreachable,
        replace_after_s=timers.replace_after,
        check_agents_s=timers.check_agents,
        stalled_s=timers.stalled,
        keep_jobs=cluster.jobs.keep_count,
        keep_jobs_s=cluster.jobs.keep,
        pools={pool.name: PoolPolicy(reserve_after_s=pool.reserve_after) for pool in cluster.pools},
        networks={pool.name: _network(cluster.settings(pool), pool.fabric) for pool in cluster.pools},
        network=_network(cluster.network, None),
        own_addresses=tuple(dict.fromkeys((*outward, *map(str, cluster.master.where.addresses)))),
        api_port=port,
    )


def _network(settings: NetworkSettings, fabric: str | None) -> PoolNetwork:
    usual = PoolNetwork()
    window = settings.window_set
    overlays = tuple(network for network in settings.overlays or () if isinstance(network, IPv4Network))
    if settings.overlays and not overlays:
        raise ConfigError("network.overlays: members have IPv4 addresses, so one of the networks must be IPv4")
    return PoolNetwork(
        modes=frozenset(map(NetworkMode, settings.modes)) if settings.modes else usual.modes,
        opened=modes_of(settings),
        overlays=overlays or usual.overlays,
        vnis=settings.vnis or usual.vnis,
        vxlan_port=settings.vxlan_port or usual.vxlan_port,
        enforcement=settings.enforcement,
        window=(window.first, window.last) if window else None,
        fabric=fabric,
    )


def _is_outward(name: str) -> bool:
    """Whether it is an address at which a member on another machine could find the master."""
    try:
        address = ip_address(name)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified)


def _names(listen: str, names: tuple[str, ...]) -> tuple[str, ...]:
    found = dict.fromkeys((*names, "localhost", "127.0.0.1", "::1", socket.gethostname()))
    if listen not in ("0.0.0.0", "::"):
        found[listen] = None
    else:
        for address in _own_addresses():
            found[address] = None
    return tuple(name for name in found if name)


def _own_addresses() -> list[str]:
    import psutil

    families = (socket.AF_INET, socket.AF_INET6)
    entries = [entry for interface in psutil.net_if_addrs().values() for entry in interface if entry.family in families]
    return [entry.address for entry in entries if not entry.address.startswith("fe80:")]


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None


def _source(loc: tuple[int | str, ...]) -> str:
    key = ".".join(map(str, loc))
    variable = next((name for name, of in VARIABLES.items() if of == key), "")
    return f"master.{key} (or --{key.replace('_', '-')}, or {variable})" if variable else f"master.{key}"
