"""Walks over tokens and collects all problems, for a linter that goes on after each."""

from __future__ import annotations

from quorate.iam import codes
from quorate.iam.finding import Code
from quorate.iam.oci.ocid import misplaced
from quorate.iam.oci.tokens import Kind, Problem, Token, tokenize

# Deeper nesting than this has no use, and without a limit a hostile file could exhaust the stack.
MAX_DEPTH = 32


class GiveUp(Exception):
    """Nothing sensible can be read from here on; the problem is already reported."""


class Cursor:
    """The parser's place in the tokens, and the problems so far."""

    def __init__(self, text: str) -> None:
        self._tokens, self.problems = tokenize(text)
        self._next = 0
        self.depth = 0

    @property
    def token(self) -> Token:
        return self._tokens[self._next]

    @property
    def following(self) -> Token:
        return self.ahead(1)

    def ahead(self, distance: int) -> Token:
        return self._tokens[min(self._next + distance, len(self._tokens) - 1)]

    @property
    def at_end(self) -> bool:
        return self.token.kind is Kind.END

    def take(self) -> Token:
        token = self.token
        if token.kind is not Kind.END:
            self._next += 1
        return token

    def take_word(self, *words: str) -> bool:
        if self.token.is_word(*words):
            self._next += 1
            return True
        return False

    def take_sign(self, *signs: str) -> bool:
        if self.token.is_sign(*signs):
            self._next += 1
            return True
        return False

    def report(self, code: Code, message: str, mend: str, at: Token | None = None, *, mendable: bool = True) -> None:
        self.problems.append(Problem(code, (at or self.token).place, message, mend, mendable))

    def check_kind(self, token: Token, wanted: frozenset[str]) -> None:
        """Report an OCID that is of another kind than the wanted ones."""
        if odd := misplaced(token.text, wanted):
            self.report(codes.OCID_KIND, *odd, at=token, mendable=False)

    def give_up(self, code: Code, message: str, mend: str, at: Token | None = None) -> GiveUp:
        """Report, and return what the caller raises."""
        self.report(code, message, mend, at)
        return GiveUp()

    def expect_end(self, what: str, mend: str) -> None:
        if not self.at_end:
            raise self.give_up(codes.SYNTAX, f"{self.token} stands after the end of {what}", mend)

    def enter(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.give_up(codes.SYNTAX, f"conditions are nested deeper than {MAX_DEPTH}", "flatten them")

    def leave(self) -> None:
        self.depth -= 1
