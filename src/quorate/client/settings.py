"""Which master the client talks to, and as whom: flag, else environment, else client.yaml."""

import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from quorate.client.errors import SettingsError

MASTER_VARIABLE = "QUORATE_MASTER"
TOKEN_VARIABLE = "QUORATE_TOKEN"  # noqa: S105, the variable's name
CA_VARIABLE = "QUORATE_CA"
DEFAULT_MASTER = "http://127.0.0.1:8080"


@dataclass(frozen=True)
class Settings:
    """Where the master is and how to be let in. `ca` is a PEM file; none means the system's authorities."""

    master: str
    token: str = ""
    ca: Path | None = None
    #: For people: where the URL comes from.
    source: str = "the default"

    def __repr__(self) -> str:
        return f"Settings(master={self.master!r}, source={self.source!r})"


def config_dir() -> Path:
    """The user's folder for Quorate's settings."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "quorate"


def settings_file() -> Path:
    """Where `quorate login` and `quorate up` write what they know."""
    return config_dir() / "client.yaml"


def check_url(url: str, source: str) -> str:
    """Returns the URL without a path's end; raises SettingsError for what is no http(s) URL."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        hint = f"write it as http://{url}" if "://" not in url else "write it as https://master.example:8443"
        raise SettingsError(f"{source} gives {url!r}, which is no URL of a master", hint)
    return url.rstrip("/")


def resolve(master: str | None = None, token: str | None = None, ca: Path | None = None) -> Settings:
    """Flag beats environment beats client.yaml beats the master on this machine.

    A token from client.yaml goes only to the master that stands beside it, never to a URL from elsewhere.
    """
    known = load() or of_this_machine()
    if master:
        url, source = master, "--master"
    elif os.environ.get(MASTER_VARIABLE):
        url, source = os.environ[MASTER_VARIABLE], MASTER_VARIABLE
    elif known:
        url, source = known.master, known.source
    else:
        url, source = DEFAULT_MASTER, "the default"
    url = check_url(url, source)
    if known and known.master != url:
        known = None
    ca_variable = os.environ.get(CA_VARIABLE)
    return Settings(
        master=url,
        token=token or os.environ.get(TOKEN_VARIABLE) or (known.token if known else ""),
        ca=ca or (Path(ca_variable) if ca_variable else known.ca if known else None),
        source=source,
    )


def load() -> Settings | None:
    """Reads client.yaml; none where there is no such file. Raises SettingsError for one that cannot be used."""
    path = settings_file()
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from None
    try:
        data = _parse(text)
    except ValueError as error:
        raise SettingsError(f"{path} is no YAML: {error}", "quorate login") from None
    if not isinstance(data, dict) or not isinstance(data.get("master"), str):
        raise SettingsError(f"{path} does not name a master", "quorate login URL --token @FILE")
    ca = data.get("ca")
    return Settings(
        master=check_url(data["master"], str(path)),
        token=str(data.get("token") or ""),
        ca=Path(ca) if ca else None,
        source=str(path),
    )


def _parse(text: str) -> object:
    """JSON is YAML as well, and `save` writes JSON: reading it needs no YAML parser, whose import takes 20 ms."""
    try:
        return json.loads(text)
    except ValueError:
        import yaml

        try:
            return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506, both are safe
        except yaml.YAMLError as error:
            raise ValueError(" ".join(str(error).split())) from None


def of_this_machine() -> Settings | None:
    """The master that runs on this machine as this user or, for root, as a service: it leaves its URL and a token.

    Whoever can read its state folder holds the cluster anyway. None where there is no such master.
    """
    home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "quorate"
    folder = (Path("/var/lib/quorate") if os.geteuid() == 0 else home) / "master"
    try:
        urls = json.loads((folder / "master.ready").read_text())["urls"]
        token = (folder / "admin.token").read_text().strip()
        # Without TLS, for on this machine its own certificate is not known to the system.
        url = next(url for url in urls if url.startswith("http://"))
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        return None
    return Settings(check_url(url, str(folder)), token, source="the master on this machine")


def save(settings: Settings) -> Path:
    """Writes client.yaml, readable by its owner alone; the file is replaced whole or not at all."""
    path = settings_file()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    data = {"master": settings.master, "token": settings.token}
    if settings.ca:
        data["ca"] = str(settings.ca)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, stat.S_IRUSR | stat.S_IWUSR)
    with os.fdopen(descriptor, "w") as file:
        json.dump(data, file, indent=2)
        file.write("\n")
    draft.replace(path)
    return path


def forget(master: str) -> bool:
    """Removes client.yaml if it names this master; says whether it did."""
    saved = load()
    if saved is None or saved.master != master.rstrip("/"):
        return False
    settings_file().unlink(missing_ok=True)
    return True
