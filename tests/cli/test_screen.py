"""What a person sees of members' output, on a terminal and elsewhere."""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime

import pytest

from quorate.cli.screen import MAX_PENDING, Screen
from quorate.model.views import LogLine

NOW = datetime(2026, 11, 20, tzinfo=UTC)
TWO = {0: "main1", 1: "sub1"}


def line(text: str, rank: int = 0, end: str = "\n", stream: str = "stdout") -> LogLine:
    return LogLine(member=f"k3jd-1.{rank}.1", rank=rank, stream=stream, time=NOW, text=text, end=end, offset=1)


def shown(
    lines: list[LogLine], names: dict[int, str] | None = None, *, terminal: bool = False, faithful: bool = False
) -> str:
    out = io.StringIO()
    screen = Screen(names or {0: "main1"}, out, terminal, faithful=faithful)
    for item in lines:
        screen.write([item])
    screen.finish()
    return out.getvalue()


def terminal(text: str) -> list[str]:
    """What stands on a terminal after it got `text`: understands what Screen writes, and nothing else."""
    rows, row = [""], 0
    for part in re.findall(r"\x1b\[\d*[A-Za-z]|\n|\r|[^\x1b\n\r]+", text):
        if part == "\n":
            row += 1
            if row == len(rows):
                rows.append("")
        elif part == "\r":
            continue
        elif part.endswith("A") and part.startswith("\x1b"):
            row -= int(part[2:-1])
        elif part == "\x1b[J":
            rows[row:] = [""]
        elif part.startswith("\x1b"):
            continue
        else:
            rows[row] = rows[row] + part
    return [text for text in rows if text]


def test_one_member_alone_needs_no_name_before_its_lines() -> None:
    assert shown([line("a"), line("b")]) == "a\nb\n"


def test_each_of_several_members_is_named_and_aligned() -> None:
    assert shown([line("a"), line("b", 1)], TWO) == "main1 | a\nsub1  | b\n"


def test_parts_of_a_line_are_joined_and_members_do_not_cut_each_other() -> None:
    assert shown([line("a", end=""), line("b", 1), line("c")], TWO) == "sub1  | b\nmain1 | ac\n"


def test_the_two_streams_of_a_member_do_not_cut_each_other() -> None:
    assert shown([line("out", end=""), line("err", stream="stderr"), line("put")]) == "err\noutput\n"


def test_output_without_a_last_newline_is_shown_at_the_end() -> None:
    assert shown([line("a"), line("no newline", end="")]) == "a\nno newline\n"


def test_a_log_that_goes_to_a_program_is_not_changed() -> None:
    text = "\r 10%\r 20%\x1b[31mred\x1b[2J\x07"
    assert shown([line("\r  1%", end=""), line(text)], faithful=True) == "\r  1%" + text + "\n"


def test_a_job_that_is_followed_off_a_terminal_shows_each_bar_once() -> None:
    assert shown([line("\r 10%", end=""), line("\r 20%", end=""), line("\r100%")]) == "100%\n"


def test_a_progress_bar_is_drawn_in_its_place_and_stays_once() -> None:
    out = io.StringIO()
    screen = Screen({0: "main1"}, out, True)
    for text, end in (("\r 10%", ""), ("\r 50%", ""), ("\r100%", "\n")):
        screen.write([line(text, end=end)])
        assert terminal(out.getvalue()) == [text.strip("\r")]
    screen.write([line("done")])
    screen.finish()
    assert terminal(out.getvalue()) == ["100%", "done"]


def test_lines_scroll_above_the_bar_and_the_state() -> None:
    out = io.StringIO()
    screen = Screen(TWO, out, True)
    screen.tell("job runs")
    screen.write([line("\r 10%", end=""), line("hello", 1)])
    assert terminal(out.getvalue()) == ["sub1  │ hello", "main1 │  10%", "job runs"]
    screen.finish()
    assert terminal(out.getvalue())[-1] == "main1 │  10%"


@pytest.mark.parametrize("bar", ["━" * 200, "进度" * 100, "\t" * 30, "x" * 62])
def test_a_bar_fits_one_row_however_long_its_members_name_is(monkeypatch: pytest.MonkeyPatch, bar: str) -> None:
    """A row that the terminal folds would stay there when the bar is drawn again."""
    monkeypatch.setenv("COLUMNS", "60")
    out = io.StringIO()
    screen = Screen({0: "parameter-server-12", 1: "x"}, out, True)
    screen.write([line(f"\r{bar}", end="")])
    (row,) = terminal(out.getvalue())
    assert sum(2 if letter in "进度" else 1 for letter in row) <= 60
    assert "\t" not in row


def test_a_member_cannot_play_tricks_on_the_terminal() -> None:
    tricks = "\x1b]0;title\x07a\x1b[2Jb\x1b[10;10Hc\x1bcd\x08e\x9bf"
    assert shown([line(tricks)], terminal=True) == "abcdef\n"


def test_a_members_colours_are_kept_and_end_with_the_line() -> None:
    assert shown([line("\x1b[31mred")], terminal=True) == "\x1b[31mred\x1b[0m\n"


def test_a_bars_colours_end_with_the_bar() -> None:
    out = io.StringIO()
    Screen({0: "main1"}, out, True).write([line("\r\x1b[31m 10%", end="")])
    assert out.getvalue() == "\x1b[31m 10%\x1b[0m\n"


def test_a_member_that_never_ends_its_line_costs_bounded_memory() -> None:
    out = io.StringIO()
    screen = Screen({0: "main1"}, out, False)
    for _ in range(3):
        screen.write([line("x" * (MAX_PENDING // 2 + 1), end="")])
    assert sum(map(len, screen.pending.values())) <= MAX_PENDING
    screen.finish()
    assert out.getvalue().count("x") == 3 * (MAX_PENDING // 2 + 1)
