"""Draws the pictures of the docs from what the commands really print, on a lab of four hosts. Needs root, `nft`, `ip`.

`python -m docs.pictures` from the checkout; the pictures are committed, so that nobody needs to run it to read them.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import SVG_EXPORT_THEME
from rich.text import Text
from tests.lab import faults
from tests.lab.cluster import LabCluster, running
from tests.lab.hosts import BIN, a_lab

FOLDER = Path(__file__).parent / "pictures"
COLUMNS = 104
#: Rich's, without fonts from the Internet: a page of the docs asks nobody for anything.
_FORMAT = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
#: How the command line takes lines of progress back: up so many rows, and all below is erased (cli/screen.py).
_TAKEN_BACK = re.compile(r"\x1b\[(\d+)A\r\x1b\[J")
#: What draws over one line, and what moves the cursor besides.
_REDRAWN = re.compile(r"[^\n]*\r(?!\n)|\x1b\[\??[0-9;]*[A-Za-ln-z]")


def main() -> None:
    with a_lab() as lab, running(lab, "gpu1", "gpu2", "gpu3", "gpu4", network={"modes": ["host"]}) as cluster:
        draw(cluster, "net-check", "quorate", "net", "check")
        host = cluster.agents[2]
        with faults.without_rule(host, cluster.agents_rules, cluster.rule("gloo", "saddr")):
            run = ("quorate", "run", "--nodes", "4", "--launcher", "torch", "--placement", "spread", "--no-context")
            draw(cluster, "run-blocked", *run, "--", "python", "train.py")
        # Last, for nothing is placed on agents that a check has found apart.
        with faults.without_rule(host, cluster.agents_rules, cluster.rule("leased", "saddr")):
            draw(cluster, "net-check-blocked", "quorate", "net", "check")


def draw(cluster: LabCluster, name: str, *command: str) -> None:
    """What a command prints at the desk's terminal, with the command above it."""
    shown = _on_terminal(cluster.lab["desk"].inside(str(BIN / command[0]), *command[1:]))
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True, color_system="truecolor")
        console.print(Text.assemble(("$ ", "bold green"), (" ".join(command), "bold")))
        console.print(Text.from_ansi(shown))
        path = FOLDER / f"{name}.svg"
        console.save_svg(str(path), title="quorate", theme=SVG_EXPORT_THEME, code_format=_FORMAT, unique_id=name)
    print(path, file=sys.stderr)


def _on_terminal(command: list[str]) -> str:
    """What stays on a terminal of `COLUMNS` columns once the command has ended."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 60, COLUMNS, 0, 0))
    process = subprocess.Popen(command, stdin=its, stdout=its, stderr=its, env={**os.environ, "TERM": "xterm-256color"})
    os.close(its)
    told = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # EIO: nobody holds the other end any more
            break
        told += part
    os.close(ours)
    process.wait()
    first, *rest = _TAKEN_BACK.split(told.decode().replace("\r\n", "\n"))
    shown = first
    for rows, more in zip(rest[::2], rest[1::2], strict=True):
        shown = "".join(f"{line}\n" for line in shown.split("\n")[: -int(rows) - 1]) + more
    return _REDRAWN.sub("", shown).strip("\n")


if __name__ == "__main__":
    main()
