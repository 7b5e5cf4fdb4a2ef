"""Code blocks of README.md and of docs/, for the tests that run them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
A2D, AGENTS, DISCRETIZATION, EXPORT, EXTENDING, SEARCHING = (
    ROOT / "docs" / f"{name}.md"
    for name in ("a2d", "agents", "discretization", "export", "extending", "searching")
)


def marked_block(name, page=README, language="python"):
    """The code between the marker of that name and the end of the fence after it.

    Markers are comments: `readme-test: NAME` in README.md, `docs-test: NAME` in other pages.
    """
    kind = "readme-test" if page == README else "docs-test"
    text = page.read_text(encoding="utf-8")
    pattern = rf"^<!-- {kind}: {re.escape(name)} -->\n+```{language}\n(.*?)^```$"
    blocks = re.findall(pattern, text, flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) == 1, f"{page.name} has {len(blocks)} {language} blocks marked {name!r}"
    return blocks[0]
