"""Means kind by kind: limits that hold at once, kinds put together, draws that differ by kind."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom

from tests.support import factory
from tests.support.runs import judgment, world
from trustescalate.calibration import population
from trustescalate.calibration.population import Known, overall
from trustescalate.records import Annotation, Judgment, Run
from trustescalate.report.document import build
from trustescalate.report.markdown import render_markdown
from trustescalate.report.sections import Section

pytestmark = pytest.mark.slow
RATES = {"easy": 0.7, "hard": 0.3}
Judged = dict[str, dict[str, Judgment]]
BASE, _, _ = world(0, labels=400, items=600)


Strata = dict[str, str | None]
IDS = [f"c{n}" for n in range(400)] + [f"r{n}" for n in range(600)]


def rows(seed: int) -> tuple[list[float], list[bool], Strata]:
    """Few of the run's items are hard, and most labelled rows are: within a kind they are alike."""
    rng = np.random.default_rng(seed)
    hard = rng.random(1000) < np.where(np.arange(1000) < 400, 0.7, 0.2)
    wins = rng.random(1000) < np.where(hard, RATES["hard"], RATES["easy"])
    shares = np.clip(0.3 + 0.4 * wins + 0.1 * rng.normal(size=1000), 0.01, 0.99)
    return (
        shares.tolist(),
        wins.tolist(),
        {i: "hard" if h else "easy" for i, h in zip(IDS, hard, strict=True)},
    )


def kinds(seed: int) -> tuple[Run, Judged, list[Annotation], Strata]:
    shares, wins, strata = rows(seed)
    judged = {
        name: {i: judgment(i, tier, share, 4) for i, share in zip(IDS[:400], shares, strict=False)}
        for tier, name in enumerate(("small", "large"))
    }
    told = tuple(judgment(i, 0, share) for i, share in zip(IDS[400:], shares[400:], strict=True))
    steps = tuple(replace(row, trail=row.trail[:1]) for row in BASE.decisions)
    notes = [Annotation(i, "x", "A" if won else "B") for i, won in zip(IDS[:400], wins, strict=False)]
    return replace(BASE, judgments=told, decisions=steps), judged, notes, strata


def drawn(seed: int, monkeypatch: pytest.MonkeyPatch) -> tuple[Run, Judged, list[Annotation], Strata]:
    shares, wins, strata = rows(seed)
    labelled = {i: (share, float(won)) for i, share, won in zip(IDS[:400], shares, wins, strict=False)}
    known = Known(labelled, dict(zip(IDS[400:], shares[400:], strict=True)))
    monkeypatch.setattr(population, "known_rows", lambda *_: known)
    return BASE, {}, [], strata


def test_each_kind_and_the_mean_over_all_are_covered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Votes are left out of the loop: tests/test_leaderboard.py sees that they become these rows."""
    draws, missed, missed_kinds, naive = 100, 0, 0, 0
    for seed in range(draws):
        run, judged, notes, strata = drawn(seed, monkeypatch)
        found = overall(run, judged, notes, {}, strata)
        assert found.interval is not None
        weights = [each.items / found.items for each in found.strata]
        truth = sum(w * RATES[each.name or ""] for w, each in zip(weights, found.strata, strict=True))
        missed += not found.interval[0] <= truth <= found.interval[1]
        missed_kinds += any(
            not limits[0] <= RATES[each.name or ""] <= limits[1]
            for each in found.strata
            if (limits := each.interval if each.usable else each.label_only) is not None
        )
        plain = overall(run, judged, notes, {}).interval
        assert plain is not None
        naive += not plain[0] <= truth <= plain[1]
    allowed = binom.ppf(1 - 1e-6, draws, 0.05)
    assert max(missed, missed_kinds) <= allowed, (missed, missed_kinds)
    assert naive > allowed, "without strata, a kind that was labelled more often pulls the mean"


def test_kinds_with_few_labels_are_put_together_and_say_so() -> None:
    run, judged, notes, strata = kinds(1)
    rare: dict[str, str | None] = {
        i: "rare" if n % 40 == 0 else kind for n, (i, kind) in enumerate(strata.items())
    }
    rare |= {i: None for n, i in enumerate(rare) if n % 40 == 1}
    rare |= {"r2": "never labelled"}
    found = overall(run, judged, notes, {}, rare)
    assert [each.name for each in found.strata] == ["easy", "hard", "never labelled", "rare", None]
    _, hard, never, few, none = found.strata
    assert sum(each.items for each in found.strata) == found.items == 1000
    assert sum(each.labels for each in found.strata) == found.labels == 400
    assert (never.estimate, never.reason) == (None, "fewer than 2 labels")
    assert (few.usable, few.interval, none.usable) == (False, None, False)
    assert few.label_only is not None
    assert [each.pooled for each in (never, few, none)] == [True] * 3
    assert not hard.pooled
    text = " ".join(shown(replace(factory.run(10), overall=found)).text)
    assert "are pooled" in text
    assert "no stratum named" in text


def test_one_kind_alone_is_not_stratified() -> None:
    run, judged, notes, strata = kinds(2)
    alone = overall(run, judged, notes, {}, dict.fromkeys(strata, "one"))
    plain = overall(run, judged, notes, {})
    assert replace(alone, strata=()) == plain
    [one] = alone.strata
    assert one.interval == pytest.approx(plain.interval)
    assert "is not stratified" in " ".join(shown(replace(factory.run(10), overall=alone)).text)


def test_groups_lie_in_the_kind_of_their_first_item() -> None:
    run, judged, notes, strata = kinds(3)
    groups = {f"r{n}": "all" if n < 200 else None for n in range(600)}
    found = overall(run, judged, notes, groups, strata)
    assert sum(each.items for each in found.strata) == found.items == 400 + 1 + 400


def shown(run: Run) -> Section:
    made = build(run)
    assert "per stratum" in render_markdown(made.page())
    return next(section for section in made.sections if section.slug == "mean-over-all-items")
