"""Compare the models that answered in a run with those that answered at calibration.

An endpoint may serve another model under the same name from one day to the next. Its replies say which one
answered (`Judgment.served`); a certificate is bound to the names that were seen when it was made.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from trustescalate.errors import CertificateMismatch
from trustescalate.records import Certificate, Judgment
from trustescalate.records.criteria import BY_CRITERION, split_row_id
from trustescalate.records.judge_counts import count_votes

MOST_NAMED = 6
"""Models that are named at once: an endpoint may have many system fingerprints."""
UNNAMED = "a model that is not named"
HINT = (
    "no reply of it is kept: `trustescalate run --resume latest` asks again if it answered only for a while; "
    "if the provider has replaced the model, remove .trustescalate/cache.sqlite and calibrate again; name a "
    "dated version of the model in the judge's table, so that it stays"
)


class Served(NamedTuple):
    """The models that answered for a judge: at calibration, and in a run with their numbers of items.

    `changed`: an item of the run was answered by a model that did not answer at calibration, or, where
    nothing is known of the calibration, several models answered in the run.
    """

    judge: str
    before: tuple[str, ...]
    now: Mapping[str, int]
    changed: bool

    @property
    def sentence(self) -> str:
        """What changed, in one sentence.

        >>> Served("small", ("m-1",), {"m-1": 2, "m-2": 98}, True).sentence
        'small was answered by m-1 at calibration, and by m-2 (98 items), m-1 (2 items) in this run'
        """
        before = f"by {listed(self.before)} at calibration, and " if self.before else ""
        return f"{self.judge} was answered {before}by {self.counts} in this run"

    @property
    def counts(self) -> str:
        """The models and their numbers of items, in words."""
        return _few(
            f"{named(name)} ({count:,} {'item' if count == 1 else 'items'})"
            for name, count in sorted(self.now.items(), key=lambda pair: -pair[1])
        )


def served_at(judgments: Iterable[Judgment]) -> tuple[str, ...]:
    """The models that answered, sorted, "" among them for answers that name none; empty where none does."""
    names = {name for judgment in judgments for name in answered_by(judgment)}
    return () if names <= {""} else tuple(sorted(names))


def answered_by(judgment: Judgment) -> tuple[str, ...]:
    """The models that answered for a judgment; "" for votes of no named one, none where every vote failed."""
    if judgment.served:
        return judgment.served
    return ("",) if any(vote.failure is None for vote in judgment.votes) else ()


def compare_served(certificate: Certificate, judgments: Iterable[Judgment]) -> tuple[Served, ...]:
    """The models that answered for each judge of a certificate, where any of them is named."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    if certificate.group_by == BY_CRITERION:  # one reply answers all criteria of an item
        names = {
            (judgment.judge, split_row_id(judgment.item_id).item_id, name)
            for judgment in judgments
            for name in answered_by(judgment)
        }
        for judge, _, name in names:
            counts[judge][name] += 1
    else:
        counts.update({judge: each.served for judge, each in count_votes(judgments).each.items()})
    rows = []
    for seal in certificate.judges:
        now = dict(sorted(counts[seal.judge].items()))
        named_now = [name for name in now if name]
        changed = bool(now.keys() - set(seal.served)) if seal.served else len(named_now) > 1
        if seal.served or named_now:
            rows.append(Served(seal.judge, seal.served, now, changed))
    return tuple(rows)


def pinned_judges(config: Mapping[str, Any]) -> frozenset[str]:
    """The judges of a recorded configuration whose served models must be those of the certificate.

    All with `[guarantee] pin_served_model`, else those that are decision models.

    >>> judges = [{"name": "a", "backend": "openai"}, {"name": "b", "backend": "decisions"}]
    >>> sorted(pinned_judges({"judges": judges}))
    ['b']
    >>> sorted(pinned_judges({"guarantee": {"pin_served_model": True}, "judges": judges}))
    ['a', 'b']
    """
    pinned = config.get("guarantee", {}).get("pin_served_model", False)
    return frozenset(
        judge["name"] for judge in config["judges"] if pinned or judge.get("backend") == "decisions"
    )


def bound_models(certificate: Certificate, pinned: Collection[str]) -> dict[str, frozenset[str]]:
    """The models that may answer, by pinned judge: those of the calibration ("" for none that is named).

    A certificate that certifies nothing binds no model.
    """
    seals = () if certificate.status == "none" else certificate.judges
    return {seal.judge: frozenset(seal.served or ("",)) for seal in seals if seal.judge in pinned}


def must_be_served(certificate: Certificate, judgments: Iterable[Judgment], pinned: Collection[str]) -> None:
    """Raise CertificateMismatch at the first judgment of a pinned judge that another model answered."""
    known = bound_models(certificate, pinned)
    for judgment in judgments if known else ():
        for name in answered_by(judgment):
            if name not in known.get(judgment.judge, {name}):
                raise CertificateMismatch(
                    f"the certificate does not fit: item {judgment.item_id!r} was answered for "
                    f"{judgment.judge!r} by {named(name)}, and the items of the calibration by "
                    f"{listed(sorted(known[judgment.judge]))}",
                    HINT,
                )


def named(name: str) -> str:
    """The name of a model that answered, in words."""
    return name or UNNAMED


def listed(names: Iterable[str]) -> str:
    """Names of models that answered, in words."""
    return _few(map(named, names))


def _few(texts: Iterable[str]) -> str:
    first, more = list(texts), 0
    if len(first) > MOST_NAMED:
        more, first = len(first) - MOST_NAMED, first[:MOST_NAMED]
    return ", ".join(first) + (f" and {more:,} more" if more else "")
