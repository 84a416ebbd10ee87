"""How votes became scores: the estimator, and every number that was fitted for it."""

from collections.abc import Sequence

from trustescalate.records import Certificate, Fit, Scoring
from trustescalate.report import figures
from trustescalate.report.figures import Figure, count, missing, words
from trustescalate.report.sections import Column, Row, Table

_NAMES = {
    "ensemble": "mean probability over all votes",
    "predictive": "mean probability over the first prompt",
    "sampled": "share of the draws that name the label",
    "verbalized": "the confidence that the judge states",
    "learned": "a logistic model of being right",
    "boosted": "boosted trees of being right",
    "interval": "how narrow an interval of ratings is",
}
SIGNS = ("Log-odds of the mean", "Spread over prompts", "Gap between orders", "Length of the winner")
_TOO_FEW = "the judge said too little on the rows to fit on, and is trusted with nothing"


def score_text(certificate: Certificate) -> str:
    """Name the scores that thresholds are held against; only the estimator's name where nothing is fitted."""
    made = certificate.scoring
    if made is None:
        return certificate.estimator
    curve = f", then a curve ({made.recalibrate})" if made.recalibrate else ""
    return f"{certificate.estimator}: {_NAMES[certificate.estimator]}{curve}; {_learned_from(made)}"


def score_lines(certificate: Certificate) -> tuple[str, ...]:
    """Say which scores the figures of a section are about, where some were fitted."""
    if certificate.scoring is None:
        return ()
    return (
        f"All figures are about the scores in use ({score_text(certificate)}). The numbers below are exact "
        "in the certificate; the rows that they were fitted on were not tested.",
    )


def fit_tables(certificate: Certificate) -> tuple[Table, ...]:
    """Every fitted number that can be read; of trees how many there are, and which signs they ask about."""
    made = certificate.scoring
    if made is None:
        return ()
    rows = tuple(
        Row((words(seal.judge), words(fit.kind), count(fit.rows), words(name), figure))
        for seal in certificate.judges
        for fit in made.fits.get(seal.judge, ())
        for name, figure in _numbers(fit)
    )
    columns = (
        Column("Judge"),
        Column("Fitted"),
        Column("Rows", True),
        Column("Number"),
        Column("Value", True),
    )
    plain = [seal.judge for seal in certificate.judges if seal.judge not in made.fits]
    title = "What was fitted" + (f"; {', '.join(plain)} is read as it is" if plain else "")
    return (Table(title, columns, rows, folded=len(rows) > 12),)


def _learned_from(made: Scoring) -> str:
    if made.learn_from == "dearest":
        return "fitted to what the last judge says, with no human label"
    return "fitted on dev rows"


def _numbers(fit: Fit) -> Sequence[tuple[str, Figure]]:
    if not fit.numbers:
        return [("—", missing(_TOO_FEW))]
    given = fit.numbers
    if fit.kind == "learned":
        weights = zip(_signs(fit), given["weights"], strict=True)
        return [("intercept", _value(given["intercept"])), *((name, _value(w)) for name, w in weights)]
    if fit.kind == "boosted":
        splits = [sign for tree in given["feature"] for sign in tree if sign >= 0]
        asked = [(f"questions about {name}", count(splits.count(i))) for i, name in enumerate(_signs(fit))]
        return [("trees", count(len(given["feature"]))), *asked]
    if fit.kind == "isotonic":
        steps = zip(given["knots"], given["values"], strict=True)
        return [(f"right, from score {_value(knot).text} on", _value(share)) for knot, share in steps]
    if fit.kind == "interval":
        return [("mass that an interval must hold", _value(given["mass"]))]
    return [(name, _value(value)) for name, value in given.items()]


def _signs(fit: Fit) -> tuple[str, ...]:
    return (*SIGNS, *(f"Verdict of {name}" for name in fit.earlier))


def _value(value: float | None) -> Figure:
    return missing("infinite") if value is None else figures.decimal(value, "")
