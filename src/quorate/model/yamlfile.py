"""Reads a YAML file into a pydantic model, and tells every mistake with its line and what was probably meant."""

from __future__ import annotations

import copy
import difflib
import inspect
import math
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

Model = TypeVar("Model", bound=BaseModel)
Path = tuple[str | int, ...]

#: Generous for a file that a person wrote, small enough that reading it takes no time.
MAX_BYTES = 1 << 20
#: Nothing that a person wrote is nested deeper; the parser recurses once per level.
MAX_DEPTH = 64
#: Counted after aliases are expanded, so that a "billion laughs" file is refused while it is still small.
MAX_NODES = 100_000


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A place in a text; lines and columns count from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class FileProblem:
    """One mistake in a file: where, what, and what was probably meant."""

    file: str
    place: Place
    key: str
    cause: str
    hint: str | None = None

    def __str__(self) -> str:
        hint = f" ({self.hint})" if self.hint else ""
        key = f"{self.key}: " if self.key else ""
        return f"{self.file}:{self.place.line}:{self.place.column}: {key}{self.cause}{hint}"


class FileProblems(Exception):
    """All the mistakes that were found in one file, in the order of their lines; at least one."""

    def __init__(self, problems: Sequence[FileProblem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: problem.place))
        super().__init__("\n".join(map(str, self.problems)))


@dataclass(slots=True)
class Document:
    """What a file says, as plain values, with the place of every key and value."""

    file: str
    data: Any
    keys: dict[Path, Place] = field(default_factory=dict)
    values: dict[Path, Place] = field(default_factory=dict)

    def place(self, path: Path, *, of_key: bool = False) -> Place:
        """Return where `path` stands, or its nearest parent that stands in the file."""
        if of_key and path in self.keys:
            return self.keys[path]
        for length in range(len(path), -1, -1):
            if path[:length] in self.values:
                return self.values[path[:length]]
        return Place(1, 1)

    def shown(self, path: Path) -> str:
        """Return where the value at `path` stands, as `FILE:LINE:COLUMN`; nothing where the file does not hold it."""
        place = self.values.get(path)
        return f"{self.file}:{place.line}:{place.column}" if place else ""

    def problem(self, path: Path, cause: str, hint: str | None = None, *, of_key: bool = False) -> FileProblem:
        """Return a mistake at `path` of this document."""
        return FileProblem(self.file, self.place(path, of_key=of_key), dotted(path), cause, hint)


def load_yaml(text: str, filename: str, model: type[Model]) -> Model:
    """Read `text` as YAML and check it against `model`; raise FileProblems with everything that is wrong with it."""
    return validate(parse_yaml(text, filename), model)


def parse_yaml(text: str, filename: str) -> Document:
    """Read `text` as one YAML 1.2 document of plain values; an empty one is an empty mapping.

    Raises FileProblems for what is no YAML, for duplicate keys, for tags of other types, and beyond the limits above.
    """
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise FileProblems([FileProblem(filename, Place(1, 1), "", f"the file is larger than {MAX_BYTES >> 20} MiB")])
    reader = _Reader(text, filename)
    try:
        return reader.read()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        cause = ", ".join(part for part in (error.context, error.problem) if part)
        raise FileProblems([FileProblem(filename, _place(mark), "", f"not YAML: {cause}")]) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - (text.rfind("\n", 0, error.position) + 1) + 1
        raise FileProblems([FileProblem(filename, Place(line, column), "", f"not YAML: {error.reason}")]) from None


def validate(document: Document, model: type[Model]) -> Model:
    """Check `document` against `model`; raise FileProblems with everything that is wrong with it."""
    if not isinstance(document.data, Mapping):
        raise FileProblems([document.problem((), f"a mapping of keys is needed here, not {_kind(document.data)}")])
    try:
        return model.model_validate(document.data)
    except ValidationError as error:
        found = [dict(item) for item in error.errors()]
        raise FileProblems([_explain(document, model, item) for item in found if not _echo(item, found)]) from None


def _echo(error: dict[str, Any], found: list[dict[str, Any]]) -> bool:
    """Say whether a list is too short only because pydantic does not count items that are wrong themselves."""
    loc = error["loc"]
    return error["type"] == "too_short" and any(
        len(item["loc"]) > len(loc) and item["loc"][: len(loc)] == loc for item in found
    )


def dotted(path: Path) -> str:
    """Return a path as a person writes it: `pools[0].name`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def did_you_mean(word: str, known: Sequence[str]) -> str | None:
    """Return "did you mean ...?" for the known word nearest to `word`, if one is near."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else None


# ---------------------------------------------------------------------------------------------------- reading


def _problem(cause: str, mark: Any) -> yaml.MarkedYAMLError:
    """Return a mistake that the YAML grammar permits and Quorate does not."""
    return yaml.MarkedYAMLError(problem=cause, problem_mark=mark)


class _Reader:
    """Builds the document straight from the parser's events: PyYAML's own constructor would lose the places, follow the
    YAML 1.1 rules (`no` is false, `22:22` is 1342) and expand aliases without a limit."""

    def __init__(self, text: str, filename: str) -> None:
        loader = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
        self.events: Iterator[Any] = yaml.parse(text, Loader=loader)
        self.document = Document(filename, {})
        self.anchors: dict[str, tuple[Any, int]] = {}
        self.nodes = 0

    def read(self) -> Document:
        next(self.events)
        event = next(self.events)
        if not isinstance(event, yaml.StreamEndEvent):
            first = next(self.events)
            empty = isinstance(first, yaml.ScalarEvent) and not first.value and first.implicit[0]
            self.document.data = {} if empty else self.value(first, (), 0)
            next(self.events)
            event = next(self.events)
            if not isinstance(event, yaml.StreamEndEvent):
                raise _problem("one file holds one document, and here a second one begins", event.start_mark)
        return self.document

    def value(self, event: Any, path: Path, depth: int) -> Any:
        self.document.values[path] = _place(event.start_mark)
        if isinstance(event, yaml.AliasEvent):
            return self.alias(event)
        self.count(1, event)
        if depth > MAX_DEPTH:
            raise _problem(f"nested deeper than {MAX_DEPTH} levels", event.start_mark)
        if event.tag is not None and event.tag not in _TAGS:
            raise _problem(f"the tag {event.tag} is not supported", event.start_mark)
        before = self.nodes - 1
        value: Any
        if isinstance(event, yaml.MappingStartEvent):
            value = self.mapping(path, depth)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = self.sequence(path, depth)
        else:
            value = _scalar(event)
        if event.anchor:
            self.anchors[event.anchor] = (value, self.nodes - before)
        return value

    def alias(self, event: Any) -> Any:
        if event.anchor not in self.anchors:
            raise _problem(f"the alias *{event.anchor} names nothing that is complete before it", event.start_mark)
        value, size = self.anchors[event.anchor]
        self.count(size, event)
        return copy.deepcopy(value)

    def count(self, nodes: int, event: Any) -> None:
        self.nodes += nodes
        if self.nodes > MAX_NODES:
            raise _problem(f"more than {MAX_NODES} values, aliases expanded", event.start_mark)

    def mapping(self, path: Path, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        merged: list[tuple[Any, Any]] = []
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                raise _problem("a key is one word, not a list or a mapping", event.start_mark)
            key = event.value
            if key == "<<" and event.implicit[0]:
                merged.append((self.value(next(self.events), (*path, key), depth + 1), event.start_mark))
                continue
            if key in result:
                first = self.document.keys[(*path, key)]
                raise _problem(f"the key {key!r} is already in line {first.line}", event.start_mark)
            self.document.keys[(*path, key)] = _place(event.start_mark)
            result[key] = self.value(next(self.events), (*path, key), depth + 1)
        for value, mark in merged:
            for source in value if isinstance(value, list) else [value]:
                if not isinstance(source, dict):
                    raise _problem("<< takes a mapping or a list of them", mark)
                result.update({key: item for key, item in source.items() if key not in result})
        return result

    def sequence(self, path: Path, depth: int) -> list[Any]:
        result: list[Any] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            result.append(self.value(event, (*path, len(result)), depth + 1))
        return result


_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "seq", "map")} | {"!"}
# The YAML 1.2 core schema (https://yaml.org/spec/1.2.2/#103-core-schema), but for timestamps, which stay text.
_INT = re.compile(r"[-+]?[0-9][0-9_]*|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, Any] = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
_WORDS |= dict.fromkeys(("true", "True", "TRUE"), True) | dict.fromkeys(("false", "False", "FALSE"), False)
_WORDS |= {".inf": math.inf, "+.inf": math.inf, "-.inf": -math.inf, ".nan": math.nan}


def _scalar(event: Any) -> Any:
    text: str = event.value
    if not event.implicit[0] and (event.tag is None or event.tag in ("!", "tag:yaml.org,2002:str")):
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        # Python refuses to convert numbers of thousands of digits; text of that kind is left to the model to refuse.
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text) if len(text) < 100 else text
    return float(text) if _FLOAT.fullmatch(text) else text


def _place(mark: Any) -> Place:
    return Place(mark.line + 1, mark.column + 1) if mark else Place(1, 1)


# ---------------------------------------------------------------------------------------------------- explaining


def _explain(document: Document, model: type[BaseModel], error: dict[str, Any]) -> FileProblem:
    path = _real_path(document.data, error["loc"])
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        key = str(error["loc"][-1])
        path = (*_real_path(document.data, error["loc"][:-1]), key)
        at = error["loc"][:-1]
        hint = did_you_mean(key, _known_keys(model, at)) or _one_level_below(model, at, key)
        return FileProblem(document.file, document.place(path, of_key=True), dotted(path), f"unknown key {key!r}", hint)
    if kind == "missing":
        return document.problem(path, f"the key {str(error['loc'][-1])!r} is missing")
    if kind in ("literal_error", "enum"):
        known = [word.strip("'") for word in re.split(r", | or ", str(context.get("expected", "")))]
        hint = did_you_mean(str(error["input"]), known)
        return document.problem(path, f"{_show(error['input'])} is not one of {', '.join(known)}", hint)
    if kind in _NEEDED:
        return document.problem(path, *_other_kind(_NEEDED[kind], error["input"]))
    if kind == "too_short":
        return document.problem(
            path, f"{context['min_length']} or more are needed here, not {context['actual_length']}"
        )
    if kind == "string_pattern_mismatch":
        form = _FORMS.get(context["pattern"], f"of the form {context['pattern']}")
        return document.problem(path, f"{_show(error['input'])} is not {form}")
    message = str(context["error"]) if kind == "value_error" and "error" in context else _sentence(error["msg"])
    if kind in ("greater_than", "greater_than_equal", "less_than", "less_than_equal"):
        message = f"{message}, not {_show(error['input'])}"
    return document.problem(path, message)


#: What patterns that people meet often say.
_FORMS = {
    r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$": "1 to 63 letters, digits, '.', '_' and '-', the first a letter or a digit",
}
#: Pydantic's kinds of errors, by what a person would have had to write.
_NEEDED = {
    **dict.fromkeys(("tuple_type", "list_type", "set_type", "frozen_set_type"), "a list"),
    **dict.fromkeys(("dict_type", "mapping_type", "model_type", "model_attributes_type"), "a mapping of keys"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    "string_type": "a text",
}


def _other_kind(needed: str, given: Any) -> tuple[str, str | None]:
    """Return the cause and the hint where a value of another kind is needed."""
    shown, hint = _kind(given), None
    if needed == "a text" and isinstance(given, int | float):
        # It may be a secret, which is not repeated.
        shown, hint = "a number, true or false", "write it in quotes"
    elif needed == "a list" and isinstance(given, str | int):
        hint = f"did you mean [{given}]?"
    return f"{needed} is needed here, not {shown}", hint


def _real_path(data: Any, loc: tuple[str | int, ...]) -> Path:
    """Return the part of pydantic's location that is in the data; its names of union members and validators are not."""
    path: list[str | int] = []
    for part in loc:
        inside = part in data if isinstance(data, Mapping) else isinstance(data, list) and part in range(len(data))
        if inside:
            data = data[part]
            path.append(part)
    return tuple(path)


def _known_keys(model: type[BaseModel], loc: tuple[str | int, ...]) -> list[str]:
    models = [model]
    for part in loc:
        inner: list[type[BaseModel]] = []
        for candidate in models:
            for name, info in candidate.model_fields.items():
                if part in (name, info.alias):
                    inner += _models_in(info.annotation)
        models = inner or models
    return [name for candidate in models for name in candidate.model_fields]


def _one_level_below(model: type[BaseModel], at: tuple[str | int, ...], key: str) -> str | None:
    """A key that belongs into a section of this one, such as `nodes` into `resources`."""
    sections = (name for name in _known_keys(model, at) if _known_keys(model, (*at, name)) != _known_keys(model, at))
    below = next((name for name in sections if key in _known_keys(model, (*at, name))), None)
    return f"did you mean {below}.{key}?" if below else None


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in typing.get_args(annotation) for found in _models_in(argument)]


def _sentence(message: str) -> str:
    return re.sub(r"^Input should be", "should be", message)


def _show(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _kind(value: object) -> str:
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "a mapping"
    return "nothing" if value is None else _show(value)
