"""Lay out the matched items of two runs: disagreements first, with both verdicts, texts and trails."""

from array import array
from collections import Counter
from dataclasses import replace

import numpy as np

from trustescalate.analysis.comparison_change import NAMES
from trustescalate.analysis.matched_pairs import MatchedPairs, Move
from trustescalate.records import Label, Task, TaskKind
from trustescalate.report.figures import count, share, words
from trustescalate.report.items import ItemRows, LaidOut
from trustescalate.report.pictures import Bar, Bars
from trustescalate.report.sections import Block, Column, ItemRow, Row, Table, numbers
from trustescalate.stats.bounds import CodeArray

MOST_MOVES = 6
"""A chart names at most so many moves from one verdict to another."""
SMALL_TASK = 8
"""A task with more labels has no table of verdicts against verdicts."""


def moves_chart(pairs: MatchedPairs, task: Task, gave: str) -> Bars:
    """Count how the verdicts moved from the baseline to the candidate."""
    moves = pairs.moves()
    lines = [(name, sum(moves[move] for move in group)) for name, group in _kinds(moves, task, gave)]
    lines = [line for line in lines if line[1]]
    bars = tuple(
        Bar(name, (float(number),), (f"{number:,} · {share(number, len(pairs)).text}",))
        for name, number in lines
    )
    parts = "; ".join(f"{name}: {number:,}" for name, number in lines)
    return Bars("How the verdicts moved", ("",), bars, f"Verdicts on {len(pairs):,} matched items. {parts}.")


def _kinds(moves: Counter[Move], task: Task, gave: str) -> list[tuple[str, list[Move]]]:
    """Group the moves: equal verdicts, changed ones, and those that one run gave or none."""
    both = [move for move in moves if None not in move]
    same = [move for move in both if move[0] == move[1]]
    moved = sorted((move for move in both if move[0] != move[1]), key=lambda move: (-moves[move], str(move)))
    if task.kind is TaskKind.RATING:
        order = {label: place for place, label in enumerate(task.labels)}
        up = [move for move in moved if order[str(move[1])] > order[str(move[0])]]
        kinds = [
            ("The same rating", same),
            ("Candidate higher", up),
            ("Candidate lower", [move for move in moved if move not in up]),
        ]
    else:
        kinds = [("The same verdict", same)]
        kinds += [(f"{before} → {after}", [(before, after)]) for before, after in moved[:MOST_MOVES]]
        kinds.append(("Other changes", moved[MOST_MOVES:]))
    first, second = (name.lower() for name in NAMES)
    return [
        *kinds,
        (f"Only the {second} {gave} one", [move for move in moves if move[0] is None and move[1]]),
        (f"Only the {first} {gave} one", [move for move in moves if move[1] is None and move[0]]),
        (f"Neither {gave} one", [(None, None)]),
    ]


def moves_table(pairs: MatchedPairs, task: Task) -> tuple[Table, ...]:
    """Count the verdicts of the baseline against those of the candidate; none for many labels."""
    if len(task.labels) > SMALL_TASK:
        return ()
    moves = pairs.moves()
    labels: list[Label | None] = [*task.labels, None]
    rows = tuple(
        Row((words(before or "none"), *(count(moves[before, after]) for after in labels)))
        for before in labels
    )
    titles = numbers(*(f"Candidate: {label or 'none'}" for label in labels))
    return (Table("Verdicts: baseline by row, candidate by column", (Column("Baseline"), *titles), rows),)


class ComparedRows(LaidOut[int]):
    """The matched items as the candidate has them, with the baseline's verdict and trail.

    With `texts` they show the texts of the baseline that differ. Different verdicts come first, of these the
    ones where human labels side with the baseline; then the items that one run released.
    """

    def __init__(self, pairs: MatchedPairs, *, texts: bool) -> None:
        self._first, self._second = map(ItemRows, pairs.runs)
        self._ids = pairs.ids(0), pairs.ids(1)
        self._pairs, self._texts = pairs, texts
        order = np.argsort(_ranks(pairs), kind="stable")
        self._order = array("I", order.astype(np.uint32).tobytes())

    def _row(self, place: int) -> ItemRow:
        first, second = self._first.of(self._ids[0][place]), self._second.of(self._ids[1][place])
        labels = self._pairs.label(0, place), self._pairs.label(1, place)
        return _compared_row(first, second, labels, texts=self._texts)


def _ranks(pairs: MatchedPairs) -> CodeArray:
    before, after = pairs.verdicts
    one_alone = (before < 0) | (after < 0)
    return np.where(before == after, 3, np.where(one_alone, 2, np.where(pairs.agrees(0), 0, 1)))


def _compared_row(first: ItemRow, second: ItemRow, move: Move, *, texts: bool) -> ItemRow:
    before, after = move
    prompt, responses, pairs = second.prompt, second.responses, list[tuple[int, int]]()
    if texts:
        prompt += tuple(_of_baseline(block) for block in first.prompt if block not in second.prompt)
        for place, blocks in enumerate(first.responses):
            if blocks not in second.responses:
                if place < len(second.responses):
                    pairs.append((len(responses), place))
                responses += (tuple(map(_of_baseline, blocks)),)
    return replace(
        second,
        baseline=words("no verdict" if before is None else before),
        changed=before is not None and after is not None and before != after,
        prompt=prompt,
        responses=responses,
        pairs=tuple(pairs),
        trail=(
            *(replace(step, judge=f"baseline: {step.judge}") for step in first.trail),
            *(replace(step, judge=f"candidate: {step.judge}") for step in second.trail),
        ),
    )


def _of_baseline(block: Block) -> Block:
    return replace(block, title=f"Baseline: {block.title}")
