"""How a check of the network is shown: who reaches whom and how fast, what is wrong, what mends it, one verdict."""

from __future__ import annotations

import shutil
import sys

from quorate.cli.colour import paint
from quorate.cli.netview import show_findings
from quorate.cli.output import bold, on_terminal, print_json
from quorate.model.severity import Severity
from quorate.network.reach import Attempt, NetCheck, Outcome

#: Where more ends take part than fit, a cell has one sign, and the columns have numbers.
_SIGNS = {
    Outcome.OPEN: "·",
    Outcome.FILTERED: "F",
    Outcome.REFUSED: "R",
    Outcome.UNROUTABLE: "U",
    Outcome.WRONG_HOST: "W",
    Outcome.MTU: "M",
    Outcome.UNDETERMINED: "?",
}
_COLOURS = {Outcome.OPEN: "32", Outcome.UNDETERMINED: "33"}
_BAD = "31"
_OWN = "—"
_NOT_TRIED = ""


def show_check(check: NetCheck, *, as_json: bool, what: str = "") -> None:
    """Print the whole of it; `what` names the flows that were tried, such as `torch`."""
    if as_json:
        print_json({**check.to_dict(), "verdict": verdict(check, what)})
        return
    if len(check.ends) > 1 and check.attempts:
        print("\n".join(matrix(check)))
    show_findings(check.findings)
    print()
    good = not any(finding.severity is Severity.ERROR for finding in check.findings)
    print(f"{_paint('✓', '32') if good else _paint('✗', _BAD)} {bold(verdict(check, what))}")


def verdict(check: NetCheck, what: str = "") -> str:
    """Say in a sentence how it is."""
    ways = check.ways
    open_ways = sum(all(attempt.passed for attempt in tried) for tried in ways.values())
    trips = [attempt.round_trip_s for attempt in check.attempts if attempt.passed and attempt.round_trip_s is not None]
    slowest = f", the slowest in {_time(max(trips))}" if trips else ""
    flows = f" for {what}" if what else ""
    errors = [finding for finding in check.findings if finding.severity is Severity.ERROR]
    if not ways:
        return errors[0].evidence if errors else "nothing was tried"
    count = f"{len(ways)} ways between {len(check.ends)} hosts" if len(ways) > 1 else "1 way"
    if open_ways == len(ways) and not errors:
        return f"all {count} are open{flows}{slowest}" if len(ways) > 1 else f"the way is open{flows}{slowest}"
    if open_ways == len(ways):
        return f"all {count} are open{flows}, but {errors[0].evidence}"
    begins = f"{len(ways) - open_ways} of {count} {'is' if len(ways) - open_ways == 1 else 'are'} not open{flows}"
    return f"{begins}: {errors[0].subject}, {errors[0].title.lower()}" if errors else begins


def matrix(check: NetCheck) -> list[str]:
    """Return the lines of the matrix: who tries stands on the left, who listens above."""
    ways = check.ways
    names = [end.name for end in check.ends]
    cells = [[_cell(ways.get((row, column), []), row == column) for column in names] for row in names]
    first = max(len("FROM \\ TO"), *map(len, names))
    widths = [max(len(name), *(len(cells[row][at][0]) for row in range(len(names)))) for at, name in enumerate(names)]
    if on_terminal() and first + sum(width + 2 for width in widths) > shutil.get_terminal_size().columns:
        return _signs(check, first)
    lines = [bold("FROM \\ TO".ljust(first) + "".join(f"  {n.rjust(w)}" for n, w in zip(names, widths, strict=True)))]
    for name, row in zip(names, cells, strict=True):
        shown = (f"  {_paint(text.rjust(w), colour)}" for (text, colour), w in zip(row, widths, strict=True))
        lines.append((name.ljust(first) + "".join(shown)).rstrip())
    return lines


def _signs(check: NetCheck, first: int) -> list[str]:
    """Where the matrix does not fit: a sign for each way, numbers for the columns, and what the signs mean."""
    ways = check.ways
    names = [end.name for end in check.ends]
    seen: set[Outcome] = set()
    lines = [bold(" " * (first + 5) + "".join(f"{number % 100:>3}" for number in range(1, len(names) + 1)))]
    for number, row in enumerate(names, start=1):
        shown = ""
        for column in names:
            tried = ways.get((row, column), [])
            worst = _worst(tried) if tried else None
            if worst is not None:
                seen.add(worst)
            sign = _OWN if row == column else _SIGNS[worst] if worst is not None else " "
            shown += "  " + _paint(sign, _COLOURS.get(worst, _BAD) if worst is not None else "2")
        lines.append(f"{row.ljust(first)} {number:>3} {shown}".rstrip())
    meanings = ", ".join(f"{_SIGNS[outcome]} {outcome.value}" for outcome in Outcome if outcome in seen)
    return [*lines, f"{' ' * (first + 5)}  {meanings}"]


def _cell(tried: list[Attempt], own: bool) -> tuple[str, str]:
    """Text and colour."""
    if own or not tried:
        return (_OWN if own else _NOT_TRIED), "2"
    worst = _worst(tried)
    if worst is Outcome.OPEN:
        trips = [attempt.round_trip_s for attempt in tried if attempt.round_trip_s is not None]
        return (_time(min(trips)) if trips else "open"), _COLOURS[worst]
    bad = sum(not attempt.passed for attempt in tried)
    text = worst.value if bad == len(tried) else f"{worst.value} {bad}/{len(tried)}"
    return text, _COLOURS.get(worst, _BAD)


def _worst(tried: list[Attempt]) -> Outcome:
    order = list(Outcome)
    return min((attempt.outcome for attempt in tried), key=order.index)


def _time(seconds: float) -> str:
    if seconds < 0.01:
        return f"{1000 * seconds:.2f} ms"
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _paint(text: str, colour: str) -> str:
    return paint(text, colour, sys.stdout)
