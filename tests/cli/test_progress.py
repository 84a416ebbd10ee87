"""The progress display: counts, pace and time left, on a terminal and elsewhere."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from tests.support.command_line import cli
from tests.support.projects import Calls
from trustescalate.cli.display import Phase, lines
from trustescalate.records import Reply, Usage
from trustescalate.records.progress import Progress


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def at(done: int, calls: int, total: int = 10_000) -> Progress:
    return Progress("judging", done, total, calls=calls)


# ── the time left ────────────────────────────────────────────────────────────────────────────────


def test_the_time_left_goes_by_the_last_minute(clock: Clock) -> None:
    phase = Phase(at(0, 0, 1000), clock)
    done = 0.0
    for second in range(301):
        clock.now = float(second)
        phase.see(at(int(done), int(done) * 10, 1000))
        done += 10.0 if second < 60 else 1.0
    assert phase.pace.rate() == pytest.approx(1.0, rel=0.02)
    assert phase.left == pytest.approx(160, rel=0.05)
    assert "about 3 min left" in phase.line()


def test_answers_from_the_cache_promise_nothing(clock: Clock) -> None:
    phase = Phase(at(0, 0), clock)
    for step in range(20):  # 8,000 items in two seconds, from the cache
        clock.now = step * 0.1
        phase.see(at(step * 400, 0))
    for second in range(1, 31):  # then one a second
        clock.now = 2.0 + second
        phase.see(at(8000 + second, second * 10))
    assert phase.pace.rate() == pytest.approx(1.0, rel=0.1)
    clock.now = 33.5
    phase.see(at(9000, 300))  # and a cached block in between
    clock.now = 35.0
    phase.see(at(9001, 310))
    assert phase.pace.rate() == pytest.approx(1.0, rel=0.1)


def test_a_run_from_the_cache_alone_has_a_rate(clock: Clock) -> None:
    phase = Phase(at(0, 0), clock)
    for second in range(5):
        clock.now = float(second)
        phase.see(at(second * 1000, 0))
    assert phase.pace.rate() == pytest.approx(1000)


def test_a_batch_that_is_waited_for_has_no_time_left(clock: Clock) -> None:
    phase = Phase(at(0, 1), clock)
    for second in range(1, 11):
        clock.now = float(second)
        phase.see(at(second, 1 + second))
    assert phase.left == pytest.approx(9990, rel=0.01)
    clock.now = 40.0
    stalled = phase.left
    assert stalled is not None
    assert stalled > 2 * 9990, "the longer nothing comes, the longer it takes"
    clock.now = 3600.0
    assert phase.left is None
    assert "left" not in phase.line()


# ── what is shown ────────────────────────────────────────────────────────────────────────────────


def shown(phase: Phase, width: int) -> list[str]:
    console = Console(width=width, no_color=True, force_terminal=False)
    with console.capture() as capture:
        console.print(phase.panel(width - 1))
    return capture.get().splitlines()


@pytest.mark.parametrize("width", [20, 40, 60, 100])
def test_the_panel_fits_every_width_with_what_matters_first(clock: Clock, width: int) -> None:
    state = Progress("judging", 1200, 30_000, 400, 90, 1.25, 123_456, 7, 5.0, 900_000)
    phase = Phase(state, clock)
    phase.see(replaced(state, done=0, calls=1))
    clock.now = 10.0
    phase.see(state)
    first, second = shown(phase, width)
    assert max(len(first), len(second)) < width
    assert "  7 failed" in second
    if width >= 40:
        assert "1,200 of 30,000" in first
        assert "USD 1.25 of 5.00" in second
    if width >= 60:
        assert "about 4 min left" in first
        assert "400 escalated, 90 abstained" in second
    if width >= 100:
        assert "120 items/s" in second


def replaced(state: Progress, done: int, calls: int) -> Progress:
    return Progress(state.doing, done, state.total, calls=calls)


def test_plain_lines_come_every_ten_seconds_and_at_the_end_of_a_phase(clock: Clock) -> None:
    printed: list[str] = []
    with lines(printed.append, clock) as show:
        for done in range(51):
            clock.now = done * 0.5
            show(Progress("calibrating", done, 50, spent=0.5, calls=10 * done, failed=2))
        show(Progress("judging", 10, 40, 3, 1, 0.75, 100, 2, budget_calls=100))
    assert printed == [
        "calibrating: 20 of 50, 2 failed votes, USD 0.5000, 200 calls, 2 items/s, about 15 s left",
        "calibrating: 40 of 50, 2 failed votes, USD 0.5000, 400 calls, 2 items/s, about 5 s left",
        "calibrating: 50 of 50 in 25 s, 2 failed votes, USD 0.5000, 500 calls",
        "judging: 10 of 40 in 0 s, 2 failed votes, USD 0.7500, 3 escalated, 1 abstained, 100 of 100 calls",
    ]


def test_failed_votes_and_the_budget_are_counted(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls(monkeypatch)
    unreadable = Reply("no verdict", None, "stop", Usage(1, 100, 0, 1))
    calls.then = lambda request: unreadable if len(calls.asked) % 10 == 0 else None
    result = cli("calibrate", "--config", config, "--budget-calls", 100_000)
    ((failed, made),) = re.findall(  # the line at the end of the phase
        r"^calibrating: .* in .*, (\d+) failed votes, .* ([\d,]+) of 100,000 calls$",
        result.stderr,
        re.MULTILINE,
    )
    assert int(made.replace(",", "")) == len(calls.asked)
    assert int(failed) == len(calls.asked) // 10


# ── a terminal ───────────────────────────────────────────────────────────────────────────────────

WORK = """
import sys, time
from trustescalate.cli.console import progress, say
from trustescalate.records import Reply, Usage
from trustescalate.records.progress import Progress
try:
    with progress() as show:
        for done in range(1, 41):
            show(Progress("judging", done, 40, 9, 3, 0.5, 10 * done, 1, 5.0))
            if done == 20:
                say("note: a notice in between")
            time.sleep(0.02 if len(sys.argv) == 1 else 0.2)
except KeyboardInterrupt:
    say("error: interrupted")
"""


def on_terminal(columns: int, *, interrupted: bool = False, **environment: str) -> str:
    """What a program that shows progress writes to a terminal of so many columns."""
    import fcntl
    import pty
    import struct
    import termios

    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    given = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "COLUMNS", "LINES")}
    child = subprocess.Popen(
        [sys.executable, "-c", WORK, *(["slow"] if interrupted else [])],
        stdout=subprocess.DEVNULL, stderr=terminal, env={**given, "TERM": "xterm-256color", **environment},
    )  # fmt: skip
    os.close(terminal)
    parts: list[bytes] = []
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            part = os.read(controller, 65536)
        except OSError:
            break
        if not part:
            break
        parts.append(part)
        if interrupted and "judging" in part.decode(errors="replace"):
            child.send_signal(signal.SIGINT)
            interrupted = False
    os.close(controller)
    assert child.wait(30) == 0
    return b"".join(parts).decode()


def screen_of(written: str, columns: int) -> list[str]:
    """The lines that a terminal shows at the end; fails where a line of the panel wraps."""
    rows, row, column = [""], 0, 0
    for control, ending, text in re.findall(r"\x1b\[\??([0-9]*[A-Za-z])|(\r|\n)|([^\x1b\r\n]+)", written):
        if control.endswith("A"):
            row -= int(control[:-1] or 1)
        elif control == "2K":
            rows[row] = ""
        elif ending == "\r":
            column = 0
        elif ending == "\n":
            row += 1
            rows += [""] * (row + 1 - len(rows))
        elif text:
            rows[row] = rows[row][:column].ljust(column) + text + rows[row][column + len(text) :]
            column += len(text)
            assert "━" not in text or column < columns
    return [line.rstrip() for line in rows if line.strip()]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_terminal_keeps_notices_and_one_line_a_phase() -> None:
    columns = 60
    written = on_terminal(columns)
    assert re.search(r"\x1b\[[0-9;]*3[0-8]m", written)
    assert "━" in written
    notice, *ended = screen_of(written, columns)
    assert notice == "note: a notice in between"
    assert re.fullmatch(
        r"judging: 40 of 40 in \d s, 1 failed vote, USD 0\.5000 of 5\.00, 9 escalated, 3 abst.*, 400 calls",
        " ".join(ended),
    )
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_an_interruption_leaves_the_cursor_visible_and_the_last_state() -> None:
    written = on_terminal(60, interrupted=True)
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")
    *_, state, error = screen_of(written, 60)[-3:]
    assert error == "error: interrupted"
    assert re.search(r"^judging: \d+ of 40 in ", "\n".join(screen_of(written, 60)), re.MULTILINE), state


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"NO_COLOR": "1"}])
def test_dumb_terminals_and_no_color_are_heeded(environment: dict[str, str]) -> None:
    written = on_terminal(80, **environment)
    assert re.search(r"\x1b\[[0-9;]*(3[0-8]|9[0-7])[;m]", written) is None
    assert ("\x1b" in written) == (environment.get("TERM") != "dumb")
