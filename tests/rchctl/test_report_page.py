"""The page of a run: what stands on it, what can never stand on it, and how large it gets."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from support.run_folder import RunFolder, hostile_run

from rch.contract.errors import Failure
from rch.contract.records import Diagnostic, Reason
from rchctl.report.make import report_html
from rchctl.report.page import TEMPLATES


class Elements(HTMLParser):
    """Every element with its attributes, and the text of the page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(folder: RunFolder) -> str:
    return report_html(folder.write().path)[1].decode()


@pytest.mark.spec("9")
def test_the_verdict_stands_first_with_what_it_rests_on(tmp_path: Path) -> None:
    text = Elements(page_of(RunFolder(tmp_path))).text
    assert text.index("SUCCEEDED") < text.index("2 tests passed") < text.index("Step 1: test")
    assert re.search(r"Why: PASSED.*phase test\s*exit code 0", text, re.DOTALL)
    for told in ("signed, by a key that nobody pinned", "a" * 64, "e" * 64, "wait in the queue", "1.9 kB"):
        assert told in text


@pytest.mark.spec("9")
def test_a_simulated_success_is_never_a_green(tmp_path: Path) -> None:
    html = page_of(RunFolder(tmp_path, simulated=True))
    page = Elements(html)
    assert "SIMULATED: stand-in tools made this" in page.text
    assert "<title>SIMULATED: passed" in html
    assert ("body", {"class": "simulated"}) in page.found
    assert "✔" not in page.text
    assert not [attrs for tag, attrs in page.found if "good" in (attrs.get("class") or "").split()]


@pytest.mark.spec("9")
def test_a_narrowed_run_says_so_and_to_what(tmp_path: Path) -> None:
    page = Elements(page_of(RunFolder(tmp_path, scope=("--filter=S",))))
    assert "NARROWED: this is not the full gate" in page.text
    assert "SUCCEEDED (narrowed)" in page.text
    assert "--filter=S" in page.text
    assert not [attrs for tag, attrs in page.found if attrs.get("class") == "verdict good"]


def test_a_run_that_is_not_over_says_so(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path).write()
    state = folder.path / "run_state.json"
    state.write_text(state.read_text().replace("SUCCEEDED", "RUNNING"))
    (folder.path / "run_summary.json").unlink()
    index = folder.path / "run_index.json"
    index.write_text(index.read_text().replace('"run_summary.json"', "null"))
    text = Elements(report_html(folder.path)[1].decode()).text
    assert "NOT OVER" in text
    assert "SUCCEEDED" not in text


def test_a_rejected_run_names_each_word_that_was_refused(tmp_path: Path) -> None:
    reason = Reason(code="NARROWING", subject="--filter", message="--filter narrows the gate")
    folder = RunFolder(
        tmp_path,
        status="rejected",
        argv=("test", "--filter", "x"),
        members={"rejection_reasons": (reason,)},
    )
    text = Elements(page_of(folder)).text
    assert "Refused by the gate" in text
    assert "swift test --filter x" in text


def test_a_message_has_its_source_beside_it(tmp_path: Path) -> None:
    root = tmp_path / "project"
    root.mkdir()
    data = b"let a = 1\nlet b = c\n"
    (root / "A.swift").write_bytes(data)
    error = Diagnostic(path="A.swift", line=2, column=9, severity="error", message="no c")
    folder = RunFolder(
        tmp_path / "runs", status="failed", subkind="BUILD_FAILED", root=str(root), diagnostics=(error,)
    )
    folder.sources = {"A.swift": data}
    assert "let b = c" in page_of(folder)
    (root / "A.swift").write_bytes(b"let a = 1\nlet b = d\n")
    html = page_of(folder)
    assert "let b" not in html
    assert "the file has changed since this run" in html


def test_nothing_from_outside_becomes_markup(tmp_path: Path) -> None:
    html = page_of(hostile_run(tmp_path))
    page = Elements(html)
    tags = [tag for tag, _ in page.found]
    assert (tags.count("script"), tags.count("style"), tags.count("img")) == (1, 1, 0)
    assert not [
        name for _, attrs in page.found for name in attrs if name.startswith("on") or name == "style"
    ]
    asks = [attrs[name] for _, attrs in page.found for name in ("src", "href", "action") if name in attrs]
    assert asks
    assert all((each or "").startswith("#") for each in asks)
    assert "\u202e" not in html
    assert "\x1b" not in html
    assert "<U+202E>gnp" in page.text


def test_the_policy_names_the_digests_of_what_stands_in_the_page(tmp_path: Path) -> None:
    html = page_of(RunFolder(tmp_path))
    policy = next(attrs["content"] for tag, attrs in Elements(html).found if "http-equiv" in attrs)
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    for tag in ("style", "script"):
        inner = html.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0]
        digest = base64.b64encode(hashlib.sha256(inner.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy


def test_headings_go_down_one_by_one_and_tables_name_their_heads(tmp_path: Path) -> None:
    page = Elements(page_of(hostile_run(tmp_path)))
    levels = [int(tag[1]) for tag, _ in page.found if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below <= above + 1 for above, below in pairwise(levels))
    assert all("scope" in attrs or not attrs for tag, attrs in page.found if tag == "th")
    ids = [attrs["id"] for _, attrs in page.found if "id" in attrs]
    assert len(ids) == len(set(ids))
    anchors = {(attrs.get("href") or "").removeprefix("#") for tag, attrs in page.found if tag == "a"}
    assert anchors <= set(ids)


def colours(block: str) -> dict[str, tuple[float, ...]]:
    return {
        name: tuple(int(value[at : at + 2], 16) / 255 for at in (0, 2, 4))
        for name, value in re.findall(r"--([a-z-]+): #([0-9a-f]{6});", block)
    }


def contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """As WCAG 2 has it."""

    def light(colour: tuple[float, ...]) -> float:
        red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    high, low = sorted((light(one), light(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read_on_what_it_stands_on(scheme: str) -> None:
    css = (TEMPLATES / "style.css").read_text()
    first, _, rest = css.partition("@media (prefers-color-scheme: dark)")
    found = colours(first if scheme == "light" else rest.partition("@media")[0])
    for ground in ("bg", "panel"):
        for text in ("text", "dim", "good", "bad", "warn", "link"):
            assert contrast(found[text], found[ground]) >= 4.5, (text, ground)
    for tone in ("good", "bad", "warn"):
        for text in (tone, "text"):
            assert contrast(found[text], found[f"{tone}-bg"]) >= 4.5, (text, tone)
    for text in ("text", "dim"):
        assert contrast(found[text], found["hit"]) >= 4.5
    for drawn in ("host", "worker"):
        assert contrast(found[drawn], found["panel"]) >= 3, drawn


def test_ten_thousand_tests_are_listed_and_more_are_told_of(tmp_path: Path) -> None:
    cases = [
        (f"Suite{at // 50}", f"testNumber{at}ChecksSomethingOfInterest()", "passed") for at in range(10_002)
    ]
    cases[-1] = ("Last", "fails()", "failed")
    html = page_of(RunFolder(tmp_path, cases=cases))
    assert html.count('<tr class="p">') == 9_999
    assert html.count('<tr class="f">') == 1
    assert "2 more tests are not listed here" in html
    assert len(html) < 1_400_000


def test_records_that_cannot_be_read_are_told_of(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path).write()
    step = folder.path / "steps" / "test" / folder.job_id
    (step / "metrics.json").write_text("{}")
    (step / "junit.xml").unlink()
    run, data = report_html(folder.path)
    assert len(run.notes) == 2
    text = Elements(data.decode()).text
    assert "What could not be read" in text
    assert "test: junit is named by an index and not there" in text


@pytest.mark.fault("T2")
def test_links_and_pipes_in_a_folder_from_elsewhere_are_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("a secret of this machine\n")
    folder = RunFolder(tmp_path / "runs", status="failed").write()
    log = folder.path / "steps" / "test" / folder.job_id / "build.log"
    log.unlink()
    log.symlink_to(secret)
    (folder.path / "run_plan.json").unlink()
    os.mkfifo(folder.path / "run_plan.json")
    run, data = report_html(folder.path)
    assert b"a secret" not in data
    assert len(run.notes) == 2


@pytest.mark.parametrize("steps", ["1", "[1]", "null", '[{"job_index_path": 3}]'])
def test_an_index_that_was_meddled_with_is_no_crash(tmp_path: Path, steps: str) -> None:
    folder = RunFolder(tmp_path).write()
    index = json.loads((folder.path / "run_index.json").read_text())
    (folder.path / "run_index.json").write_text(json.dumps({**index, "steps": json.loads(steps)}))
    assert report_html(folder.path)[0].run_id == folder.run_id


def test_without_an_index_there_is_no_report(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"run_index\.json is not there"):
        report_html(tmp_path)


@pytest.mark.spec("8")
@pytest.mark.parametrize("name", ["summary.json", "junit.xml"])
def test_a_record_that_is_not_what_its_manifest_lists_stands_above_all(tmp_path: Path, name: str) -> None:
    folder = RunFolder(tmp_path).write()
    file = next(folder.path.glob(f"steps/*/*/{name}"))
    entry = {"path": name, "type": "file", "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    manifest = {"schema_id": "rch-xcode/manifest@1", "entries": [entry]}
    (file.parent / "manifest.json").write_text(json.dumps(manifest))
    assert "ALTERED" not in report_html(folder.path)[1].decode()
    file.write_text(file.read_text() + " ")
    html = report_html(folder.path)[1].decode()
    text = Elements(html).text
    assert text.index("✘ ALTERED") < text.rindex("ALTERED RECORDS, they say: SUCCEEDED")
    assert f"/{name}" in text
    assert 'class="verdict bad"' in html


@pytest.mark.spec("11")
def test_no_text_of_the_page_holds_a_secret(tmp_path: Path) -> None:
    token, part = "ghp_" + "A1b2" * 9, "MIIEowIBAAKCAQEA" + "b" * 48
    source = (
        f'let a = "{token}"\nlet b = "ghp_\x1b[0m{"A1b2" * 9}"\nlet c = """\n'
        f'  -----BEGIN PRIVATE KEY-----\n  {part}\n  -----END PRIVATE KEY-----\n  """\nlet d = 1\n'
    ).encode()
    (tmp_path / "source").mkdir()
    (tmp_path / "source/A.swift").write_bytes(source)
    said = [
        Diagnostic(severity="error", message=f"in {line} {token}", path="A.swift", line=line, column=1)
        for line in (2, 5, 8)
    ]
    folder = RunFolder(
        tmp_path / "runs",
        status="failed",
        root=str(tmp_path / "source"),
        sources={"A.swift": source},
        diagnostics=said,
        log=f"x {token}\n",
    )
    html = page_of(folder)
    assert "let d = 1" in html
    assert "[REDACTED]" in html
    for secret in (token, "A1b2A1b2", part):
        assert secret not in html
