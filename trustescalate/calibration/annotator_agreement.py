"""Measure inter-annotator agreement on the certification rows, and run the alternative-annotator test.

No guarantee rests on either, and no annotator is left out for agreeing rarely or answering fast.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from statistics import median

import numpy as np

from trustescalate.data.labels import stated_labels
from trustescalate.records import (
    SKIP,
    TIE,
    Annotation,
    Annotator,
    AnnotatorAgreement,
    Coefficient,
    Pair,
    StandIn,
    Task,
    TaskKind,
)
from trustescalate.stats.agreement import Coefficient as CoefficientName
from trustescalate.stats.agreement import (
    agreement_interval,
    fleiss_kappa,
    gwet_ac1,
    krippendorff_alpha,
    no_interval,
)
from trustescalate.stats.annotators import alternative_annotator_test, annotator_report
from trustescalate.stats.bounds import IntArray

INTERVAL_DELTA = 0.05
EPSILON = 0.1
"""The strictest of the values that the alternative-annotator test is used with: for crowd workers."""
MIN_ROWS = 30
MOST_PAIRS = 12
"""With more annotators than this, pairs are not listed one by one."""


def measure_agreement(
    task: Task,
    notes: Sequence[Annotation],
    rows: Sequence[str],
    verdicts: Mapping[str, IntArray],
    cluster: IntArray | None = None,
) -> AnnotatorAgreement | None:
    """Inter-annotator agreement on `rows`, and whether a judge could stand in for an annotator.

    `notes` are the annotations on these rows, `verdicts` each judge's label (n,) of them, -1 for none;
    `cluster` (n,) says which rows are clustered. None where fewer than two annotators stated a label.
    """
    stated = [note for notes_of_item in stated_labels(task, notes).values() for note in notes_of_item]
    names = sorted({note.annotator for note in stated})
    if len(names) < 2:
        return None
    place = {item_id: i for i, item_id in enumerate(rows)}
    row = np.array([place[note.item_id] for note in stated])
    who = np.array([names.index(note.annotator) for note in stated])
    label = np.array([task.labels.index(note.label) for note in stated])
    return AnnotatorAgreement(
        _measure_coefficients(task, row, label, len(rows), cluster),
        *_describe_annotators(notes, names, row, who, label),
        _test_stand_ins(task, names, row, who, label, verdicts) if len(names) > 2 else (),
        EPSILON,
        MIN_ROWS,
    )


def _measure_coefficients(
    task: Task, row: IntArray, label: IntArray, n: int, cluster: IntArray | None
) -> tuple[Coefficient, ...]:
    counts = np.zeros((n, len(task.labels)), dtype=np.int64)
    np.add.at(counts, (row, label), 1)
    values: list[tuple[str, CoefficientName, float | None]] = [
        ("Fleiss κ", "fleiss_kappa", fleiss_kappa(counts)),
        ("Krippendorff α, nominal", "alpha_nominal", krippendorff_alpha(counts, "nominal")),
        ("Gwet AC1", "gwet_ac1", gwet_ac1(counts)),
    ]
    if task.kind is TaskKind.RATING:
        ordinal = krippendorff_alpha(counts, "ordinal")
        values.insert(2, ("Krippendorff α, ordinal", "alpha_ordinal", ordinal))
    return tuple(
        Coefficient(
            name,
            value,
            agreement_interval(kind, counts, INTERVAL_DELTA, cluster),
            no_interval(kind, counts, cluster),
        )
        for name, kind, value in values
    )


def _describe_annotators(
    notes: Sequence[Annotation], names: Sequence[str], row: IntArray, who: IntArray, label: IntArray
) -> tuple[tuple[Annotator, ...], tuple[Pair, ...]]:
    report = annotator_report(row, who, label)
    ties, skips = (Counter(note.annotator for note in notes if note.label == it) for it in (TIE, SKIP))
    seconds: dict[str, list[float]] = defaultdict(list)
    for note in notes:
        if note.seconds is not None:
            seconds[note.annotator].append(note.seconds)
    agreed, compared = report.agreements, report.comparisons
    each = tuple(
        Annotator(
            name=name,
            opinions=int(report.annotations[i]),
            ties=ties[name],
            skips=skips[name],
            agreements=int(agreed[i].sum()),
            comparisons=int(compared[i].sum()),
            timed=len(seconds[name]),
            seconds=median(seconds[name]) if seconds[name] else None,
        )
        for i, name in enumerate(names)
    )
    pairs = tuple(
        Pair(names[i], names[j], int(agreed[i, j]), int(compared[i, j]))
        for i in range(len(names))
        for j in range(i + 1, len(names))
        if compared[i, j] and len(names) <= MOST_PAIRS
    )
    return each, pairs


def _test_stand_ins(
    task: Task,
    names: Sequence[str],
    row: IntArray,
    who: IntArray,
    label: IntArray,
    verdicts: Mapping[str, IntArray],
) -> tuple[StandIn, ...]:
    stand_ins = []
    for judge, labels in verdicts.items():
        test = alternative_annotator_test(
            row,
            who,
            label.astype(np.float64),
            np.where(labels >= 0, labels, np.nan),
            EPSILON,
            scale="interval" if task.kind is TaskKind.RATING else "nominal",
            min_rows=MIN_ROWS,
        )
        for i in range(0 if test is None else len(test.annotator)):
            assert test is not None
            stand_ins.append(
                StandIn(
                    judge,
                    names[int(test.annotator[i])],
                    int(test.rows[i]),
                    float(test.advantage[i]),
                    float(test.p_value[i]),
                    bool(test.beaten[i]),
                )
            )
    return tuple(stand_ins)
