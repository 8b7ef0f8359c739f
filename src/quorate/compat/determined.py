"""Determined's key names in a job file, where they mean the same as Quorate's.

Facts from Determined's experiment configuration reference. What means something else there is refused with the word to
use, not translated: a priority there is better when it is lower, and here when it is higher.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from quorate.model.yamlfile import Document, FileProblem, FileProblems, Path

#: Their path, and ours. A value moves as it is.
RENAMED: Mapping[Path, Path] = {
    ("max_restarts",): ("restarts",),
    ("resources", "resource_pool"): ("resources", "pool"),
    ("resources", "shm_size"): ("shm",),
    ("environment", "add_capabilities"): ("capabilities",),
    ("work_dir",): ("workdir",),
}
#: Their path, and what to do instead.
DIFFERENT: Mapping[Path, str] = {
    ("resources", "priority"): "write priority: at the top; here a higher number goes first",
    ("resources", "weight"): "there is no fair share here; use priority",
    ("searcher",): "Quorate runs one training a job; start one job for each set of parameters",
    ("environment", "image"): "write image: at the top; environment holds variables alone",
    ("environment", "registry_auth"): "agents use their own credentials, or those of `docker login` on their machine",
}


@dataclass
class _Moving:
    """The document that is being translated."""

    document: Document
    problems: list[FileProblem]

    def get(self, path: Path) -> Any:
        value: Any = self.document.data
        for part in path:
            if not isinstance(value, Mapping) or part not in value:
                return None
            value = value[part]
        return value

    def pop(self, path: Path) -> Any:
        value = self.get(path)
        parent = self.get(path[:-1]) if len(path) > 1 else self.document.data
        del parent[path[-1]]
        return value

    def put(self, path: Path, value: Any, source: Path) -> None:
        """Sets what stood at `source`; mistakes in it are told at its own line."""
        parent = self.document.data
        for part in path[:-1]:
            parent = parent.setdefault(part, {})
        if path[-1] in parent:
            self.refuse(source, f"is the same as {'.'.join(map(str, path))}, which is set as well", "keep one of them")
            return
        parent[path[-1]] = value
        if source in self.document.values:
            self.document.values[path] = self.document.values[source]

    def refuse(self, path: Path, cause: str, hint: str) -> None:
        self.problems.append(self.document.problem(path, cause, hint, of_key=True))


def translate(document: Document) -> Document:
    """Returns the document with Determined's names replaced; raises FileProblems for those that mean something else."""
    if not isinstance(document.data, dict):
        return document
    moving = _Moving(document, [])
    for path, hint in DIFFERENT.items():
        if moving.get(path) is not None:
            moving.refuse(path, "is Determined's and means something else here", hint)
    for theirs, ours in RENAMED.items():
        if moving.get(theirs) is not None:
            moving.put(ours, moving.pop(theirs), theirs)
    _single_node(moving)
    _slots_per_trial(moving)
    _environment_variables(moving)
    _bind_mounts(moving)
    if moving.problems:
        raise FileProblems(moving.problems)
    return document


def _single_node(moving: _Moving) -> None:
    path: Path = ("resources", "is_single_node")
    if moving.get(path) is not None and moving.pop(path) is True:
        moving.put(("placement",), "single", path)


def _slots_per_trial(moving: _Moving) -> None:
    """There it is the sum over all members, here `slots` are each member's."""
    path: Path = ("resources", "slots_per_trial")
    total = moving.get(path)
    if total is None:
        return
    nodes = moving.get(("resources", "nodes")) or 1
    moving.pop(path)
    if not isinstance(total, int) or not isinstance(nodes, int) or nodes < 1 or total % nodes:
        moving.refuse(path, f"{total!r} slots cannot be shared equally by {nodes!r} members", "set resources.slots")
        return
    moving.put(("resources", "slots"), total // nodes, path)


def _environment_variables(moving: _Moving) -> None:
    """A list of NAME=VALUE there, a mapping here; theirs may also be a mapping by accelerator, which is refused."""
    path: Path = ("environment", "environment_variables")
    variables = moving.get(path)
    if variables is None:
        return
    moving.pop(path)
    if not isinstance(variables, list) or not all(isinstance(item, str) and "=" in item for item in variables):
        moving.refuse(path, "must be a list of NAME=VALUE", "environment: {NAME: value}")
        return
    for at, item in enumerate(variables):
        name, _, value = item.partition("=")
        moving.put(("environment", name), value, (*path, at))


#: Determined's names in an entry of `bind_mounts`, and ours in one of `mounts`.
_MOUNT_KEYS = {"host_path": "source", "container_path": "target", "read_only": "read_only"}


def _bind_mounts(moving: _Moving) -> None:
    path: Path = ("bind_mounts",)
    mounts = moving.get(path)
    if mounts is None:
        return
    if not isinstance(mounts, list) or not all(isinstance(item, dict) for item in mounts):
        moving.refuse(path, "must be a list of mappings", "mounts: [{source: /data, target: /data, read_only: true}]")
        return
    translated = []
    for at, item in enumerate(mounts):
        for key in item.keys() - _MOUNT_KEYS.keys():
            moving.refuse((*path, at, key), f"{key!r} is no key of a mount here", "source, target and read_only are")
        translated.append({ours: item[theirs] for theirs, ours in _MOUNT_KEYS.items() if theirs in item})
        for theirs, ours in _MOUNT_KEYS.items():
            if (*path, at, theirs) in moving.document.values:
                moving.document.values[("mounts", at, ours)] = moving.document.values[(*path, at, theirs)]
        if (*path, at) in moving.document.values:
            moving.document.values[("mounts", at)] = moving.document.values[(*path, at)]
    moving.put(("mounts",), translated, path)
    moving.pop(path)
