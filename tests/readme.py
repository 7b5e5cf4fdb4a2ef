"""Code blocks of README.md, for the tests that run them."""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).resolve().parents[1] / "README.md"


def marked_block(name):
    """The Python code between the marker of that name and the end of the fence after it."""
    text = README.read_text(encoding="utf-8")
    pattern = rf"^<!-- readme-test: {re.escape(name)} -->\n+```python\n(.*?)^```$"
    blocks = re.findall(pattern, text, flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) == 1, f"README.md has {len(blocks)} Python blocks marked {name!r}"
    return blocks[0]
