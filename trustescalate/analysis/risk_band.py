"""Report what any alpha would allow, from the simultaneous risk limits in a certificate; no model calls.

The limits come from `calibrate`. This module tests nothing, and no run uses its thresholds.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from trustescalate.calibration.prepare import record_choice
from trustescalate.calibration.uncertified import rests_on_tests
from trustescalate.config import Config
from trustescalate.errors import NotMeasurable
from trustescalate.records import Certificate
from trustescalate.report import figures
from trustescalate.report.certificate_figures import human_reference, used_tests
from trustescalate.report.figures import count, missing, share, words
from trustescalate.report.sections import Column, Row, Section, Table
from trustescalate.stats.risk_limits import RiskLimits, certified_at


@dataclass(frozen=True, slots=True)
class Limit:
    """One policy: `accepted` and `errors` on the certification rows, and an upper limit on its true risk.

    A threshold is None for a judge that never accepts. `chosen` marks the policy of the certificate.
    """

    thresholds: tuple[float | None, ...]
    accepted: int
    errors: int
    upper: float
    cost: float
    chosen: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """The index in `limits` of the policy of largest coverage with a limit of at most `alpha`, if any."""

    alpha: float
    limit: int | None


@dataclass(frozen=True, slots=True)
class RiskBand:
    """Simultaneous limits with probability 1 - `delta`, and `answers`: what each alpha allows."""

    delta: float
    rows: int
    judges: tuple[str, ...]
    whom: str
    limits: tuple[Limit, ...]
    answers: tuple[Answer, ...]


def read_band(certificate: Certificate, alphas: tuple[float, ...] = ()) -> RiskBand:
    """Read the limits of a certificate, or of "no certificate", and the policy that each alpha allows.

    For any number of alphas, P(a named policy has a true risk above its alpha) <= delta. Raises NotMeasurable
    without limits, with the reason, and ValueError unless 0 < alpha < 1.
    """
    if not rests_on_tests(certificate):
        raise NotMeasurable(
            "nothing was tested for this run, so nothing is known at any alpha", "calibrate first"
        )
    if not certificate.band:
        raise NotMeasurable(
            "this certificate has no simultaneous limits",
            f"there are none for {_without_limits(certificate)}; calibrate a copy without it",
        )
    tests = [certificate.tests[check.test] for check in certificate.band]
    used = used_tests(certificate)
    limits = tuple(
        Limit(test.thresholds, test.accepted, test.errors, check.upper, test.cost, test in used)
        for test, check in zip(tests, certificate.band, strict=True)
    )
    arrays = RiskLimits(
        np.array([[np.inf if tau is None else tau for tau in test.thresholds] for test in tests]),
        np.array([test.accepted for test in tests]),
        np.array([test.errors for test in tests]),
        np.array([test.by_tier for test in tests]),
        np.array([test.cost for test in tests]),
        np.array([limit.upper for limit in limits]),
    )
    answers = tuple(Answer(alpha, certified_at(arrays, alpha, certificate.n)) for alpha in alphas)
    names = tuple(seal.judge for seal in certificate.judges)
    return RiskBand(certificate.delta, certificate.n, names, human_reference(certificate), limits, answers)


def limits_at(config: Config, alphas: Sequence[float]) -> Callable[[Certificate], tuple[Section, ...]]:
    """Make the report section on what a certificate allows at each of `alphas`; none without alphas.

    What it allows may be claimed. A calibration at an alpha chosen this way is another test, which these
    labels must not make: the ledger records that they informed a choice. The section raises the errors of
    `read_band` and `record_choice`.
    """

    def make(certificate: Certificate) -> tuple[Section, ...]:
        if not alphas:
            return ()
        band = read_band(certificate, tuple(alphas))
        record_choice(config, "report --alpha", certificate.roles["certify"])
        return (band_section(band),)

    return make


def _without_limits(certificate: Certificate) -> str:
    for given, name in (
        (certificate.claim != "population", f'claim = "{certificate.claim}"'),
        (certificate.group_by is not None, "[groups] by"),
        (certificate.region is not None, "rows drawn from a region"),
        (certificate.path == "tierwise", 'path = "tierwise"'),
        (certificate.method == "clusters", 'cluster_test = "betting"'),
        (certificate.method == "betting", "annotators drawn at random or half ties"),
    ):
        if given:
            return name
    return "rows without labels"


def band_section(band: RiskBand) -> Section:
    """Turn the limits and the answers into a section of a report."""
    sure = figures.complement(band.delta).text
    text = [
        f"With probability at least {sure} over the draw of the {band.rows:,} labelled rows, the true error "
        "rate of every policy below is at most its limit, for all policies simultaneously: alpha may be "
        "chosen after seeing them, any number of times. Nothing is claimed between these policies."
    ]
    text += [_answer_text(band, answer) for answer in band.answers]
    if band.answers:
        text.append(
            "No run uses these thresholds: a run keeps the guarantee of its certificate. To release verdicts "
            "at another alpha, set it and calibrate with fresh labels, or apply the thresholds yourself."
        )
    named: dict[int | None, list[str]] = defaultdict(list)
    for answer in band.answers:
        named[answer.limit].append(f"alpha {answer.alpha:g}")
    rows = []
    for place, limit in enumerate(band.limits):
        marks = [*(["certified"] if limit.chosen else []), *named[place]]
        rows.append(
            Row(
                (
                    count(place + 1),
                    count(limit.accepted),
                    share(limit.accepted, band.rows),
                    share(limit.errors, limit.accepted, "it accepts no row"),
                    figures.at_most(limit.upper),
                    words(_thresholds(limit)),
                    words(", ".join(marks)) if marks else missing(""),
                )
            )
        )
    titles = ("Policy", "Accepted", "Coverage", "Error rate", "True error rate at most")
    columns = (*(Column(title, True) for title in titles), Column("Thresholds"), Column("Which"))
    return Section(
        "risk-limits",
        "Risk limits at any alpha",
        tuple(text),
        tables=(Table("Policies", columns, tuple(rows)),),
    )


def _answer_text(band: RiskBand, answer: Answer) -> str:
    alpha = figures.setting(answer.alpha).text
    if answer.limit is None:
        return f"At alpha {alpha}: no policy has a limit of at most {alpha}; nothing may be claimed."
    limit = band.limits[answer.limit]
    agrees = figures.complement(answer.alpha).text
    return (
        f"At alpha {alpha}: policy {answer.limit + 1} covers {share(limit.accepted, band.rows).text} of the "
        f"rows. What may be claimed: at least {agrees} of the verdicts that it releases agree with "
        f"{band.whom}; alpha was chosen after seeing the limits, and this holds with probability "
        f"{figures.complement(band.delta).text} for all policies simultaneously."
    )


def _thresholds(limit: Limit) -> str:
    taus = limit.thresholds
    texts = ["never" if tau is None else f"{tau:.4g}" for tau in taus]
    return texts[0] if len(set(taus)) == 1 else ", ".join(texts)
