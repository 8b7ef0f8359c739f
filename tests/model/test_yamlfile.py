"""What a person is told about the mistakes in a file."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from quorate.model.ports import PortRangeField
from quorate.model.yamlfile import FileProblems, load_yaml, parse_yaml


class Colour(StrEnum):
    RED = "red"
    GREEN = "green"


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str = Field(pattern="^[a-z ]+$")
    weight: int = Field(default=1, ge=1)
    colour: Colour = Colour.RED


class Thing(BaseModel):
    model_config = ConfigDict(extra="forbid")
    parts: list[Part] = []
    mode: Literal["open", "planned"] = "open"
    window: PortRangeField | None = None
    by_name: dict[str, Part] = {}
    pair: tuple[Part, ...] = Field(default=(), min_length=2)


def problems_of(text: str) -> list[str]:
    with pytest.raises(FileProblems) as caught:
        load_yaml(text, "thing.yaml", Thing)
    return [str(problem) for problem in caught.value.problems]


def test_a_good_file_becomes_the_model() -> None:
    thing = load_yaml("parts:\n- name: a\n  weight: 3\nwindow: 40000-40999\n", "thing.yaml", Thing)
    assert thing.parts == [Part(name="a", weight=3)]
    assert str(thing.window) == "40000-40999"


def test_an_empty_file_is_an_empty_mapping() -> None:
    assert load_yaml("# nothing yet\n", "thing.yaml", Thing) == Thing()


def test_every_mistake_is_told_with_its_line_and_what_was_meant() -> None:
    text = "parts:\n- nam: a\n  weight: 0\n  colour: gren\nmode: closed\nwindow: 1024-65536\n"
    assert problems_of(text) == [
        "thing.yaml:2:3: parts[0]: the key 'name' is missing",
        "thing.yaml:2:3: parts[0].nam: unknown key 'nam' (did you mean 'name'?)",
        "thing.yaml:3:11: parts[0].weight: should be greater than or equal to 1, not 0",
        "thing.yaml:4:11: parts[0].colour: 'gren' is not one of red, green (did you mean 'green'?)",
        "thing.yaml:5:7: mode: 'closed' is not one of open, planned",
        "thing.yaml:6:9: window: 1024-65536: ports end at 65535",
    ]


def test_a_list_is_not_called_too_short_for_a_mistake_inside_it() -> None:
    assert problems_of("pair: [{name: a}]\n") == ["thing.yaml:1:7: pair: 2 or more are needed here, not 1"]
    assert problems_of("pair: [{name: a}, {name: B}]\n") == [
        "thing.yaml:1:26: pair[1].name: 'B' is not of the form ^[a-z ]+$"
    ]


def test_what_is_needed_is_said_in_the_words_of_a_file() -> None:
    text = "parts: a\nby_name: 3\nwindow: [1, 2]\n"
    assert problems_of(text) == [
        "thing.yaml:1:8: parts: a list is needed here, not 'a' (did you mean [a]?)",
        "thing.yaml:2:10: by_name: a mapping of keys is needed here, not 3",
        "thing.yaml:3:9: window: '[1, 2]' is not a port or a range such as 40000-40999",
    ]
    assert problems_of("parts: [{name: [a], weight: x}]\n") == [
        "thing.yaml:1:16: parts[0].name: a text is needed here, not a list",
        "thing.yaml:1:29: parts[0].weight: a whole number is needed here, not 'x'",
    ]


def test_what_stands_where_a_text_is_needed_is_not_repeated() -> None:
    (problem,) = problems_of("parts: [{name: 123456}]\n")
    cause = "a text is needed here, not a number, true or false (write it in quotes)"
    assert problem == f"thing.yaml:1:16: parts[0].name: {cause}"


def test_unknown_keys_below_a_mapping_of_models_are_explained_too() -> None:
    assert problems_of("by_name:\n  x: {name: a, wieght: 2}\n") == [
        "thing.yaml:2:16: by_name.x.wieght: unknown key 'wieght' (did you mean 'weight'?)"
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1, 2\n", "not YAML"),
        ("mode: open\nmode: planned\n", "2:1: not YAML: the key 'mode' is already in line 1"),
        ("a: !!python/object/apply:os.system [ls]\n", "is not supported"),
        ("mode: open\n---\nmode: open\n", "a second one begins"),
        ("- a\n", "a mapping of keys is needed here, not a list"),
        ("a: *nobody\n", "names nothing"),
        ("a: &a [*a]\n", "names nothing that is complete before it"),
        ("{a: b}: c\n", "a key is one word"),
        ("a: '\x01'\n", "not YAML"),
        ("[" * 5000, "nested deeper than 64 levels"),
        ("x: " + "y" * (1 << 20), "larger than 1 MiB"),
    ],
)
def test_what_is_no_plain_yaml_is_refused_with_its_place(text: str, message: str) -> None:
    assert any(message in problem and problem.startswith("thing.yaml:") for problem in problems_of(text))


def test_a_billion_laughs_are_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    assert "aliases expanded" in problems_of("\n".join(lines))[0]


def test_anchors_and_merges_work() -> None:
    thing = load_yaml("parts:\n- &p {name: a, weight: 2}\n- {<<: *p, name: b}\n", "thing.yaml", Thing)
    assert thing.parts[1] == Part(name="b", weight=2)


def test_words_mean_what_they_look_like() -> None:
    text = "a: no\nb: on\nc: 22:22\nd: 2026-11-20\ne: 0x10\nf: '1'\ng: 1e3\nh: true\ni: ~\nj: 010\n"
    assert parse_yaml(text, "x").data == {
        "a": "no", "b": "on", "c": "22:22", "d": "2026-11-20", "e": 16,
        "f": "1", "g": 1000.0, "h": True, "i": None, "j": 10,
    }  # fmt: skip


@given(st.text(alphabet=st.sampled_from("ab:-[]{}&*!|>'\"\n #<0%@\t,?"), max_size=60))
def test_no_text_at_all_ends_in_anything_but_problems(text: str) -> None:
    try:
        load_yaml(text, "thing.yaml", Thing)
    except FileProblems as error:
        assert error.problems
