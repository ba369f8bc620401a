"""The page in a real browser: nothing runs and nothing is asked for but what is ours, at any width."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.browser import PROGRAM, Browser, browser
from support.run_folder import RunFolder, hostile_run

from rch.contract.records import TestNote
from rchctl.report.make import report_html

pytestmark = [
    pytest.mark.skipif(PROGRAM is None, reason="no chromium on this machine"),
]


class Proxy:
    """Notes the first line of every request that would leave the machine, and serves none."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._socket.accept()
            except OSError:
                return
            with peer:
                peer.settimeout(5)
                self.asked.append(peer.recv(4096).partition(b"\r\n")[0])

    def close(self) -> None:
        """No more is noted."""
        self._socket.close()


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxy]:
    found = Proxy()
    yield found
    found.close()


@pytest.fixture(scope="module")
def page(proxy: Proxy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all of this module: its start is what costs."""
    with browser(tmp_path_factory.mktemp("chromium"), proxy.address) as found:
        yield found


def written(folder: RunFolder) -> Path:
    path = folder.artifacts / "report.html"
    path.write_bytes(report_html(folder.write().path)[1])
    return path


def test_hostile_names_run_nothing_and_ask_for_nothing(page: Browser, proxy: Proxy, tmp_path: Path) -> None:
    path = written(hostile_run(tmp_path))
    page.look(width=1100)
    page.open(path)
    assert page.requested() == [path.as_uri()]
    assert page.value("typeof window.owned") == "undefined"
    assert page.value("document.images.length + document.scripts.length") == 1
    seen = page.value("document.querySelector('.message h4').textContent")
    assert "<script>window.owned=1</script>" in seen
    assert "<U+202E>gnp" in seen
    # What is put in by force is stopped by the page's own policy.
    page.value(
        "document.body.insertAdjacentHTML('beforeend', '<img src=http://evil.invalid/y onerror=owned=2>')"
    )
    page.value("document.body.append(Object.assign(document.createElement('script'), {text: 'owned=3'}))")
    page.value("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
    assert page.value("typeof window.owned") == "undefined"
    page.wait_for("Log.entryAdded", has="Content Security Policy")
    assert not [line for line in proxy.asked if b"evil.invalid" in line]


@pytest.mark.parametrize("width", [320, 1600])
def test_nothing_is_wider_than_the_window(page: Browser, tmp_path: Path, width: int) -> None:
    folder = hostile_run(tmp_path)
    folder.cases = [*folder.cases, ("Suite" * 60, "name" * 100, "passed")]
    folder.summary = "word" * 100
    page.look(width=width)
    page.open(written(folder))
    assert page.value("document.documentElement.scrollWidth") <= width
    assert page.value("document.querySelector('h1').getBoundingClientRect().width") > 0


def test_light_and_dark_and_paper_each_have_their_own_ground(page: Browser, tmp_path: Path) -> None:
    path = written(RunFolder(tmp_path))
    ground = "getComputedStyle(document.body).backgroundColor"
    text = "getComputedStyle(document.body).color"
    page.open(path)
    page.look(width=800)
    assert (page.value(ground), page.value(text)) == ("rgb(255, 255, 255)", "rgb(27, 31, 36)")
    page.look(width=800, dark=True)
    assert (page.value(ground), page.value(text)) == ("rgb(15, 19, 24)", "rgb(230, 237, 243)")
    page.look(width=800, dark=True, media="print")
    assert (page.value(ground), page.value(text)) == ("rgb(255, 255, 255)", "rgb(0, 0, 0)")


SHOWN = "Array.from(document.querySelectorAll('.tests tr[class]')).filter((row) => row.offsetParent).length"


def test_the_list_of_tests_is_filtered_by_words_and_outcome(page: Browser, tmp_path: Path) -> None:
    cases = [("Sums", f"adds{at}()", "passed") for at in range(5)]
    cases += [("Sums", "fails()", "failed"), ("Words", "adds()", "flaky")]
    note = TestNote(name="adds()", suite="Words", message="once")
    page.look(width=1100)
    page.open(written(RunFolder(tmp_path, status="failed", cases=cases, flaky=(note,))))
    assert page.value(SHOWN) == 7
    typed = "(words) => { const box = document.querySelector('input'); box.value = words;"
    typed += "box.dispatchEvent(new Event('input')); return new Promise((done) => setTimeout(done, 200)) }"
    page.value(f"({typed})('words ADDS')")
    assert page.value(SHOWN) == 1
    assert page.value("document.querySelector('output').textContent") == "1 of 7 shown"
    page.value(f"({typed})('')")
    chosen = "const list = document.querySelector('select'); list.value = 'f';"
    page.value(f"{chosen} list.dispatchEvent(new Event('change'))")
    assert page.value(SHOWN) == 1


def test_without_scripts_all_is_there_but_the_filter(page: Browser, tmp_path: Path) -> None:
    page.look(width=1100)
    page.script(on=False)
    try:
        page.open(written(RunFolder(tmp_path, status="failed", simulated=True)))
        document = page.call("DOM.getDocument", depth=0)["root"]["nodeId"]
        html = page.call("DOM.getOuterHTML", nodeId=document)["outerHTML"]
    finally:
        page.script(on=True)
    assert 'data-tools="" hidden=""' in html
    assert "SIMULATED: stand-in tools made this" in html
    assert html.count('<tr class="p">') == 2
