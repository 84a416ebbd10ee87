"""The survey of some of a run's items, whose clusters keep the numbers that they have in the whole run."""

import numpy as np
import pytest

from trustescalate.analysis.item_labels import ItemLabels, survey_of
from trustescalate.records import Item


def labels_in(unit: np.ndarray) -> ItemLabels:
    """Items in these clusters, every second one labelled."""
    size = len(unit)
    drawn, zeros = np.arange(size) % 2 == 0, np.zeros(size)
    return ItemLabels(
        items=tuple(Item(f"i{n}", f"Question {n}?", ("x",)) for n in range(size)),
        unit=unit.astype(np.int32),
        ends=(0.0, 1.0),
        expected=zeros,
        first=zeros,
        estimate=zeros,
        label=np.where(drawn, 1.0, np.nan),
        slack=zeros,
        drawn=drawn,
        sure=np.zeros(size, np.bool_),
        same=np.zeros(size, np.bool_),
        missing=(~drawn).astype(np.int8),
        fitted=False,
        picked=False,
        verdicts=None,
        failure=0.0,
    )


def test_a_part_of_a_run_keeps_its_clusters() -> None:
    """Sixty single items, then sixty clusters of two, with numbers from 60 to 119: the largest is the count
    of these items less one, as if each stood by itself."""
    whole = labels_in(np.concatenate([np.arange(60), np.repeat(np.arange(60, 120), 2)]))
    single, pairs = whole.of(np.arange(60)), whole.of(np.arange(60, 180))
    assert (whole.alone, single.alone, pairs.alone) == (False, True, False)
    cluster = survey_of(pairs, "batch")[0].cluster
    assert cluster is not None
    assert np.bincount(cluster).max() == 2
    assert survey_of(single, "batch")[0].cluster is None


@pytest.mark.parametrize("seed", range(20))
def test_items_are_alone_where_no_two_share_a_cluster(seed: int) -> None:
    rng = np.random.default_rng(seed)
    whole = labels_in(rng.integers(30, size=12))
    part = whole.of(np.sort(rng.choice(12, size=6, replace=False)))
    for labels in (whole, part):
        assert labels.alone == (len(set(labels.unit.tolist())) == len(labels.unit))
        survey = survey_of(labels, "population")[0]
        assert (survey.cluster is None) == labels.alone
