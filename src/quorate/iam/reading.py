"""Makes out what a file is, and cuts it into statements, rules and documents that know their lines."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

import yaml

from quorate.iam.finding import UnreadableFile
from quorate.iam.oci.lint import RuleText, StatementText
from quorate.iam.oci.parser import START_WORDS
from quorate.iam.place import START, Place, suggestion
from quorate.iam.positions import Path, positions, yaml_positions

# A policy is some kilobytes; what is larger is not one, and reading it would only cost memory.
MAX_BYTES = 4 * 1024 * 1024
# YAML is read far more slowly, and only single roles and policies are written in it.
MAX_YAML_BYTES = 256 * 1024
MAX_YAML_DEPTH = 64

_RULE_START = re.compile(r"(any|all)\s*\{|(instance|resource|tag)\.[\w.-]+", re.IGNORECASE)
_COMMENT = re.compile(r"\s*(#|//|--)")
_WORD = re.compile(r"\S+")
_QUOTED = re.compile(r'"([^"]+)",?')


_GCLOUD = re.compile(r"^gcloud\s", re.MULTILINE)
_ROLES_ADVICE = (
    "its roles, which `quorate iam policy --cloud gcp --part roles` prints as JSON, can be checked, and so can "
    "what `gcloud projects get-iam-policy PROJECT --format=json` prints"
)


class Kind(StrEnum):
    """What a file holds."""

    OCI = "oci"
    AWS = "aws"
    GCP = "gcp"


@dataclass(frozen=True, slots=True)
class Input:
    """A file, made out. OCI: statements and rules. AWS and GCP: the document and where its parts stand."""

    kind: Kind
    statements: tuple[StatementText, ...] = ()
    rules: tuple[RuleText, ...] = ()
    document: object = None
    places: dict[Path, Place] = field(default_factory=dict)

    def place(self, *path: str | int) -> Place:
        """Where the part of the document at `path` stands, or the nearest part around it."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, START)


def make_out(data: bytes) -> Input:
    """What the file is. Raises UnreadableFile, with the place, for all that is no policy at all."""
    text = _decoded(data)
    stripped = text.lstrip("\ufeff \t\r\n")
    if not stripped:
        raise UnreadableFile("the file is empty")
    if stripped[0] in "[{":
        return _structured(_json(text), positions(text))
    if re.search(r"^(title|includedPermissions|bindings|statements|Statement|Version)\s*:", text, re.MULTILINE):
        return _structured(_yaml(text), yaml_positions(text))
    return _plain(text)


def _decoded(data: bytes) -> str:
    if len(data) > MAX_BYTES:
        raise UnreadableFile(f"the file is larger than {MAX_BYTES >> 20} MiB; no policy is")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UnreadableFile("the file is UTF-16; save it as UTF-8")
    if b"\0" in data:
        line = data[: data.index(b"\0")].count(b"\n") + 1
        raise UnreadableFile("the file is binary", Place(line, 1))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line_start = before.rfind(b"\n") + 1
        place = Place(before.count(b"\n") + 1, error.start - line_start + 1)
        raise UnreadableFile(f"the file is not UTF-8 text: byte 0x{data[error.start]:02x}", place) from None


def _json(text: str) -> object:
    def without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise UnreadableFile(f'the key "{twice}" stands twice in one object', _place_of_key(text, twice))
        return found

    def no_constants(name: str) -> object:
        raise UnreadableFile(f"{name} is not JSON")

    try:
        document = json.loads(text, object_pairs_hook=without_duplicates, parse_constant=no_constants)
        json.dumps(document, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        reason, offset, hint = error.msg[0].lower() + error.msg[1:], error.pos, ""
        before = re.search(r",\s*$", text[: error.pos])
        if before or re.match(r",\s*[}\]]", text[error.pos :]):
            offset, hint = before.start() if before else offset, "; remove the comma before the closing bracket"
        raise UnreadableFile(f"the JSON is malformed: {reason}{hint}", _place_at(text, offset)) from None
    except RecursionError:
        raise UnreadableFile("the JSON is nested too deeply") from None
    except UnicodeEncodeError:
        raise UnreadableFile("the JSON escapes half of a character (a lone surrogate)") from None
    except ValueError as error:
        raise UnreadableFile(f"the JSON is malformed: {error}") from None
    return document


def _place_of_key(text: str, key: str) -> Place:
    written = json.dumps(key)
    first = text.find(written)
    return _place_at(text, max(text.find(written, first + 1), first, 0))


def _place_at(text: str, offset: int) -> Place:
    return Place(text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset))


def _yaml(text: str) -> object:
    if len(text) > MAX_YAML_BYTES:
        raise UnreadableFile(f"the YAML has {len(text)} characters; at most {MAX_YAML_BYTES} are read")
    # Looked for beforehand, because the parser's time grows with the square of the depth.
    depth = 0
    for number, line in enumerate(text.split("\n"), start=1):
        depth += line.count("[") + line.count("{") - line.count("]") - line.count("}")
        if max(depth, line.count("[")) > MAX_YAML_DEPTH:
            raise UnreadableFile("the YAML is nested too deeply", Place(number, 1))
    try:
        for event in yaml.parse(text):
            if isinstance(event, yaml.AliasEvent) and event.start_mark is not None:
                place = Place(event.start_mark.line + 1, event.start_mark.column + 1)
                raise UnreadableFile("a policy in YAML must not use aliases; write it out", place)
        # Everything stays a string: the policy's version is no date, and nobody's name is a truth value.
        return yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506, which knows only the safe loader as safe
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = Place(mark.line + 1, mark.column + 1) if mark else START
        raise UnreadableFile(f"the YAML is malformed: {error.problem}", place) from None
    except RecursionError:
        raise UnreadableFile("the YAML is nested too deeply") from None
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise UnreadableFile(f"the YAML is malformed: {str(error).splitlines()[0]}") from None


# Where the document stands in what `aws iam get-role-policy`, `get-policy-version` and `get-role` print, and in what
# `quorate iam policy --json` does.
_AROUND_AWS: tuple[Path, ...] = (
    ("PolicyDocument",),
    ("PolicyVersion", "Document"),
    ("Role", "AssumeRolePolicyDocument"),
    ("policy",),
)


def _within(document: object, path: Path) -> object:
    for key in path:
        document = document.get(key) if isinstance(document, dict) else None
    return document


def _structured(document: object, places: dict[Path, Place]) -> Input:
    if isinstance(document, dict):
        for around in _AROUND_AWS:
            if isinstance(policy := _within(document, around), dict) and "Statement" in policy:
                deep = len(around)
                inner = {path[deep:]: place for path, place in places.items() if path[:deep] == around}
                return Input(Kind.AWS, document=policy, places=inner)
        if document.get("cloud") == "gcp" and isinstance(document.get("roles"), list):
            raise UnreadableFile("this is a whole answer of `quorate iam policy`; " + _ROLES_ADVICE)
        if document and all(isinstance(each, dict) and "includedPermissions" in each for each in document.values()):
            return Input(Kind.GCP, document=document, places=places)
        if "Statement" in document or "Version" in document:
            return Input(Kind.AWS, document=document, places=places)
        if "includedPermissions" in document or "bindings" in document:
            return Input(Kind.GCP, document=document, places=places)
    statements = tuple(_oci_statements(document, places))
    rules = tuple(_oci_rules(document, places))
    if not statements and not rules:
        raise UnreadableFile(
            "the document is no policy: expected OCI statements, an AWS document with Statement, "
            "or a GCP role with includedPermissions or policy with bindings"
        )
    return Input(Kind.OCI, statements, rules)


def _oci_statements(document: object, places: dict[Path, Place]) -> Iterator[StatementText]:
    """From a list of strings, one policy, or what `oci iam policy list` prints."""
    for path, policy in _items(document):
        if isinstance(policy, str):
            yield StatementText(_on_one_line(policy), _inside(places, path))
        elif isinstance(policy, dict) and isinstance(policy.get("statements"), list):
            name, compartment = str(policy.get("name", "")), str(policy.get("compartment-id", ""))
            for index, text in enumerate(policy["statements"]):
                where = _inside(places, (*path, "statements", index))
                if not isinstance(text, str):
                    raise UnreadableFile(f"a statement must be a string, not {type(text).__name__}", where)
                yield StatementText(_on_one_line(text), where, name, compartment)


def _oci_rules(document: object, places: dict[Path, Place]) -> Iterator[RuleText]:
    for path, group in _items(document):
        if isinstance(group, dict):
            for key in ("matching-rule", "matchingRule", "matching_rule"):
                if isinstance(group.get(key), str):
                    yield RuleText(_on_one_line(group[key]), _inside(places, (*path, key)), str(group.get("name", "")))


def _items(document: object) -> Iterator[tuple[Path, object]]:
    if isinstance(document, list):
        for index, item in enumerate(document):
            yield (index,), item
    elif isinstance(document, dict):
        yield (), document
        for key in ("data", "dynamic_groups", "dynamicGroups"):
            inner = document.get(key)
            for path, item in _items(inner) if isinstance(inner, list | dict) else ():
                yield (key, *path), item


def _on_one_line(text: str) -> str:
    """A string of JSON lies on one line of its file, whatever line breaks it spells out."""
    return text.replace("\n", " ").replace("\r", " ")


def _inside(places: dict[Path, Place], path: Path) -> Place:
    """Where the text in a JSON string begins: after its quote."""
    found = places.get(path)
    return Place(found.line, found.column + 1) if found else START


def _plain(text: str) -> Input:
    """Statements and rules as text: each begins a line, may go on over the next ones, and ends at a blank line."""
    statements: list[StatementText] = []
    rules: list[RuleText] = []
    familiar = False
    for unit, place in _units(text):
        word = unit.split(maxsplit=1)[0]
        familiar = familiar or bool(_RULE_START.match(unit)) or suggestion(word, START_WORDS) is not None
        if _RULE_START.match(unit):
            rules.append(RuleText(unit, place))
        else:
            statements.append(StatementText(unit, place))
    if not statements and not rules:
        raise UnreadableFile("the file holds comments only, and no statement")
    if not familiar and (script := _GCLOUD.search(text)):
        place = _place_at(text, script.start())
        raise UnreadableFile("this is a script of gcloud commands, not a policy; " + _ROLES_ADVICE, place)
    if not familiar:
        raise UnreadableFile(
            "the file holds no policy statement: none of its lines begins with Allow", statements[0].place
        )
    return Input(Kind.OCI, tuple(statements), tuple(rules))


def _units(text: str) -> Iterator[tuple[str, Place]]:
    lines: list[str] = []
    place = START
    for number, line in enumerate(text.split("\n"), start=1):
        stripped = line.strip()
        if not stripped or _COMMENT.match(line):
            if lines:
                yield "\n".join(lines), place
            lines = []
            continue
        if quoted := _QUOTED.fullmatch(stripped):
            # A list of statements as Terraform and Python write them: quotes round each, a comma after.
            stripped, line = quoted.group(1), line.replace('"', " ", 1).rstrip().rstrip(",").rstrip('"')
        begins = _begins(stripped) and not _open(lines)
        if lines and not begins:
            lines.append(line)
            continue
        if lines:
            yield "\n".join(lines), place
        lines, place = [stripped], Place(number, line.index(stripped[0]) + 1)
    if lines:
        yield "\n".join(lines), place


def _begins(line: str) -> bool:
    first = _WORD.match(line)
    return bool(first and first.group().lower() in START_WORDS) or bool(_RULE_START.match(line))


def _open(lines: list[str]) -> bool:
    """Whether braces are still open, so that a line that looks like a rule is a condition's next part."""
    text = "\n".join(lines)
    return text.count("{") > text.count("}")
