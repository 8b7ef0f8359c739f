"""nft(8) as a library: load a text as one transaction, read tables back, name their content so that a change shows."""

import ctypes
import hashlib
import json
from functools import lru_cache
from typing import Any, Final

#: libnftables(3): listings as JSON.
_OUTPUT_JSON: Final = 1 << 4
#: What a listing holds beyond what was loaded.
_VOLATILE: Final = ("handle", "packets", "bytes", "index")

Item = dict[str, Any]


class NftError(Exception):
    """nft refused; the text is what it said."""


def load(text: str) -> None:
    """All of it or nothing, into the namespace that this thread is in. Raises NftError."""
    _run(text)


def tables(family: str, name: str) -> list[Item]:
    """What the table holds, as nft's JSON lists it; empty where there is none."""
    try:
        listed = json.loads(_run(f"list table {family} {name}", _OUTPUT_JSON))
    except NftError as error:
        if "No such file" in str(error):
            return []
        raise
    return [item for item in listed["nftables"] if "metainfo" not in item]


def ruleset() -> list[Item]:
    """All tables of the namespace, whoever made them."""
    return [item for item in json.loads(_run("list ruleset", _OUTPUT_JSON))["nftables"] if "metainfo" not in item]


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


def _run(text: str, output: int = 0) -> str:
    library = _library()
    # Its socket belongs to the namespace that this thread is in now, so each call has a context of its own.
    context = library.nft_ctx_new(0)
    try:
        library.nft_ctx_output_set_flags(context, output)
        if library.nft_ctx_buffer_output(context) or library.nft_ctx_buffer_error(context):
            raise NftError("nftables has no memory left")
        if library.nft_run_cmd_from_buffer(context, text.encode()):
            said = str(library.nft_ctx_get_error_buffer(context).decode(errors="replace")).strip()
            raise NftError(f"nftables: {said[:1000]}")
        return str(library.nft_ctx_get_output_buffer(context).decode())
    finally:
        library.nft_ctx_free(context)


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL:
    """What nft(8) itself is made of; starting that program takes several times as long as what it does."""
    try:
        library = ctypes.CDLL("libnftables.so.1")
    except OSError as error:
        raise NftError("nftables is not installed: apt install nftables") from error
    library.nft_ctx_new.restype = ctypes.c_void_p
    for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
        getattr(library, name).restype = ctypes.c_char_p
    for name in (
        "nft_ctx_free", "nft_ctx_buffer_output", "nft_ctx_buffer_error", "nft_ctx_get_output_buffer",
        "nft_ctx_get_error_buffer",
    ):  # fmt: skip
        getattr(library, name).argtypes = [ctypes.c_void_p]
    library.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
    library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    return library
