"""Draw the power curve of a calibration from its own recorded rows: how many labels a certificate takes."""

import numpy as np

from trustescalate.analysis.recorded_votes import must_be_one_guarantee, read_recorded
from trustescalate.analysis.sample_size import TARGET, resample
from trustescalate.calibration.attainable import Attainable
from trustescalate.calibration.attempts import first_share
from trustescalate.config import Config
from trustescalate.errors import TrustEscalateError
from trustescalate.report import figures
from trustescalate.report.calibration_page import TRIALS
from trustescalate.report.pictures import Power
from trustescalate.stats.planning import label_floor

POINTS, MOST, SEED = 7, 5_000, 0
"""Points of the curve, its most rows, and the seed of the draws."""
ANY = 1e-9
"""Any coverage: a certificate releases at least a row."""


def power_curve(config: Config, seen: Attainable | None = None) -> Power | None:
    """Resample the rows of the certificate in place; no model calls, and the ledger records nothing.

    The curve decides nothing about these labels. None where `plan` cannot resample the guarantee, or where
    the votes are gone. Equal files give an equal curve.
    """
    try:
        must_be_one_guarantee(config, "the power curve")
        recorded = read_recorded(config)
        certificate, guarantee = recorded.certificate, config.guarantee
        levels = certificate.alpha, certificate.delta * first_share(guarantee.attempts)
        needed = None if seen is None else seen.needed
        rows = _grid(label_floor(*levels), max(2 * certificate.n, 4 * (needed or 0)))
        drawn = resample(recorded, guarantee, levels, rows, wanted=ANY, trials=TRIALS, seed=SEED)
    except (TrustEscalateError, ValueError):
        return None
    alpha = figures.setting(certificate.alpha).text
    power = tuple(map(float, drawn.power))
    texts = (figures.share(round(chance * TRIALS), TRIALS).text for chance in power)
    chances = ", ".join(f"{text} with {number:,}" for number, text in zip(rows, texts, strict=True))
    return Power(
        f"Chance of a certificate at α = {alpha}",
        rows,
        power,
        tuple((float(low), float(high)) for low, high in drawn.limits),
        f"Chance of a certificate at α = {alpha}: {chances} labelled rows. {certificate.n:,} were tested.",
        TARGET,
        certificate.n,
    )


def _grid(fewest: int, most: int) -> tuple[int, ...]:
    """Round numbers of rows, from the fewest that could give a certificate.

    >>> _grid(15, 532), _grid(114, 9000)
    ((15, 27, 49, 89, 160, 290, 530), (110, 210, 400, 750, 1400, 2700, 5000))
    """
    rows = np.geomspace(fewest, max(min(most, MOST), 4 * fewest), POINTS)
    return tuple(dict.fromkeys(int(float(f"{number:.2g}")) for number in rows))
