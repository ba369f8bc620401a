"""What `make docs` wrote, in a real browser: every column of every table is in sight at a desk's width."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from reference.breaking import breakable
from reference.limits import limits_for_the_site
from support.browser import PROGRAM, browser
from support.pages import DOCS, REPO

BUILT = REPO / "build" / "docs"
_DESK = 1280
_WIDER = """JSON.stringify([...document.querySelectorAll('article table')]
  .filter(table => table.offsetWidth > table.parentElement.clientWidth)
  .map(table => [table.closest('article').dataset.page, table.offsetWidth, table.innerText]))"""
_COUNT = "document.querySelectorAll('article table').length"


def is_of_these_pages() -> bool:
    """Whether the built pages are there and younger than all that they are made of."""
    index = BUILT / "index.html"
    made_of = [*DOCS.rglob("*.md"), *(DOCS / "_ext").rglob("*.py"), *(DOCS / "_static").glob("*.css")]
    return index.exists() and all(path.stat().st_mtime <= index.stat().st_mtime for path in made_of)


def all_in_one(to: Path) -> int:
    """Every article that has a table in one page, for loading is what costs; how many there are."""
    frame = (BUILT / "limits.html").read_text(encoding="utf-8")
    articles = []
    for path in sorted(BUILT.rglob("*.html")):
        found = re.search(r"<article[^>]*>(.*?)</article>", path.read_text(encoding="utf-8"), re.DOTALL)
        if found and "<table" in found[1]:
            articles.append(
                f'<article role="main" data-page="{path.relative_to(BUILT)}">{found[1]}</article>'
            )
    text = re.sub(r"<article.*</article>", lambda _: "\n".join(articles), frame, flags=re.DOTALL)
    to.write_text(text.replace("<head>", f'<head><base href="{BUILT.as_uri()}/">', 1), encoding="utf-8")
    return len(articles)


@pytest.mark.skipif(PROGRAM is None, reason="no chromium on this machine")
@pytest.mark.skipif(not is_of_these_pages(), reason="build/docs is not of these pages: make docs")
def test_no_table_is_wider_than_its_column(tmp_path: Path) -> None:
    page = tmp_path / "all.html"
    assert all_in_one(page) > 30
    with browser(tmp_path / "chromium", "127.0.0.1:9") as found:
        found.look(width=_DESK)
        found.script(on=False)
        found.open(page)
        assert found.value(_COUNT) > 100
        assert json.loads(found.value(_WIDER)) == []


def test_a_long_word_of_code_may_break_behind_its_separators_and_a_short_one_stays_whole() -> None:
    long, short = "tests/docs/test_doc_tables.py", "timeouts.seconds"
    assert breakable(f'<span class="pre">{short}</span>') == f'<span class="pre">{short}</span>'
    written = breakable(f'<span class="pre">{long}</span>')
    assert written.startswith('<span class="pre long">tests/<wbr>docs/<wbr>test_<wbr>')
    assert written.replace("<wbr>", "") == f'<span class="pre long">{long}</span>'


def test_the_page_of_limits_shows_each_with_its_end_and_its_tests_apart() -> None:
    text = (DOCS / "limits.md").read_text(encoding="utf-8")
    shown = limits_for_the_site(text)
    rows = [line for line in text.splitlines() if line.count("::test_") == 2 and line.startswith("| ")]
    assert len(rows) > 50
    assert not [line for line in shown.splitlines() if line.startswith("|") and "::test_" in line]
    for row in rows:
        limit, _, _, place, end, *tests = [cell.strip() for cell in row.strip("|").split(" | ")]
        assert f"| {limit} |" in shown
        assert f"| {place} | {end} |" in shown
        assert all(test in shown for test in tests)
