"""`quorate login`: remembers a master and a token, and which authority vouches for that master."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from quorate.cli.app import new_group
from quorate.cli.errors import CommandError, usage
from quorate.cli.output import counted, note
from quorate.cli.session import Token, read_token

app = new_group("Remember a master and your token.")


@app.command()
def login(
    url: Annotated[str | None, typer.Argument(metavar="URL", help="The master, such as https://host:8443.")] = None,
    token: Token = None,
    ca: Annotated[Path | None, typer.Option("--ca", metavar="FILE", help="The authority that signed it (PEM).")] = None,
    fingerprint: Annotated[
        str | None, typer.Option(metavar="SHA256", help="Trust the master's own authority if it has this fingerprint.")
    ] = None,
    local: Annotated[bool, typer.Option("--local", help="The cluster that `quorate up` started.")] = False,
) -> None:
    """Remember a master and your token, in client.yaml, readable by you alone. The token is asked for if not given.

    \b
      quorate login https://master.example:8443 --token @ada.token --ca ca.pem
      quorate login --local
    """
    from quorate.client.api import Client
    from quorate.client.settings import Settings, check_url, config_dir, save

    if local:
        _login_local()
        return
    if url is None:
        usage("which master?", "quorate login https://master.example:8443")
    url = check_url(url, "the command line")
    pem = ""
    if fingerprint:
        from quorate.client.trust import fetch_authority

        pem = fetch_authority(url, fingerprint)
    elif ca:
        pem = _certificates(ca)
    secret = read_token(token)
    if not secret:
        import os

        secret = os.environ.get("QUORATE_TOKEN") or _ask()
    with _kept(config_dir(), pem) as kept_ca:
        settings = Settings(url, secret, kept_ca, "the command line")
        with Client(settings) as client:
            master = client.master()
        path = save(settings)
    print(f"Logged in to {url} (cluster {master.cluster}, {counted(master.agents, 'agent')})")
    note(f"remembered in {path}")


def _login_local() -> None:
    from quorate.cli.localcluster import LocalCluster, default_folder
    from quorate.client.settings import save

    cluster = LocalCluster.load(default_folder())
    if cluster is None or not cluster.running():
        raise CommandError("no local cluster is up", hint="quorate up")
    save(cluster.settings())
    print(f"Logged in to the local cluster at {cluster.url}")


def _ask() -> str:
    if not sys.stdin.isatty():
        usage("a token is needed", "quorate login URL --token @FILE, or - for stdin")
    import getpass

    return getpass.getpass("Token (it is not shown): ").strip()


def _certificates(file: Path) -> str:
    import ssl

    try:
        pem = file.read_text()
        ssl.create_default_context(cadata=pem)
    except (OSError, ValueError) as error:
        # An SSLError is an OSError, too, without a word for people.
        why = error.strerror if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) else None
        usage(f"--ca {file}: {why or 'no certificate in PEM form'}", f"openssl x509 -in {file} -noout -subject")
    return pem


@contextmanager
def _kept(folder: Path, pem: str) -> Iterator[Path | None]:
    """The authority's certificate, under a name of its own: a login that fails takes nothing from the one before."""
    if not pem:
        yield None
        return
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / f"ca-{hashlib.sha256(pem.encode()).hexdigest()[:16]}.pem"
    known = path.exists()
    path.write_text(pem)
    try:
        yield path
    except BaseException:
        if not known:
            path.unlink()
        raise
