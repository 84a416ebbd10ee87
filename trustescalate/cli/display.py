"""Show progress: a bar on a terminal, a plain line every ten seconds elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from trustescalate.records.progress import Progress

EVERY = 10.0


def summary(state: Progress) -> str:
    """Summarise escalations, abstentions, calls and cost so far.

    >>> summary(Progress("judging", 120, 300, 40, 9, 0.0312, 2400))
    '40 escalated, 9 abstained, 2,400 calls, 0.0312 USD'
    """
    if state.doing == "importing":
        return ""
    counts = f"{state.escalated} escalated, {state.abstained} abstained, " if state.doing == "judging" else ""
    return f"{counts}{state.calls:,} calls, {state.spent:.4f} USD"


@contextmanager
def bar() -> Iterator[Callable[[Progress], None]]:
    """Show a live bar that stays when the work ends. It starts late, so that a question can come first."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[summary]}"),
        TimeRemainingColumn(),
    )
    shown = RichProgress(*columns, console=Console(stderr=True))
    tasks = {}

    def show(state: Progress) -> None:
        shown.start()
        if state.doing not in tasks:
            tasks[state.doing] = shown.add_task(state.doing, total=state.total, summary="")
        shown.update(tasks[state.doing], completed=state.done, total=state.total, summary=summary(state))

    try:
        yield show
    finally:
        shown.stop()


@contextmanager
def lines(
    say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
) -> Iterator[Callable[[Progress], None]]:
    """Print a line every ten seconds, and one for each phase that ends."""
    last = {"at": clock()}

    def show(state: Progress) -> None:
        now = clock()
        if now - last["at"] < EVERY and state.done < state.total:
            return
        last["at"] = now
        done = f"{state.doing}: {state.done:,} of {state.total:,}"
        say(", ".join(filter(None, (done, summary(state)))))

    yield show
