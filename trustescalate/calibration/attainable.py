"""Say what the rows of a calibration that certified nothing could have had: no guarantee, for orientation.

The same test is run again at larger risk levels, on recorded votes. Nothing is spent, and nothing certified:
a level that was chosen after looking at the labels is no level of a test.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from trustescalate.calibration.calibrate import Ready, lay_ready, run_tests
from trustescalate.calibration.evidence import evidence_of
from trustescalate.calibration.no_certificate import find_closest
from trustescalate.calibration.protocol import Judged, Protocol
from trustescalate.config import Config
from trustescalate.data.annotation.queue import sample_order
from trustescalate.data.dataset import Dataset
from trustescalate.records import Annotation, Certificate, JudgeDiagnostics, PolicyTest

LARGEST = 500
"""From here on, in thousandths, a certificate would say less than a coin."""


class Attained(NamedTuple):
    """The smallest risk level that the rows would pass at, and what the policy then accepts of `rows`."""

    alpha: float
    accepted: int
    lost: float
    rows: int


class Attainable(NamedTuple):
    """What rows that certified nothing could have had. `cascade` and `last` are None below 0.5.

    `needed` fresh rows, or clusters, would give a certificate at the risk level that was asked for with a
    chance of 80 %; None where no number would. `best` is the judge that agreed most with people on all rows.
    `free` items of [data] can be drawn as fresh rows.
    """

    cascade: Attained | None
    last: Attained | None
    needed: int | None
    clusters: bool
    best: JudgeDiagnostics | None
    free: int = 0


def attainable(config: Config, data: Dataset, certificate: Certificate) -> Attainable | None:
    """Look for what a "no certificate" could have had, without a model call.

    None where something is certified, where the votes are not in place any more, and with the claim
    "expected", which tests nothing.
    """
    if certificate.status != "none" or certificate.claim == "expected":
        return None
    evidence = evidence_of(config, data, certificate)
    if evidence is None:
        return None
    seen = attainable_from(*evidence, data.annotations, certificate)
    whole = config.guarantee.largest_cluster is not None
    free = sum(map(len, sample_order(data, config.roles.seed, whole=whole)))
    return seen._replace(free=free)


def attainable_from(
    protocol: Protocol, judged: Judged, annotations: Sequence[Annotation], certificate: Certificate
) -> Attainable:
    """As `attainable`, from the protocol and the votes of a certificate."""
    whole = lay_ready(protocol, annotations, judged)
    name, fingerprint = protocol.judges[-1]
    last = _smallest(protocol, whole)
    if len(protocol.judges) > 1:
        alone = replace(
            protocol, judges=((name, fingerprint),), rule=replace(protocol.rule, path="last_judge")
        )
        cascade, last = last, _smallest(alone, lay_ready(alone, annotations, {name: judged[name]}))
    else:
        cascade = last
    needed = find_closest(protocol, whole.aligned, certificate.tests)[1]
    return Attainable(cascade, last, needed, protocol.clusters is not None, best_judge(certificate))


def best_judge(certificate: Certificate) -> JudgeDiagnostics | None:
    """The judge that agreed with human labels on most rows, of those that judged the most."""
    judges = certificate.diagnostics
    whole = [judge for judge in judges if judge.n and judge.n == max(each.n for each in judges)]
    return max(whole, key=lambda judge: judge.agreements, default=None)


def _smallest(protocol: Protocol, ready: Ready) -> Attained | None:
    """Halve the levels, in thousandths: at a larger alpha p-values are smaller, so what passes still does."""
    low, high = int(protocol.rule.alpha * 1000 + 1e-9), LARGEST - 1
    passing = _attained(protocol, ready, high) if low < high else None
    while passing is not None and high - low > 1:
        middle = (low + high) // 2
        if (attained := _attained(protocol, ready, middle)) is None:
            low = middle
        else:
            high, passing = middle, attained
    return passing


def _attained(protocol: Protocol, ready: Ready, thousandths: int) -> Attained | None:
    alpha = thousandths / 1000
    groups = None if protocol.groups is None else replace(protocol.groups, alpha={})
    asked = replace(protocol, rule=replace(protocol.rule, alpha=alpha), groups=groups)
    result, values = run_tests(asked, ready)
    used = list(_used(asked, result.tests, result.chosen))
    used += [one.tests[one.chosen] for one in values if one.chosen is not None]
    if not used:
        return None
    lost = sum(test.errors if test.loss is None else test.loss for test in used)
    rows = len(ready.tested.ids)
    return Attained(alpha, sum(test.accepted for test in used), lost, rows)


def _used(protocol: Protocol, tests: Sequence[PolicyTest], chosen: int | None) -> Iterator[PolicyTest]:
    if chosen is not None:
        yield from (test for test in tests if test.rejected) if protocol.tierwise else (tests[chosen],)
