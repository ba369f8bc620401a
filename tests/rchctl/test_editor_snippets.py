"""The snippets of docs/editors: in the editors themselves, with the real client and a run's folder."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.cli import Cli
from support.fake_daemon import RUN_ID, FakeDaemon
from support.run_folder import RunFolder

from rch.contract.records import Diagnostic, TestFailure

SNIPPETS = Path(__file__).parents[2] / "docs" / "editors" / "snippets"
SOURCE = 'func f() {}\nlet 👋 = "x", n: Int = "zero"\n'
LINE = SOURCE.splitlines()[1]
COLUMN = len(LINE.partition('"zero"')[0].encode()) + 1
ERROR = "cannot convert value"


def needs(program: str) -> pytest.MarkDecorator:
    """Only where that editor is installed."""
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


class Desk:
    """A project, a run of it that failed, and `rchctl` on the path."""

    def __init__(self, cli: Cli, daemon: FakeDaemon, base: Path) -> None:
        self.cli, self.daemon, self.base = cli, daemon, base
        self.root = base / "my project"
        (self.root / "Tests").mkdir(parents=True)
        self.source, self.test = self.root / "A.swift", self.root / "Tests" / "T.swift"
        self.source.write_text(SOURCE)
        self.test.write_text("a\n    XCTFail()\n")
        self.out = base / "out.json"
        program = base / "bin" / "rchctl"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m rchctl "$@"\n')
        program.chmod(0o755)
        folder = RunFolder(
            cli.home / "data" / "artifacts" / "xcode",
            root=str(self.root),
            status="failed",
            diagnostics=(
                Diagnostic(path="A.swift", line=2, column=COLUMN, severity="error", message=ERROR),
                Diagnostic(path="A.swift", line=1, column=6, severity="warning", message="an odd name"),
            ),
            failures=(TestFailure(name="t()", suite="T", message="failed", path="Tests/T.swift", line=2),),
        ).write()
        assert folder.run_id
        daemon.change(
            state="FAILED", exit_code=50, root=str(self.root), run_dir=str(folder.path), human_summary="no"
        )
        daemon.runs[folder.run_id] = {**daemon.runs.pop(RUN_ID), "run_id": folder.run_id}
        daemon.on("runs.submit", lambda _params, _connection: daemon.runs[folder.run_id])
        self.run_id = folder.run_id

    def edit(self, *argv: str) -> Any:
        """What the editor left in the file of its findings."""
        path = f"{self.base / 'bin'}:{self.cli.environment['PATH']}"
        done = subprocess.run(
            argv,
            env={**self.cli.environment, "PATH": path, "OUT": str(self.out), "TERM": "dumb"},
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert self.out.exists(), (done.returncode, done.stdout, done.stderr)
        return json.loads(self.out.read_text())


@pytest.fixture
def desk(cli: Cli, daemon: FakeDaemon, tmp_path: Path) -> Desk:
    return Desk(cli, daemon, tmp_path)


def as_listed(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(row["file"], row["lnum"], row["col"], row["type"].lower(), row["text"]) for row in rows]


def quickfix(desk: Desk) -> list[tuple[Any, ...]]:
    return [
        (str(desk.source), 2, COLUMN, "e", ERROR),
        (str(desk.test), 2, 1, "e", "failed [T.t()]"),
        (str(desk.source), 1, 6, "w", "an odd name"),
    ]


VIM_LIST = """
let rows = map(getqflist(), {_, each -> {'file': fnamemodify(bufname(each.bufnr), ':p'), 'lnum': each.lnum,
  \\ 'col': each.col, 'type': each.type, 'text': each.text}})
call writefile([json_encode(rows)], $OUT)
qall!
"""


def vim(desk: Desk, script: str) -> list[tuple[Any, ...]]:
    path = desk.base / "script.vim"
    path.write_text(f"set runtimepath^={SNIPPETS}/vim\nset encoding=utf-8\n{script}\n{VIM_LIST}")
    rows = desk.edit("vim", "-N", "-u", "NONE", "-i", "NONE", "-n", "-es", "-S", str(path))
    return as_listed(rows)


@needs("vim")
def test_vim_s_make_fills_the_quickfix_list(desk: Desk) -> None:
    assert vim(desk, "compiler rchctl\nsilent make!") == quickfix(desk)
    assert desk.daemon.count("runs.submit") == 1


@needs("vim")
def test_vim_s_command_fills_it_while_the_run_goes_on(desk: Desk) -> None:
    version = subprocess.run(["vim", "--version"], capture_output=True, text=True, timeout=20, check=True)
    if "+job" not in version.stdout:
        pytest.skip("this Vim has no jobs")
    wait = "RchVerify\nwhile empty(g:rch_last)\n  sleep 20m\nendwhile"
    script = f"runtime plugin/rch.vim\n{wait}\n{wait}"
    assert vim(desk, script) == quickfix(desk)
    asked = desk.daemon.wait_for("runs.submit", 2)
    assert (asked["group"], asked["supersede"], asked["origin"]) == ("save", True, "editor")


@needs("nvim")
def test_neovim_shows_diagnostics_after_a_write(desk: Desk) -> None:
    script = desk.base / "script.lua"
    script.write_text(
        f"""
package.path = "{SNIPPETS}/?.lua;" .. package.path
local rch = require("rch")
rch.setup()
vim.cmd("edit A.swift")
vim.cmd("write")
vim.wait(30000, function() return rch.last.run_id ~= nil end, 10)
local rows = {{}}
for _, each in ipairs(vim.diagnostic.get()) do
  table.insert(rows, {{ file = vim.api.nvim_buf_get_name(each.bufnr), lnum = each.lnum + 1,
    col = each.col + 1, type = ({{ "e", "w", "n" }})[each.severity], text = each.message }})
end
vim.fn.writefile({{ vim.json.encode(rows) }}, vim.env.OUT)
vim.cmd("qall!")
"""
    )
    rows = desk.edit("nvim", "--headless", "-u", "NONE", "-i", "NONE", "-n", "-c", f"luafile {script}")
    wanted = {*quickfix(desk)[:1], (str(desk.test), 2, 5, "e", "failed [T.t()]"), *quickfix(desk)[2:]}
    assert set(as_listed(rows)) == wanted


@needs("emacs")
def test_emacs_finds_the_places_in_its_compilation_buffer_and_by_flymake(desk: Desk) -> None:
    script = desk.base / "script.el"
    script.write_text(
        f"""
(load "{SNIPPETS}/rch.el" nil t)
(setq compilation-ask-about-save nil)
(let ((buffer (rch-verify)) places flymake)
  (while (process-live-p (get-buffer-process buffer)) (accept-process-output nil 0.05))
  (with-current-buffer buffer
    (compilation--ensure-parse (point-max))
    (goto-char (point-min))
    (let (message)
      (while (setq message (text-property-search-forward 'compilation-message))
        (let* ((loc (compilation--message->loc (prop-match-value message))))
          (push (list (caar (compilation--loc->file-struct loc)) (compilation--loc->line loc)) places)))))
  (find-file "A.swift")
  (rch-flymake (lambda (found) (setq flymake (cons t (mapcar
    (lambda (each) (list (line-number-at-pos (flymake-diagnostic-beg each))
                         (save-excursion (goto-char (flymake-diagnostic-beg each))
                           (- (point) (line-beginning-position)))
                         (flymake-diagnostic-text each))) found)))))
  (while (not flymake) (accept-process-output nil 0.05))
  (with-temp-file (getenv "OUT")
    (insert (json-encode (list (cons 'places (vconcat (nreverse places)))
                               (cons 'flymake (vconcat (cdr flymake))))))))
"""
    )
    told = desk.edit("emacs", "--batch", "-Q", "-l", str(script))
    assert [tuple(each) for each in told["places"]] == [row[:2] for row in quickfix(desk)]
    assert told["flymake"] == [[2, LINE.index('"zero"'), ERROR], [1, 5, "an odd name"]]


def test_vs_code_s_matchers_read_what_the_client_prints(desk: Desk) -> None:
    tasks = json.loads((SNIPPETS / "vscode" / "tasks.json").read_text())["tasks"]
    for task in tasks:
        args = [
            desk.run_id if word == "--all" else word
            for word in task["args"]
            if word not in {"--project", "."}
        ]
        lines = desk.cli(*args).stdout.splitlines()
        matcher = task["problemMatcher"]
        pattern = matcher["pattern"]
        found = [match for line in lines if (match := re.search(pattern["regexp"], line))]
        names = ("file", "line", "column", "severity", "message")
        told = [tuple(match[pattern[name]] for name in names) for match in found]
        severities = {"e": "error", "w": "warning"}
        assert told == [
            (file, str(line), str(column), severities[kind], text)
            for file, line, column, kind, text in quickfix(desk)
        ]
        if task.get("isBackground"):
            assert re.search(matcher["background"]["beginsPattern"], lines[0])
            assert re.search(matcher["background"]["endsPattern"], lines[-1])


@pytest.mark.parametrize("page", ["vim", "neovim", "emacs", "vscode"])
def test_each_page_names_snippets_that_are_there(page: str) -> None:
    text = (SNIPPETS.parent / f"{page}.md").read_text()
    links = re.findall(r"\((snippets/[^)]+)\)", text)
    assert links
    assert all((SNIPPETS.parent / link).exists() for link in links)
