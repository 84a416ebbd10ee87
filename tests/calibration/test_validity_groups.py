"""The guarantees of several groups hold at once, counted in worlds that are barely too bad."""

import os

import numpy as np
import pytest

from tests.support.certificates import judgment, protocol
from trustescalate.calibration.calibrate import calibrate as certify
from trustescalate.calibration.protocol import GroupRule
from trustescalate.records import Annotation, Judgment
from trustescalate.stats.validity import violation_limit

pytestmark = pytest.mark.slow


# ── the guarantee ──────────────────────────────────────────────────────────────────────────────────

TRIALS = int(os.environ.get("TRUSTESCALATE_TRIALS", "500"))
GOOD, BAD = 0.03, 1.001
"""The true risk of good values, whatever is released of them; and of bad ones, as a multiple of alpha."""


def drawn(
    rng: np.random.Generator, risks: dict[str, float], n: int
) -> tuple[list[Annotation], dict[str, dict[str, Judgment]], dict[str, str]]:
    """n rows a value, scores that tell nothing, verdicts that are wrong with the value's risk."""
    notes, rows, values = [], {}, {}
    for value, risk in risks.items():
        for place, (sure, wrong, label) in enumerate(
            zip(rng.integers(55, 100, n) / 100, rng.random(n) < risk, rng.random(n) < 0.5, strict=True)
        ):
            item = f"{value}{place}"
            share = sure if label else 1 - sure
            rows[item] = judgment(item, "j", share)
            notes.append(Annotation(item, "x", "A" if label != wrong else "B"))
            values[item] = value
    return notes, {"j": rows}, values


def certified_values(
    rng: np.random.Generator, risks: dict[str, float], alpha: dict[str, float], n: int, enough: float
) -> set[str]:
    notes, judged, values = drawn(rng, risks, n)
    rule = GroupRule("meta.k", values, alpha, {}, enough, 10)
    certificate = certify(
        protocol(list(values), alpha=0.2, delta=0.1, path="hedged", groups=rule), notes, judged, created=""
    )
    return {one.value for one in certificate.groups if one.thresholds is not None}


@pytest.mark.parametrize(
    ("good", "bad", "alpha", "enough"),
    [
        (1, 1, {}, 1.0),
        (2, 2, {}, 0.5),  # the good ones are finished nearly always, and hand their shares on
        (1, 2, {"bad1": 0.1}, 0.5),
    ],
)
def test_all_guarantees_hold_at_once(good: int, bad: int, alpha: dict[str, float], enough: float) -> None:
    risks = {f"good{i}": GOOD for i in range(good)}
    risks |= {f"bad{i}": BAD * alpha.get(f"bad{i}", 0.2) for i in range(bad)}
    rng = np.random.default_rng(0)
    broken = useful = 0
    for _ in range(TRIALS):
        result = certified_values(rng, risks, alpha, 80, enough)
        broken += any(value.startswith("bad") for value in result)
        useful += "good0" in result
    assert broken <= violation_limit(TRIALS, 0.1)
    assert useful > 0.8 * TRIALS


def test_canary_one_guarantee_for_all_is_none_for_each() -> None:
    """Three quarters of the rows are of a good value, and hide that the other is wrong too often."""
    rng = np.random.default_rng(0)
    broken = 0
    for _ in range(100):
        notes, judged, values = drawn(rng, {"a": GOOD, "b": GOOD, "c": GOOD, "bad": 0.35}, 60)
        certificate = certify(
            protocol(list(values), alpha=0.2, delta=0.1, path="hedged"), notes, judged, created=""
        )
        broken += (
            certificate.thresholds is not None
        )  # read as if it held for "bad", whose risk is .35 at any score
    assert broken > violation_limit(100, 0.1)


def test_canary_all_of_delta_for_each_value() -> None:
    rng = np.random.default_rng(0)
    broken = sum(
        any(certified_values(rng, {"bad": BAD * 0.2}, {}, 60, 1.0) for _ in range(10)) for _ in range(100)
    )
    assert broken > violation_limit(100, 0.1)
