"""What launch reports has a code that the catalogue of findings explains."""

from __future__ import annotations

import re
from pathlib import Path

import quorate.launch
from quorate.network.findings import CODES

PACKAGE = Path(quorate.launch.__file__).parent
_CODE = re.compile(r'"((?:CLOCK|LIMIT|NAME|NET|PORT|MEMBERS|WATCH|COMPANION)-[A-Z-]+)"')


def test_every_code_is_in_the_catalogue_of_findings() -> None:
    used = {code for file in PACKAGE.rglob("*.py") for code in _CODE.findall(file.read_text())}
    assert {"PORT-TAKEN", "MEMBERS-MISSING", "NET-WRONG-HOST"} <= used
    assert used <= set(CODES)
