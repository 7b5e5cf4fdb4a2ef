"""Pages name only what there is: links, headings, make targets, and one meaning per symbol."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
SYMBOLS = ("θ", "α", "β", "z", "p", "O", "|O|", "I", "E", "K", "N", "R", "D", "T", "B")


def anchors(page):
    """Anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_make_target_exists(page):
    targets = re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    code = re.findall(r"`make (?:[A-Z_]+=\S+ )*([a-z0-9-]+)", page.read_text("utf-8"))
    assert set(code) <= set(targets)


def test_every_script_that_contributors_are_told_of_exists():
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    paths = re.findall(r"((?:scripts|benchmarks|tests|docs|agents)/[\w./]*\w|\.ci/run)", text)
    assert len(paths) > 10
    for path in paths:
        assert (ROOT / path).exists() or (ROOT / "rldarts_tf" / path).exists(), path


def test_the_glossary_has_each_symbol_once():
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    (glossary,) = re.findall(r"^## Glossary$(.*?)^## ", page, flags=re.MULTILINE | re.DOTALL)
    rows = re.findall(r"^\| (\S+) \|", glossary, flags=re.MULTILINE)
    symbols = [row.replace("\\", "") for row in rows]
    assert sorted(symbols[symbols.index("θ") :]) == sorted(SYMBOLS)


def docstrings():
    """(file, docstring) of everything in the package that has one."""
    for path in sorted((ROOT / "rldarts_tf").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                yield path.name, str(node.value.value)


def test_no_docstring_uses_a_symbol_for_something_else():
    # Environments and the batch are B, sizes are words.
    foreign = (
        r"\[N\b|\bN (?:environments|names|copies|simulators)"
        r"|\bB, D\]|\[[DK]\]|\bK (?:episodes|frames)"
    )
    found = [
        (name, text.splitlines()[0]) for name, text in docstrings() if re.search(foreign, text)
    ]
    assert found == []
