"""Append the rows of a run to its folder, and make a folder ready for the rest of a run."""

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from itertools import chain
from types import TracebackType
from typing import Literal, Self, TypeVar

from trustescalate.calibration.served_models import must_be_served
from trustescalate.cascade.run_folder import DECISIONS, ITEMS, JUDGMENTS, RunFolder
from trustescalate.cascade.verification import failed_votes, only_failed, only_good
from trustescalate.errors import UsageError
from trustescalate.records import Decision, Judgment, Run
from trustescalate.records.appending import append, lock
from trustescalate.records.columns import Column, Picked
from trustescalate.records.decisions import placed_decisions
from trustescalate.records.failures import may_be_answered
from trustescalate.records.item_columns import ids_of, places_of
from trustescalate.records.jsonl import decode, encode, truncate_torn, write_rows
from trustescalate.records.stored import Lines, Stored, judgments_of

T = TypeVar("T")


class RunWriter:
    """Appends whole rows, judgments before their decision; holds the lock of the folder.

    Raises CertificateMismatch, and writes nothing, for a judgment of a `pinned` judge by another served model
    than at calibration. `asked_before` are the items without a decision that have failed votes.
    """

    def __init__(self, folder: RunFolder, pinned: Collection[str] = ()) -> None:
        self._folder, self._pinned = folder, pinned
        self._files: dict[str, int] = {}
        self._was_complete = False
        self._complete: dict[str, tuple[list[Judgment], Decision]] = {}
        self.asked_before: frozenset[str] = frozenset()
        self._lock = os.open(folder.path / ITEMS, os.O_RDWR)
        if not lock(self._lock):
            os.close(self._lock)
            raise UsageError(
                f"{folder.path}: another process is writing this run", "wait for it, or start a new run"
            )
        for name in (JUDGMENTS, DECISIONS):
            truncate_torn(folder.path / name)

    def begin(self, run: Run) -> Run:
        """Make the folder ready for the rest of a run that was loaded from it, and return what stays.

        Judgments that no decision rests on are removed, and so are decisions that failed votes left to
        people, so that these votes are asked again. Failed votes stay, for what they cost.
        """
        self._must_be_served(run.judgments)
        again = to_ask_again(run)
        together = run.header.certificate.status == "expected"

        def stays(row: Judgment) -> bool:
            asked = row.item_id in again and (
                not together or any(may_be_answered(vote.failure) for vote in row.votes)
            )
            return not asked

        judgments, decisions = run.judgments, run.decisions
        if again:
            judgments = _pick(judgments, stays)
            decisions = () if together else _pick(decisions, lambda row: row.item_id not in again)
        self._folder.finish("running")
        path = self._folder.path
        if len(decisions) < len(run.decisions):
            write_rows(path / DECISIONS, decisions)
        self._remove_judgments(run, judgments, again, stays)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
        self._files = {name: os.open(path / name, flags, 0o644) for name in (JUDGMENTS, DECISIONS)}
        return replace(run, header=self._folder.header, judgments=judgments, decisions=decisions)

    def _remove_judgments(
        self, run: Run, kept: Sequence[Judgment], again: Collection[str], stays: Callable[[Judgment], bool]
    ) -> None:
        """Leave in the file the judgments that are kept, and before them, for their cost, failed votes."""
        path, places, judged = self._folder.path / JUDGMENTS, places_of(run.items), judgments_of(run)
        complete = run.header.status == "complete" and run.header.certificate.status != "expected"
        written, before = Lines(path, missing=True), Column("I")
        own: dict[str, dict[str, Judgment]] = {}
        for _, line in written.scan(appended=True):
            row = decode(line, Judgment)
            if complete and row.item_id in again:
                own.setdefault(row.item_id, {})[row.judge] = only_good(row)
            if failed_votes(row) and not any(
                other.judge == row.judge and stays(other) for other in judged(places[row.item_id])
            ):
                before.append(len(written) - 1)
        failed = Stored(Judgment, written, before)
        if again or before or len(written) > len(kept) + len(before):
            write_rows(path, chain(map(only_failed, failed), kept))
        self.asked_before = frozenset(row.item_id for row in failed)
        if complete:
            asked = [row for row in run.decisions if row.item_id in again]
            self._complete = {row.item_id: ([*own[row.item_id].values()], row) for row in asked}
            self._was_complete = bool(asked)

    def record(self, judgments: Sequence[Judgment], decision: Decision) -> None:
        """Write one item."""
        self._must_be_served(judgments)
        append(self._files[JUDGMENTS], b"".join(encode(judgment) + b"\n" for judgment in judgments))
        append(self._files[DECISIONS], encode(decision) + b"\n")
        self._complete.pop(decision.item_id, None)

    def stop(self, status: Literal["budget", "stopped"]) -> None:
        """End early: a run that was complete has its earlier rows on what was not asked again."""
        for rows, decision in list(self._complete.values()):
            self.record(rows, decision)
        self._folder.finish("complete" if self._was_complete else status)

    def record_judgment(self, judgment: Judgment) -> None:
        """Write a judgment on an item that is decided later."""
        self._must_be_served([judgment])
        append(self._files[JUDGMENTS], encode(judgment) + b"\n")

    def _must_be_served(self, judgments: Sequence[Judgment]) -> None:
        must_be_served(self._folder.header.certificate, judgments, self._pinned)

    def close(self) -> None:
        """Release the folder."""
        for file in (*self._files.values(), self._lock):
            os.close(file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _pick(rows: Sequence[T], chosen: Callable[[T], bool]) -> Sequence[T]:
    return Picked(rows, Column("I", (place for place, row in enumerate(rows) if chosen(row))))


def to_ask_again(run: Run) -> frozenset[str]:
    """Return the items that went to people with failed votes that may succeed when asked again.

    With the claim "batch" the recorded votes of the certificate are the judges, and answer as before.
    """
    if run.header.certificate.batch is not None:
        return frozenset()
    ids = ids_of(run.items)
    return frozenset(
        ids[place]
        for place, row in placed_decisions(run)
        if row.label is None
        and not (row.trail and row.trail[-1].accepted)
        and any(may_be_answered(failure) for step in row.trail for failure in step.failures)
    )
