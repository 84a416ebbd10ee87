import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trustescalate.stats.certify import certify
from trustescalate.stats.groups import CertifiedGroups, certify_groups, shares_of_unfinished
from trustescalate.stats.policy import common_path
from trustescalate.stats.validity import Sample, world


def joined(parts: list[Sample]) -> tuple[Sample, np.ndarray]:
    group = np.repeat(np.arange(len(parts)), [len(part.truth) for part in parts])
    return Sample(*(np.concatenate(part) for part in zip(*parts, strict=True))), group


def certified(names: list[str], n: int = 400, seed: int = 0, **more: object) -> CertifiedGroups:
    rng = np.random.default_rng(seed)
    rows, group = joined([world(name, 0.1, 2).draw(n, rng) for name in names])
    return certify_groups(
        *rows,
        np.zeros(rows.scores.shape),
        group,
        **{  # type: ignore[arg-type]
            "alpha": np.full(len(names), 0.1),
            "delta": 0.1,
            "paths": [common_path(None, 2)] * len(names),
            **more,
        },
    )


@pytest.mark.parametrize("name", ["flat", "monotone", "bad_at_top", "hopeless"])
def test_one_group_is_the_plain_certificate(name: str) -> None:
    rows = world(name, 0.1, 2).draw(400, np.random.default_rng(0))
    expected = certify(*rows, np.zeros(rows.scores.shape), alpha=0.1, delta=0.1, path=common_path(None, 2))
    found = certified([name]).groups[0]
    assert (found.chosen, found.coverage_lower) == (expected.chosen, expected.coverage_lower)
    end = len(found.table.p_value)
    for mine, other in zip(found.table, expected.table, strict=True):
        np.testing.assert_array_equal(mine, other[:end])
    assert not expected.table.rejected[end:].any() or expected.table.accepted[end - 1] == 400


def test_a_finished_group_hands_its_share_on() -> None:
    """Flat risk at .7 alpha passes everywhere with 4,000 rows; a group of hopeless rows never does."""
    found = certified(["flat", "monotone", "hopeless"], n=4000)
    assert found.finished.tolist() == [True, False, False]
    np.testing.assert_allclose(found.spent[1:], 0.05)
    assert found.groups[1].table.level.max() == pytest.approx(0.05)
    assert found.groups[1].chosen is not None
    assert found.groups[2].chosen is None


def test_a_certificate_alone_hands_nothing_on() -> None:
    found = certified(["monotone", "hopeless"], n=400)
    assert found.groups[0].chosen is not None
    assert found.finished.tolist() == [False, False]
    np.testing.assert_allclose(found.spent, 0.05)


def test_enough_ends_a_path_early_and_hands_on() -> None:
    found = certified(["monotone", "hopeless"], n=1000, enough=0.5)
    assert found.finished.tolist() == [True, False]
    assert found.spent[1] == pytest.approx(0.1)
    accepted = found.groups[0].table.accepted
    assert accepted[-1] >= 500 > accepted[-2]


def test_who_can_pass_nowhere_holds_no_share() -> None:
    rng = np.random.default_rng(0)
    rows, group = joined([world("monotone", 0.1, 2).draw(n, rng) for n in (400, 10)])
    paths = [common_path(None, 2)] * 2
    found = certify_groups(
        *rows, np.zeros(rows.scores.shape), group, alpha=np.array([0.1, 0.1]), delta=0.1, paths=paths
    )
    np.testing.assert_allclose(found.spent, [0.1, 0])
    assert found.groups[1][:3] == (None, None, None)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.floats(0.01, 1), st.booleans()), min_size=1, max_size=8), st.data())
def test_shares_rise_as_groups_finish_and_add_up(groups: list[tuple[float, bool]], data: object) -> None:
    weights, finished = (np.array(part) for part in zip(*groups, strict=True))
    weights /= weights.sum()
    shares = shares_of_unfinished(weights, finished)
    if not finished.all():
        assert shares[~finished].sum() == pytest.approx(1)
    more = finished.copy()
    more[data.draw(st.integers(0, len(groups) - 1))] = True  # type: ignore[attr-defined]
    assert np.all(shares_of_unfinished(weights, more) >= shares - 1e-12)


def test_wrong_input_is_refused() -> None:
    for more, message in (
        ({"alpha": np.array([0.1])}, "shapes"),
        ({"weights": np.array([1.0, 0.0])}, "positive"),
        ({"enough": 0.0}, "enough"),
        ({"delta": 1.0}, "delta"),
        ({"alpha": np.array([0.1, 1.0])}, "alpha"),
    ):
        with pytest.raises(ValueError, match=message):
            certified(["flat", "flat"], n=50, **more)
    rows = np.ones((2, 1))
    with pytest.raises(ValueError, match=r"0\.\.0"):
        certify_groups(
            rows,
            rows.astype(int),
            np.ones(2, dtype=int),
            rows,
            np.array([0, 1]),
            alpha=np.array([0.1]),
            delta=0.1,
            paths=[rows[:1]],
        )
