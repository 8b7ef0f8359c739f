"""How an engine comes to go outside by the operator's proxy: it pulls images itself, and no pull can name one; pure."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

#: Beside the unit of the engine's service, in a folder named after it: what systemd adds to it (systemd.unit(5)).
DROP_IN: Final = "quorate-proxy.conf"
#: Go never takes a proxy to these, and Podman's other parts should not either.
_DIRECT: Final = ("localhost", "127.0.0.0/8", "::1")


class Detour(NamedTuple):
    """What is wrong with an engine's way outside, and what to do."""

    seen: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.seen}: {self.remedy}"


def drop_in(url: str, direct: Sequence[str]) -> str:
    """The file that sends an engine's service by the proxy at `url`, but for the names and networks in `direct`."""
    past = ",".join(dict.fromkeys((*_DIRECT, *direct)))
    variables = {"HTTP_PROXY": url, "HTTPS_PROXY": url, "NO_PROXY": past}
    lines = (f"Environment={_quoted(f'{name}={value}')}" for name, value in variables.items())
    return "\n".join(("# proxy: of agent.yaml, for the pulls of images.", "[Service]", *lines, ""))


def otherwise(url: str, said: Mapping[str, Any], service: str) -> Detour | None:
    """Why pulls do not go by the proxy at `url`, with the remedy for that service of systemd; None where they do.

    `said` is the engine's /info. No password is told: the engine hides its own, and one in `url` is left out.
    """
    wanted = _plain(url)
    plain, secure = (_plain(str(said.get(key) or "")) for key in ("HttpProxy", "HttpsProxy"))
    # Registries speak HTTPS; that one way is enough.
    if secure == wanted and plain in (wanted, ""):
        return None
    others = sorted({plain, secure} - {wanted, ""})
    how = f"by {' and '.join(others)}" if others else "over HTTPS without one"
    return Detour(
        f"proxy in agent.yaml is {wanted}, but the engine pulls images {how}, and only its own service can be told",
        f"sudo quorate service install engine-proxy, which writes /etc/systemd/system/{service}.service.d/{DROP_IN}, "
        f"then sudo systemctl restart {service}",
    )


def _plain(url: str) -> str:
    """Without user, password and what follows HOST:PORT."""
    scheme, _, rest = (url if "://" in url or not url else f"http://{url}").partition("://")
    return f"{scheme}://{rest.partition('/')[0].rpartition('@')[2]}" if rest else ""


def _quoted(word: str) -> str:
    """As systemd reads an assignment: % is for specifiers, and quotes keep what they enclose together."""
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%") + '"'
