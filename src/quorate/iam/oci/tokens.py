"""Cuts a policy statement or a matching rule into tokens that know where they stand."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from quorate.iam import codes
from quorate.iam.finding import Code
from quorate.iam.place import Place

# Longer than any statement that OCI accepts, and short enough that no input makes the parser slow.
MAX_LENGTH = 20_000


class Kind(StrEnum):
    """What a token is, in the words that an error message uses."""

    WORD = "a word"
    STRING = "a quoted string"
    PATTERN = "a /pattern/"
    PLACEHOLDER = "a placeholder"
    PUNCTUATION = "a sign"
    END = "the end of the statement"


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the text; `text` is what it says, without quotes or slashes."""

    kind: Kind
    text: str
    place: Place

    def is_word(self, *words: str) -> bool:
        return self.kind is Kind.WORD and self.text.lower() in words

    def is_sign(self, *signs: str) -> bool:
        return self.kind is Kind.PUNCTUATION and self.text in signs

    def __str__(self) -> str:
        match self.kind:
            case Kind.END:
                return "the end of the statement"
            case Kind.STRING:
                return f"'{self.text}'"
            case Kind.PATTERN:
                return f"/{self.text}/"
            case _:
                return f'"{self.text}"'


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a text is not a statement, and what to write instead.

    `mendable`: whether the statement written anew, as it was understood, is what was meant.
    """

    code: Code
    place: Place
    message: str
    mend: str
    mendable: bool = True


_SPACE = re.compile(r"\s+")
_PLACEHOLDER = re.compile(r"<[^<>\n]*>|\$\{[^}\n]*\}|\[[^\]\n]*\]")
_STRING = re.compile(r"'([^'\n]*)'")
_DOUBLE = re.compile(r'"([^"\n]*)"')
# A pattern ends at the slash after which nothing of it can follow, so `/team/*/` is one pattern.
_PATTERN = re.compile(r"/([^\n]*?)/(?=[\s,})]|$)")
_SIGN = re.compile(r"!=|[{}(),=:/]")
_WORD = re.compile(r"[\w.@+*-]+")


def tokenize(text: str) -> tuple[list[Token], list[Problem]]:
    """The tokens of `text`, ending in one of kind END, and what could not be read.

    A problem leaves the best guess among the tokens, so that a linter can go on and find the next one.
    """
    tokens: list[Token] = []
    problems: list[Problem] = []
    line, line_start, offset = 1, 0, 0

    def here() -> Place:
        return Place(line, offset - line_start + 1)

    if len(text) > MAX_LENGTH:
        problem = Problem(
            codes.SYNTAX,
            here(),
            f"the statement has {len(text)} characters; at most {MAX_LENGTH} are read",
            "split it into several statements",
        )
        return [Token(Kind.END, "", here())], [problem]
    while offset < len(text):
        if space := _SPACE.match(text, offset):
            newlines = space.group().count("\n")
            if newlines:
                line += newlines
                line_start = space.start() + space.group().rindex("\n") + 1
            offset = space.end()
            continue
        if found := _PLACEHOLDER.match(text, offset):
            tokens.append(Token(Kind.PLACEHOLDER, found.group(), here()))
        elif found := _STRING.match(text, offset):
            tokens.append(Token(Kind.STRING, found.group(1), here()))
        elif found := _DOUBLE.match(text, offset):
            problems.append(
                Problem(codes.UNQUOTED, here(), f"{found.group()} is in double quotes", "use single quotes")
            )
            tokens.append(Token(Kind.STRING, found.group(1).replace("'", ""), here()))
        elif _value_may_follow(tokens) and (found := _PATTERN.match(text, offset)):
            tokens.append(Token(Kind.PATTERN, found.group(1), here()))
        elif found := _SIGN.match(text, offset):
            tokens.append(Token(Kind.PUNCTUATION, found.group(), here()))
        elif found := _WORD.match(text, offset):
            tokens.append(Token(Kind.WORD, found.group(), here()))
        else:
            sign = text[offset]
            what = "a quotation that never ends" if sign in "'\"" else f"the sign {sign!r}, which the language has not"
            problems.append(Problem(codes.SYNTAX, here(), f"found {what}", "close or remove it"))
            offset += 1
            continue
        offset = found.end()
    tokens.append(Token(Kind.END, "", here()))
    return tokens, problems


def _value_may_follow(tokens: list[Token]) -> bool:
    """Whether a slash begins a pattern here: elsewhere it parts an identity domain from a name."""
    return bool(tokens) and (
        tokens[-1].is_sign("=", "!=", "(", ",") or tokens[-1].is_word("before", "after", "between", "and")
    )
