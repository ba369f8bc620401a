"""The screen of `rchctl top`. All text in it went through `one_line` or `LogFilter`."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any, ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, Log, Static

from rchctl.terminal import one_line
from rchctl.tui.feed import Feed
from rchctl.tui.model import RUN_HEADS, WORKER_HEADS, Model, Row
from rchctl.tui.tail import Tail

REFRESH_SECONDS = 0.25
_HELP = """\
up, down     choose a run; its log is below
c            cancel the chosen run, after a question
?            this text
q            leave; nothing of the daemon's is touched by that

STAGE and PROGRESS are of the step that runs now; what is marked ~ is an estimate.
Any key closes this."""


class Question(ModalScreen[bool]):
    """Yes or no."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "yes"),
        Binding("n,escape,q", "answer(False)", "no"),
    ]

    def __init__(self, words: str) -> None:
        super().__init__()
        self._words = words

    def compose(self) -> ComposeResult:
        """The question in a box."""
        with Vertical(classes="box"):
            yield Static(f"{self._words}\n\ny yes    n no", markup=False)

    def action_answer(self, answer: bool) -> None:  # noqa: FBT001  (textual's actions have no names)
        """Close with it."""
        self.dismiss(answer)


class Help(ModalScreen[None]):
    """The keys."""

    def compose(self) -> ComposeResult:
        """The text in a box."""
        with Vertical(classes="box"):
            yield Static(_HELP, markup=False)

    def on_key(self) -> None:
        """Any key closes it."""
        self.dismiss(None)


class Top(App[None]):
    """Runs, workers, and the log of the chosen run."""

    TITLE = "rchctl top"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #head { height: 1; background: $panel; padding: 0 1; }
    #runs { height: 2fr; min-height: 4; }
    #workers { height: auto; max-height: 6; }
    #told { height: 1; padding: 0 1; }
    #log { height: 2fr; min-height: 4; border-top: solid $panel; }
    ModalScreen { align: center middle; }
    .box { width: auto; max-width: 90%; height: auto; padding: 1 2; border: round $accent; }
    .box Static { width: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "cancel", "cancel the run"),
        Binding("question_mark", "help", "help", key_display="?"),
        Binding("q", "quit", "leave"),
    ]

    def __init__(self, feed: Feed) -> None:
        super().__init__()
        self._feed = feed
        self._model = Model()
        self._lock = threading.Lock()
        self._changed = True
        self._daemon = "connecting"
        self._told = ""
        self._tail = Tail()

    def compose(self) -> ComposeResult:
        """Two tables, a line, a log."""
        yield Static(id="head", markup=False)
        yield DataTable(id="runs", cursor_type="row", zebra_stripes=True)
        yield DataTable(id="workers", cursor_type="none")
        yield Static(id="told", markup=False)
        yield Log(id="log", max_lines=2000)
        yield Footer()

    def on_mount(self) -> None:
        """Begin to listen."""
        for name, heads in (("runs", RUN_HEADS), ("workers", WORKER_HEADS)):
            table: DataTable[Text] = self.query_one(f"#{name}", DataTable)
            for head in heads:
                table.add_column(head, key=head)
        self.query_one("#runs").focus()
        self.set_interval(REFRESH_SECONDS, self.show)
        self._feed.start(self)

    def on_unmount(self) -> None:
        """Listen no more."""
        self._feed.stop()

    # --- told by the feed, from its thread ----------------------------------------------

    def take_snapshot(self, runs: list[dict[str, Any]]) -> None:
        """All runs anew."""
        with self._lock:
            self._model.snapshot(runs)
            self._changed = True

    def take_workers(self, workers: list[dict[str, Any]]) -> None:
        """The inventory anew."""
        with self._lock:
            self._model.workers(workers)
            self._changed = True

    def take_daemon(self, words: str) -> None:
        """How it is with the daemon."""
        with self._lock:
            self._daemon = one_line(words)
            self._changed = True

    def take_event(self, event: dict[str, Any]) -> None:
        """One event of a run."""
        with self._lock:
            self._model.take(event)
            self._changed = True

    # --- shown --------------------------------------------------------------------------

    def show(self) -> None:
        """Bring the screen up to date."""
        with self._lock:
            changed, self._changed = self._changed, False
            rows = self._model.run_rows() if changed else []
            workers = self._model.worker_rows() if changed else []
            daemon, told = self._daemon, self._told
            live, waits = self._model.count("RUNNING"), self._model.count("QUEUED")
        if changed:
            self.query_one("#head", Static).update(f"{daemon}    {live} running, {waits} queued")
            _fill(self.query_one("#runs", DataTable), rows)
            _fill(self.query_one("#workers", DataTable), workers)
        self.query_one("#told", Static).update(told)
        self._show_log()

    def _show_log(self) -> None:
        chosen = self.chosen
        with self._lock:
            path = None if chosen is None else self._model.log_path(chosen)
        widget = self.query_one("#log", Log)
        if self._tail.turn_to(path):
            widget.clear()
        if text := self._tail.read():
            widget.write(text)

    @property
    def chosen(self) -> str | None:
        """The run under the cursor."""
        table: DataTable[Text] = self.query_one("#runs", DataTable)
        return _key_at(table, table.cursor_row)

    def action_help(self) -> None:
        """Show the keys."""
        self.push_screen(Help())

    def action_cancel(self) -> None:
        """Ask, then cancel."""
        run_id = self.chosen
        with self._lock:
            may = run_id is not None and self._model.may_cancel(run_id)
        if run_id is None or not may:
            self._told = "nothing to cancel here: the run is over, or on its way to its end"
            return

        def answered(yes: bool | None) -> None:  # noqa: FBT001  (textual calls it so)
            if yes:
                self.run_worker(lambda: self._cancel(run_id), thread=True)

        self.push_screen(Question(f"cancel run {one_line(run_id)}?"), answered)

    def _cancel(self, run_id: str) -> None:
        words = one_line(self._feed.cancel(run_id))
        with self._lock:
            self._told = words


def _key_at(table: DataTable[Text], row: int) -> str | None:
    with suppress(Exception):  # there is no such row any more
        return table.coordinate_to_cell_key((row, 0)).row_key.value  # type: ignore[arg-type]
    return None


def _fill(table: DataTable[Text], rows: list[Row]) -> None:
    """Show these rows; what has not changed is left alone, and the cursor stays on its run."""
    known = [key.value for key in table.rows]
    if known != [row.key for row in rows]:
        chosen = _key_at(table, table.cursor_row) if known else None
        table.clear()
        for row in rows:
            table.add_row(*(Text(cell) for cell in row.cells), key=row.key)
        keys = [row.key for row in rows]
        if chosen in keys:
            table.move_cursor(row=keys.index(chosen), animate=False)
        return
    columns = list(table.columns)
    for row in rows:
        for column, cell in zip(columns, row.cells, strict=True):
            if table.get_cell(row.key, column).plain != cell:
                table.update_cell(row.key, column, Text(cell), update_width=True)
