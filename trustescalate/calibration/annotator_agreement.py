"""How people agree with one another on the certification rows, and whether a judge could stand in for one.

Nothing here decides anything, and no judge is asked: no guarantee rests on it. Who labelled how fast is shown
beside who agrees with whom; nobody is left out for either.
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
"""The strictest of the values that the alternative-annotator test is used with: beside crowd workers."""
MIN_ROWS = 30
MOST_PAIRS = 12
"""With more people than this, pairs are not listed one by one."""


def people(
    task: Task,
    notes: Sequence[Annotation],
    rows: Sequence[str],
    verdicts: Mapping[str, IntArray],
    cluster: IntArray | None = None,
) -> AnnotatorAgreement | None:
    """How people agree on `rows`, and whether a judge could stand in for one of them.

    `notes` are the annotations on these rows, `verdicts` each judge's label (n,) of them, -1 for none;
    `cluster` (n,) says which rows are clustered. None where fewer than two people gave an opinion.
    """
    stated = [note for said in stated_labels(task, notes).values() for note in said]
    names = sorted({note.annotator for note in stated})
    if len(names) < 2:
        return None
    place = {item_id: i for i, item_id in enumerate(rows)}
    row = np.array([place[note.item_id] for note in stated])
    who = np.array([names.index(note.annotator) for note in stated])
    label = np.array([task.labels.index(note.label) for note in stated])
    return AnnotatorAgreement(
        _coefficients(task, row, label, len(rows), cluster),
        *_annotators(notes, names, row, who, label),
        _stand_ins(task, names, row, who, label, verdicts) if len(names) > 2 else (),
        EPSILON,
        MIN_ROWS,
    )


def _coefficients(
    task: Task, row: IntArray, label: IntArray, n: int, cluster: IntArray | None
) -> tuple[Coefficient, ...]:
    counts = np.zeros((n, len(task.labels)), dtype=np.int64)
    np.add.at(counts, (row, label), 1)
    found: list[tuple[str, CoefficientName, float | None]] = [
        ("Fleiss κ", "fleiss_kappa", fleiss_kappa(counts)),
        ("Krippendorff α, nominal", "alpha_nominal", krippendorff_alpha(counts, "nominal")),
        ("Gwet AC1", "gwet_ac1", gwet_ac1(counts)),
    ]
    if task.kind is TaskKind.RATING:
        ordinal = krippendorff_alpha(counts, "ordinal")
        found.insert(2, ("Krippendorff α, ordinal", "alpha_ordinal", ordinal))
    return tuple(
        Coefficient(
            name,
            value,
            agreement_interval(kind, counts, INTERVAL_DELTA, cluster),
            no_interval(kind, counts, cluster),
        )
        for name, kind, value in found
    )


def _annotators(
    notes: Sequence[Annotation], names: Sequence[str], row: IntArray, who: IntArray, label: IntArray
) -> tuple[tuple[Annotator, ...], tuple[Pair, ...]]:
    found = annotator_report(row, who, label)
    ties, skips = (Counter(note.annotator for note in notes if note.label == it) for it in (TIE, SKIP))
    seconds: dict[str, list[float]] = defaultdict(list)
    for note in notes:
        if note.seconds is not None:
            seconds[note.annotator].append(note.seconds)
    agreed, compared = found.agreements, found.comparisons
    each = tuple(
        Annotator(
            name=name,
            opinions=int(found.opinions[i]),
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


def _stand_ins(
    task: Task,
    names: Sequence[str],
    row: IntArray,
    who: IntArray,
    label: IntArray,
    verdicts: Mapping[str, IntArray],
) -> tuple[StandIn, ...]:
    held = []
    for judge, said in verdicts.items():
        found = alternative_annotator_test(
            row,
            who,
            label.astype(np.float64),
            np.where(said >= 0, said, np.nan),
            EPSILON,
            scale="interval" if task.kind is TaskKind.RATING else "nominal",
            min_rows=MIN_ROWS,
        )
        for i in range(0 if found is None else len(found.annotator)):
            assert found is not None
            held.append(
                StandIn(
                    judge,
                    names[int(found.annotator[i])],
                    int(found.rows[i]),
                    float(found.advantage[i]),
                    float(found.p_value[i]),
                    bool(found.beaten[i]),
                )
            )
    return tuple(held)
