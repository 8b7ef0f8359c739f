"""Whether the engine goes outside by the operator's proxy: it pulls images itself, and no pull can name one; pure."""

from collections.abc import Mapping
from typing import Any


def otherwise(url: str, said: Mapping[str, Any], service: str) -> str:
    """Why pulls do not go by the proxy at `url`, with the remedy for that service of systemd; empty where they do.

    `said` is the engine's /info. No password is told: the engine hides its own, and one in `url` is left out.
    """
    wanted = _plain(url)
    plain, secure = (_plain(str(said.get(key) or "")) for key in ("HttpProxy", "HttpsProxy"))
    # Registries speak HTTPS; that one way is enough.
    if secure == wanted and plain in (wanted, ""):
        return ""
    others = sorted({plain, secure} - {wanted, ""})
    how = f"by {' and '.join(others)}" if others else "over HTTPS without one"
    return (
        f"proxy in agent.yaml is {wanted}, but the engine pulls images {how}, and only its own service can be told: in "
        f"/etc/systemd/system/{service}.service.d/proxy.conf write [Service] and Environment=HTTP_PROXY={wanted} "
        f"HTTPS_PROXY={wanted} NO_PROXY=localhost, then systemctl daemon-reload && systemctl restart {service}"
    )


def _plain(url: str) -> str:
    """Without user, password and what follows HOST:PORT."""
    scheme, _, rest = (url if "://" in url or not url else f"http://{url}").partition("://")
    return f"{scheme}://{rest.partition('/')[0].rpartition('@')[2]}" if rest else ""
