"""nft(8), driven: load a text as one transaction, read tables back, and name their content so that a change shows."""

import hashlib
import json
import subprocess
from typing import Any, Final

#: Seconds; ten thousand members load in a fraction of one.
_TIMEOUT_S: Final = 60.0
#: What a listing holds beyond what was loaded.
_VOLATILE: Final = ("handle", "packets", "bytes", "index")

Item = dict[str, Any]


class NftError(Exception):
    """nft refused; the text is what it said."""


def load(text: str) -> None:
    """All of it or nothing, into the namespace that this thread is in. Raises NftError."""
    _run(["-f", "-"], text)


def tables(family: str, name: str) -> list[Item]:
    """What the table holds, as nft's JSON lists it; empty where there is none."""
    try:
        listed = json.loads(_run(["-j", "list", "table", family, name]))
    except NftError as error:
        if "No such file" in str(error):
            return []
        raise
    return [item for item in listed["nftables"] if "metainfo" not in item]


def ruleset() -> list[Item]:
    """All tables of the namespace, whoever made them."""
    return [item for item in json.loads(_run(["-j", "list", "ruleset"]))["nftables"] if "metainfo" not in item]


def fingerprint(*listings: list[Item]) -> str:
    """The same for the same rules, whatever has been counted and learnt since; 32 hex digits."""
    text = json.dumps([[_lasting(item) for item in listing] for listing in listings], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _lasting(item: Any) -> Any:
    if isinstance(item, dict):
        # A set with a bounded size is one that packets fill; nft 1.0 does not list its flag `dynamic`.
        learnt = "size" in item
        skipped = (*_VOLATILE, "elem") if learnt else _VOLATILE
        return {key: _lasting(value) for key, value in item.items() if key not in skipped}
    if isinstance(item, list):
        return [_lasting(part) for part in item]
    return item


def _run(arguments: list[str], text: str = "") -> str:
    try:
        done = subprocess.run(
            ["nft", *arguments], input=text, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except FileNotFoundError as error:
        raise NftError("nft is not installed: apt install nftables") from error
    except subprocess.TimeoutExpired as error:
        raise NftError(f"nft has not answered within {_TIMEOUT_S:.0f} s") from error
    if done.returncode:
        raise NftError(f"nft {' '.join(arguments)}: {done.stderr.strip()[:1000]}")
    return done.stdout
