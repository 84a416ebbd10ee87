"""Each kind of guarantee that a configuration can ask for, kept from votes and labels to the certificate.

As in `test_validity`, but through `calibrate()`: broken guarantees are counted in worlds just above alpha,
against an exact binomial limit. Beside each stands a canary: the same certificates read as a guarantee that
they are not, or made by a rule that is wrong, which must fail. TRUSTESCALATE_TRIALS raises the number of
trials.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.guarantees import ABOVE, ALPHA, DELTA, FOR_3, FOR_A, MANY, PAIR, heard, ids, protocol
from trustescalate.calibration.calibrate import calibrate
from trustescalate.calibration.protocol import Clustering
from trustescalate.calibration.selection import select
from trustescalate.config import Config, parse_config
from trustescalate.data.dataset import Dataset
from trustescalate.records import Annotation, Certificate, InterimAnalysis, Item, Task, TaskKind
from trustescalate.stats.batch import errors_allowed
from trustescalate.stats.validity import violation_limit

pytestmark = pytest.mark.slow
TRIALS = int(os.environ.get("TRUSTESCALATE_TRIALS", "500"))
FEW = 60
"""Trials of a canary: what it shows is far beyond the limit."""
HALF = replace(PAIR, ties="half")
GRADES = Task(TaskKind.RATING, "How good is it?", ("1", "2", "3", "4", "5"), tolerance=1)


@pytest.fixture(autouse=True)
def no_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a refusal advises is no part of a test, and takes seconds where rates lie near alpha."""
    monkeypatch.setattr("trustescalate.calibration.no_certificate.labels_needed", lambda *_: None)


def certified(
    labels: Mapping[str, Sequence[str]], task: Task, rng: np.random.Generator, **more: Any
) -> Certificate:
    """Calibrate on these rows; the judge always says the same, with a confidence that means nothing."""
    pool = FOR_3 if task.kind is TaskKind.RATING else FOR_A
    levels = rng.integers(5, size=len(labels))
    judged = {"j": {item: pool[level] for item, level in zip(labels, levels, strict=True)}}
    notes = [
        Annotation(item, f"p{who}", label)
        for item, heard in labels.items()
        for who, label in enumerate(heard)
    ]
    certificate = protocol(tuple(labels), task, seed=int(rng.integers(1 << 30)), **more)
    return calibrate(certificate, notes, judged, created="")


def count(trial: Callable[[np.random.Generator], bool], trials: int) -> int:
    return sum(trial(np.random.default_rng(seed)) for seed in range(trials))


def holds(trial: Callable[[np.random.Generator], bool]) -> bool:
    return count(trial, TRIALS) <= violation_limit(TRIALS, DELTA)


def fails(trial: Callable[[np.random.Generator], bool]) -> bool:
    return count(trial, FEW) > violation_limit(FEW, DELTA)


# ── whom verdicts agree with ─────────────────────────────────────────────────────────────────────


def test_against_an_annotator_drawn_at_random() -> None:
    assert holds(lambda rng: certified(heard(rng), PAIR, rng, reference="annotator").thresholds is not None)


def test_canary_a_majority_hides_those_who_disagree() -> None:
    assert fails(lambda rng: certified(heard(rng), PAIR, rng).thresholds is not None)


def nearly(rng: np.random.Generator, n: int = 100) -> dict[str, list[str]]:
    """Half of what is lost is lost to ties, which count one half: the risk is just above alpha."""
    chance = rng.random(n)
    labels = np.where(chance < ABOVE, "tie", np.where(chance < 1.5 * ABOVE, "B", "A"))
    return {item: [str(label)] for item, label in zip(ids(n), labels, strict=True)}


def test_ties_that_count_one_half() -> None:
    assert holds(lambda rng: certified(nearly(rng), HALF, rng).thresholds is not None)


def test_canary_half_ties_are_not_ties_of_a_class() -> None:
    """With ties of a class .18 of verdicts lose in a world where half ties lose .12: another guarantee."""

    def trial(rng: np.random.Generator) -> bool:
        labels = np.where(rng.random(300) < ABOVE, "tie", "A")
        rows = {item: [str(label)] for item, label in zip(ids(300), labels, strict=True)}
        return certified(rows, HALF, rng).thresholds is not None  # whose verdicts differ on more than alpha

    assert fails(trial)


def graded(rng: np.random.Generator, far: float, near: float, n: int = 100) -> dict[str, list[str]]:
    """The judge says 3; people say 5 with probability `far`, 4 with probability `near`."""
    chance = rng.random(n)
    labels = np.where(chance < far, "5", np.where(chance < far + near, "4", "3"))
    return {item: [str(label)] for item, label in zip(ids(n), labels, strict=True)}


def test_ratings_within_a_tolerance() -> None:
    assert holds(lambda rng: certified(graded(rng, ABOVE, 0.3), GRADES, rng).thresholds is not None)


def test_canary_a_near_miss_is_no_hit() -> None:
    assert fails(lambda rng: certified(graded(rng, 0.05, 0.3), GRADES, rng).thresholds is not None)


# ── clusters ─────────────────────────────────────────────────────────────────────────────────────


def queries(
    rng: np.random.Generator, groups: int = 25, size: int = 6
) -> tuple[Clustering, dict[str, list[str]]]:
    """Whole groups are wrong together, with a probability just above alpha."""
    wrong = np.repeat(rng.random(groups) < ABOVE, size)
    rows = {item: ["B" if no else "A"] for item, no in zip(ids(groups * size), wrong, strict=True)}
    names = list(rows)
    return Clustering(tuple(tuple(names[g * size : (g + 1) * size]) for g in range(groups)), size), rows


def test_betting_on_whole_groups() -> None:
    def trial(rng: np.random.Generator) -> bool:
        groups, rows = queries(rng)
        return certified(rows, PAIR, rng, clusters=groups).thresholds is not None

    assert holds(trial)


def test_canary_counting_rows_of_groups() -> None:
    def trial(rng: np.random.Generator) -> bool:
        return certified(queries(rng, size=20)[1], PAIR, rng).thresholds is not None

    assert count(trial, 120) > violation_limit(120, DELTA)


# ── looks ────────────────────────────────────────────────────────────────────────────────────────

SIZES, SHARES = (30, 60, 120, 240), (0.1, 0.2, 0.3, 0.4)


def looked(rng: np.random.Generator, sizes: Sequence[int], shares: Sequence[float] = ()) -> bool:
    rows = heard(rng, sizes[-1], people=1)
    for number, size in enumerate(sizes, 1):
        look = InterimAnalysis(number, tuple(sizes), tuple(shares)) if shares else None
        some = dict(list(rows.items())[:size])
        if certified(some, PAIR, rng, interim=look).thresholds is not None:
            return True
    return False


def test_four_looks_share_delta() -> None:
    trials = TRIALS // 2
    assert count(lambda rng: looked(rng, SIZES, SHARES), trials) <= violation_limit(trials, DELTA)


def test_canary_all_of_delta_at_every_look() -> None:
    assert fails(lambda rng: looked(rng, MANY))


# ── weights ──────────────────────────────────────────────────────────────────────────────────────


def weighted(bound: float) -> Config:
    guarantee = {
        "weight": "meta.w",
        "weight_bound": bound,
        "weight_source": "known",
        "path": "common",
        "pilot": 0,
    }
    judge = {"name": "j", "backend": "replay", "votes": "none"}
    return parse_config({"version": 1, "guarantee": guarantee, "judges": [judge]}, Path("trustescalate.toml"))


def shifted(rng: np.random.Generator, bound: float, n: int = 300) -> bool:
    """A quarter of the labelled rows is hard, and 3/4 of the items to be judged are, a little too many."""
    hard = rng.random(n) < 0.25
    wrong = rng.random(n) < np.where(hard, ABOVE / 0.75, 0.0)
    weight = np.minimum(np.where(hard, 3.0, 1 / 3), bound)
    names = ids(n)
    items = tuple(
        Item(name, name, ("x", "y"), meta={"w": float(w)}) for name, w in zip(names, weight, strict=True)
    )
    notes = tuple(Annotation(name, "p", "B" if no else "A") for name, no in zip(names, wrong, strict=True))
    config = weighted(bound)
    config = config.model_copy(
        update={"roles": config.roles.model_copy(update={"seed": int(rng.integers(1 << 30))})}
    )
    chosen = select(config, Dataset(items, notes), 0, None)
    stated = {note.item_id: [note.label] for note in notes}
    rows = {name: stated[name] for name in chosen.roles["certify"]}
    return certified(rows, PAIR, rng, weighting=chosen.weighting).thresholds is not None


def test_rows_kept_by_their_weights_speak_for_the_other_population() -> None:
    trials = TRIALS // 2
    assert count(lambda rng: shifted(rng, 3.0), trials) <= violation_limit(trials, DELTA)


def test_canary_weights_cut_at_a_bound_that_does_not_hold() -> None:
    assert fails(lambda rng: shifted(rng, 1 / 3))


# ── people's labels in the place of verdicts ─────────────────────────────────────────────────────

BATCH, DRAWN = 240, 60


def replaced(rng: np.random.Generator, rate: float) -> tuple[int, int]:
    """How many more wrong answers than guaranteed: of all answers, and of the judges' verdicts alone.

    A fixed batch, all of it released or nothing; people's answers are a quarter.
    """
    wrong, names = np.arange(BATCH) < rate * BATCH, np.array(ids(BATCH))
    order = rng.permutation(BATCH)
    drawn, rest = order[:DRAWN], order[DRAWN:]
    notes = [Annotation(str(names[i]), "p", "B" if wrong[i] else "A") for i in drawn]
    roles = {
        "exemplars": (), "dev": (), "holdout": (), "pilot": (),
        "certify": tuple(map(str, names[drawn])), "undrawn": tuple(map(str, names[rest])),
    }  # fmt: skip
    given = protocol([], PAIR, claim="batch", roles=roles, release_human_labels=True)
    certificate = calibrate(given, notes, {"j": dict.fromkeys(map(str, names), FOR_A[4])}, created="")
    if certificate.chosen is None:
        return -1, -1
    assert (certificate.tests[certificate.chosen].accepted, certificate.tests[certificate.chosen].drawn) == (
        BATCH,
        DRAWN,
    )
    errors = int(wrong[rest].sum())
    return tuple(errors - int(errors_allowed(size, ALPHA)) for size in (BATCH, BATCH - DRAWN))  # type: ignore[return-value]


@pytest.mark.parametrize("rate", [0.23, 0.26])
def test_answers_of_judges_and_people_together(rate: float) -> None:
    trials = TRIALS // 2
    assert count(lambda rng: replaced(rng, rate)[0] > 0, trials) <= violation_limit(trials, DELTA)


def test_canary_people_make_the_judges_look_better() -> None:
    """The same certificates, read as a guarantee about the judges' verdicts alone."""
    assert count(lambda rng: replaced(rng, 0.205)[1] > 0, 150) > violation_limit(150, DELTA)
