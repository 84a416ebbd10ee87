import numpy as np
import pytest

from trustescalate.stats.certify import certify
from trustescalate.stats.policy import common_path
from trustescalate.stats.sequential import LOOKS, certify_look, look_levels
from trustescalate.stats.validity import world


def test_levels_add_up_to_delta() -> None:
    assert look_levels(0.1).sum() == pytest.approx(0.1, abs=1e-15)
    np.testing.assert_allclose(look_levels(0.2, [0.5, 0.25]), [0.1, 0.05])


@pytest.mark.parametrize("look", range(4))
def test_a_look_is_a_certificate_with_its_share_of_delta(look: int) -> None:
    rows = world("monotone", 0.1, 2).draw(400, np.random.default_rng(0))
    free, path = np.zeros(rows.scores.shape), common_path(None, 2)
    found = certify_look(*rows, free, look=look, alpha=0.1, delta=0.1, path=path, prefer="cost")
    expected = certify(*rows, free, alpha=0.1, delta=0.1 * LOOKS[look], path=path, prefer="cost")
    assert found.chosen == expected.chosen
    np.testing.assert_array_equal(found.table.level, expected.table.level)
    assert found.table.level.max() <= 0.1 * LOOKS[look] + 1e-15


def test_wrong_looks_are_refused() -> None:
    rows = world("flat", 0.1, 1).draw(10, np.random.default_rng(0))
    for look in (-1, 4):
        with pytest.raises(ValueError, match="no look"):
            certify_look(*rows, rows.scores, look=look, alpha=0.1, delta=0.1, path=np.ones((1, 1)))
    for shares in ([], [0.5, 0.6], [1.1, -0.1]):
        with pytest.raises(ValueError, match="shares"):
            look_levels(0.1, shares)
    with pytest.raises(ValueError, match="delta"):
        look_levels(0.0)
