"""Testing the same labels again and again: the guarantee holds over all tests together.

Three habits, in worlds whose risk is just above alpha: label 50 more and test again, eleven times; try every
path; try ten role seeds. A sequence is broken if any of its certificates is wrong. Beside each stands the
canary: the same tests at all of delta each, as without a ledger. TRUSTESCALATE_TRIALS raises the trials.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.guarantees import FOR_A, MANY, PAIR, heard, protocol
from trustescalate.calibration.attempts import enter_test
from trustescalate.calibration.calibrate import calibrate
from trustescalate.calibration.ledger import enter_outcome, labels_of, read_ledger
from trustescalate.records import Annotation, Item
from trustescalate.stats.certify import certify
from trustescalate.stats.paths import PATHS, Basis, Plan
from trustescalate.stats.pooling import Rows, Votes
from trustescalate.stats.rule import TestRule
from trustescalate.stats.sequential import attempt_share
from trustescalate.stats.validity import Sample, replicate, violation_limit, world

pytestmark = pytest.mark.slow
TRIALS = max(2_000, int(os.environ.get("TRUSTESCALATE_TRIALS", "0")))
CANARIES = 400
THROUGH_CALIBRATE = 60
ALPHA, DELTA = 0.2, 0.1
PLACE = world("adversarial", ALPHA, 2)
SIZES = range(100, 650, 50)
SHARES = [attempt_share(k) for k in range(1, 12)]
ALL = [1.0] * 11

Habit = Callable[[np.random.Generator, Sequence[float]], bool]


def free(rows: Sample) -> Rows:
    return Rows(*rows, np.zeros(rows.scores.shape))


def laid_out(name: str, seed: int) -> Plan:
    rng = np.random.default_rng(seed)
    pilot, dev = PLACE.draw(50, rng), PLACE.draw(60, rng)
    return PATHS[name].build(Basis(free(dev), Votes(pilot.scores, pilot.labels), 2, classes=2))


PLANS = {name: laid_out(name, seed) for seed, name in enumerate(PATHS)}
"""Laid out once: of unlabelled rows and dev rows, so of nothing that is tested."""


def wrong(rows: Rows, path: str, share: float, procedure: str = "fallback") -> bool:
    """Whether a test with this share of delta certifies a cascade whose true risk is above alpha."""
    plan = PLANS.get(path)
    result = certify(
        *rows,
        alpha=ALPHA,
        delta=DELTA * share,
        path="tierwise" if plan is None else plan,
        procedure=procedure,
    )
    if result.thresholds is None:
        return False
    return PLACE.risk_coverage(result.thresholds, plan)[0] > ALPHA


def fifty_more(rng: np.random.Generator, shares: Sequence[float]) -> bool:
    rows = free(PLACE.draw(SIZES[-1], rng))
    return any(
        wrong(rows.take(np.arange(n)), "common", share) for n, share in zip(SIZES, shares, strict=True)
    )


def every_path(rng: np.random.Generator, shares: Sequence[float]) -> bool:
    rows = free(PLACE.draw(300, rng))
    tests = [(path, "fallback") for path in (*PATHS, "tierwise")] + [("common", "fixed_sequence")]
    assert len(tests) == len(PATHS) + 2
    return any(
        wrong(rows, path, share, procedure) for (path, procedure), share in zip(tests, shares, strict=False)
    )


def ten_seeds(rng: np.random.Generator, shares: Sequence[float]) -> bool:
    rows = free(PLACE.draw(300, rng))
    return any(wrong(rows.take(rng.permutation(300)[:200]), "common", share) for share in shares[:10])


def broken(habit: Habit, shares: Sequence[float], trials: int) -> int:
    return sum(habit(np.random.default_rng(seed), shares) for seed in range(trials))


@pytest.mark.parametrize("habit", [fifty_more, every_path, ten_seeds])
def test_all_tests_of_the_same_labels_share_delta(habit: Habit) -> None:
    assert broken(habit, SHARES, TRIALS) <= violation_limit(TRIALS, DELTA)


@pytest.mark.parametrize("habit", [fifty_more, every_path, ten_seeds])
def test_canary_every_test_at_all_of_delta(habit: Habit) -> None:
    seen = broken(habit, ALL, CANARIES)
    assert seen > violation_limit(CANARIES, DELTA)
    assert seen / CANARIES > 0.2


# ── through the ledger and calibrate() ───────────────────────────────────────────────────────────


def labelled_more(folder: Path, seed: int) -> bool:
    """Label 20 more and calibrate, eleven times; each test is entered into a ledger before its outcome."""
    rng = np.random.default_rng(seed)
    rows = heard(rng, MANY[-1], people=1)
    levels = rng.integers(5, size=len(rows))
    votes = {item: FOR_A[level] for item, level in zip(rows, levels, strict=True)}
    folder.mkdir()
    for number, n in enumerate(MANY[::2], 1):
        names = list(rows)[:n]
        notes = [Annotation(name, "p", rows[name][0]) for name in names]
        labels = labels_of([Item(name, name, ("x", "y")) for name in names], notes)
        outcome, judged = protocol(names, PAIR), {"j": {name: votes[name] for name in names}}
        ledger, attempt = enter_test(read_ledger(folder), outcome, labels, notes, None, judged)
        assert attempt.number == number
        certificate = calibrate(protocol(names, PAIR, attempt=attempt), notes, judged, created="")
        enter_outcome(ledger, replace(certificate, attempt=attempt))
        if certificate.status == "certified":
            return True
    return False


@pytest.fixture(autouse=True)
def no_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a refusal advises is no part of a test, and takes seconds where rates lie near alpha."""
    monkeypatch.setattr("trustescalate.calibration.no_certificate.labels_needed", lambda *_: None)


def test_label_more_through_the_ledger_and_calibrate(tmp_path: Path) -> None:
    """Without the ledger the same habit is the canary of planned looks in `test_validity_guarantees`."""
    seen = sum(labelled_more(tmp_path / str(seed), seed) for seed in range(THROUGH_CALIBRATE))
    assert seen <= violation_limit(THROUGH_CALIBRATE, DELTA)


# ── what the shares cost ─────────────────────────────────────────────────────────────────────────


def test_the_first_test_loses_little_coverage() -> None:
    """The table of docs/decisions/0012, in small: at most two points of coverage on average, whatever n."""
    for n in (100, 200, 500):
        lost = []
        for name in ("flat", "monotone", "bad_at_top", "deceptive"):
            full, first = (
                replicate(
                    world(name, 0.15, 2),
                    n,
                    TestRule(0.15, 0.1 * share, "hedged"),
                    trials=60,
                    rng=np.random.default_rng(7),
                    pilot=50,
                ).mean_coverage
                for share in (1.0, attempt_share(1))
            )
            lost.append(full - first)
        assert 0 <= np.mean(lost) <= 0.025, (n, lost)
