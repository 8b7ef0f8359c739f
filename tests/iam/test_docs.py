"""docs/iam.md says what the code does."""

import os
from pathlib import Path

from quorate.iam.pages import fill

PAGE = Path(__file__).parents[2] / "docs" / "iam.md"


def test_the_generated_parts_of_the_page_are_those_of_the_code() -> None:
    """QUORATE_WRITE_DOCS=1 writes them anew."""
    text = PAGE.read_text(encoding="utf-8")
    filled = fill(text)
    if os.environ.get("QUORATE_WRITE_DOCS"):
        PAGE.write_text(filled, encoding="utf-8")
    assert filled == text, "docs/iam.md is stale; run QUORATE_WRITE_DOCS=1 pytest tests/iam/test_docs.py"
