"""Explain why there is no certificate, and what would help."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace
from math import ceil

import numpy as np

from trustescalate.calibration.losses import is_binary
from trustescalate.calibration.protocol import Aligned, Protocol
from trustescalate.errors import NotMeasurable
from trustescalate.records import FAILURES, Certificate, JudgeDiagnostics, PolicyTest
from trustescalate.stats.batch import batch_pvalue
from trustescalate.stats.clusters import cluster_pvalue
from trustescalate.stats.planning import label_floor, labels_needed

MORE_CLUSTERS = (
    "label rows of more clusters, lower largest_cluster if no cluster can be so large, or set clusters = "
    '"one_per_cluster", which has more power where rows of one cluster are right or wrong together'
)

NO_VERDICTS = "the judges' replies cannot be read, or they did not answer"
MANY_FAILURES = 0.1
"""From this share of failed votes on, a "no certificate" says what failed."""
NO_PILOT = (
    "No item without a label, and no row in the roles dev or holdout, was there to lay out the path with, so "
    "testing may have started at a poor place: add some, or set [roles] dev = 0.2"
)
CONSIDERED = 8
"""Number of tested policies that are computed exactly: those that seem to need fewest labels."""
MOST_LABELS = 100_000
"""Above about so many accepted rows the advice is that the rate is too close to alpha."""


def explain_no_certificate(
    protocol: Protocol, aligned: Aligned, tests: Sequence[PolicyTest]
) -> tuple[str, str]:
    """Explain why none of the tested policies may be used, and what would help."""
    few = _too_few(protocol, aligned.ids)
    if protocol.claim == "batch":
        return few or _explain_batch(protocol, aligned, len(tests))
    reason, advice = few or _explain(protocol, aligned, tests)
    if protocol.interim is not None:
        advice = f"{_describe_next_interim(protocol)}; {advice}"
    if not protocol.tierwise and not protocol.roles["pilot"]:
        advice = f"{advice}. {NO_PILOT}"
    return reason, advice


def name_failures(certificate: Certificate) -> Certificate:
    """Add to the advice of a "no certificate" which votes failed, and what the server or the reply said."""
    if certificate.status != "none":
        return certificate
    sentences = [
        _describe_failures(row)
        for row in certificate.diagnostics
        if row.votes and sum(row.failures.values()) >= MANY_FAILURES * row.votes
    ]
    return replace(certificate, advice=". ".join(filter(None, [certificate.advice, *sentences])))


def _describe_failures(row: JudgeDiagnostics) -> str:
    reasons = sorted(row.failures, key=lambda reason: (-row.failures[reason], reason))
    parts = [f"{row.failures[reason]} {reason} ({FAILURES.get(reason, reason)})" for reason in reasons[:3]]
    texts = [sample.reply for reason in reasons for sample in row.samples.get(reason, ())[:1]]
    plain = "".join(char if char.isprintable() else " " for char in "".join(texts[:1]))
    example = f", for example: {' '.join(plain.split())}" if plain else ""
    return f"Failed votes of {row.judge!r}, of {row.votes}: {'; '.join(parts)}{example}"


def must_suffice(protocol: Protocol, rows: Collection[str]) -> None:
    """Raise NotMeasurable where these labelled rows could certify nothing, whatever the judges answer.

    An interim analysis is let through, since the next one has more rows; so are guarantees by group, which
    have a least number of rows of their own, and the claim "expected", which tests nothing.
    """
    if protocol.claim == "expected" or protocol.groups is not None or protocol.interim is not None:
        return
    few = _too_few(protocol, rows)
    if few is not None:
        reason, advice = few
        raise NotMeasurable(
            reason,
            f"{advice}; no model call was made, and nothing was replaced. `trustescalate run --uncertified` "
            "needs no certificate",
        )


def _too_few(protocol: Protocol, rows: Collection[str]) -> tuple[str, str] | None:
    """Why these rows could not pass without one disagreement, and what would help; None where they could."""
    if protocol.claim == "batch":
        return _too_few_of_batch(protocol, len(rows))
    n, floor = len(rows), label_floor(protocol.rule.alpha, protocol.level)
    at = f"at alpha = {protocol.rule.alpha:g} and delta = {protocol.level:g}"
    if n < floor:
        return (
            f"{n} labelled rows cannot certify anything: {at} even {floor - 1} rows without one disagreement "
            "would not be enough",
            f"label at least {floor} rows for certification, better three times as many",
        )
    if _too_few_clusters(protocol, rows):
        return (
            f"{n} labelled rows in {_count_clusters(protocol, rows)} clusters cannot certify anything: {at} "
            "not even without one disagreement",
            MORE_CLUSTERS,
        )
    return None


def _too_few_of_batch(protocol: Protocol, n: int) -> tuple[str, str] | None:
    size, rule = len(protocol.batch), protocol.rule
    if batch_pvalue(0, n, size, rule.alpha) <= rule.delta:
        return None
    return (
        f"{n} labelled rows of a batch of {size} are too few: at alpha = {rule.alpha:g} and "
        f"delta = {rule.delta:g} not even {n} rows without one disagreement would be enough",
        f"raise [guarantee] label_budget: at least about {label_floor(rule.alpha, rule.delta)} rows to "
        "certify with, better three times as many",
    )


def _explain(protocol: Protocol, aligned: Aligned, tests: Sequence[PolicyTest]) -> tuple[str, str]:
    n, verdicts = len(aligned.truth), _count_verdicts(aligned)
    if verdicts < label_floor(protocol.rule.alpha, protocol.level):
        return f"the judges gave usable verdicts on {verdicts} of {n} rows", NO_VERDICTS
    what = "tiers" if protocol.tierwise else "policies"
    reason = (
        f"none of {len(tests)} {what} passed its test: on {n} labelled rows, disagreement "
        f"with people could not be shown to be at most {protocol.rule.alpha:g}"
    )
    return reason, _advise_from_tests(protocol, aligned, tests)


def _advise_from_tests(protocol: Protocol, aligned: Aligned, tests: Sequence[PolicyTest]) -> str:
    closest, needed = find_closest(protocol, aligned, tests)
    if closest is None:
        return "label more rows, use better judges or clearer instructions, or allow a larger alpha"
    lost = closest.errors if closest.loss is None else closest.loss
    seen = (
        f"the closest policy released {closest.accepted} of {len(aligned.truth)} rows, and {lost:g} verdicts "
        "disagreed with people"
    )
    if lost >= protocol.rule.alpha * closest.accepted:
        return f"{seen}: use better judges, clearer instructions, or allow a larger alpha"
    if needed is None:
        return f"{seen}: too close to alpha for any number of labels that people would give"
    least = "about" if _is_exact(protocol) else "more than"  # betting needs more than counts do
    what = "rows" if protocol.clusters is None else "clusters"
    advice = (
        f"{seen}; at that rate, {least} {needed} freshly labelled {what} give a certificate with a "
        "chance of 80 % if only this policy were tested. A further test of these labels has its own, smaller "
        "share of delta"
    )
    return advice if protocol.clusters is None else f"{advice}; or {MORE_CLUSTERS}"


def find_closest(
    protocol: Protocol, aligned: Aligned, tests: Sequence[PolicyTest]
) -> tuple[PolicyTest | None, int | None]:
    """The tested policy that would need fewest labels at the rate seen, and how many rows or clusters.

    Rates are drawn towards one half by one row, so that ten rows without an error guarantee little; each test
    is taken to spend what its sub-path could. For a guess, not for a guarantee.
    """
    units = len(aligned.truth) if protocol.clusters is None else _count_clusters(protocol, aligned.ids)
    level: dict[int, float] = defaultdict(float)
    for test in tests:
        level[test.part] = max(level[test.part], test.level)
    released = [test for test in tests if test.accepted]

    def rate(test: PolicyTest) -> float:
        lost = test.errors if test.loss is None else test.loss
        return (lost + 0.5) / (test.accepted + 1)

    def roughly(test: PolicyTest) -> float:
        gap = protocol.rule.alpha - rate(test)
        return 9 * protocol.rule.alpha * (1 - protocol.rule.alpha) / (gap * gap) if gap > 0 else np.inf

    ranked = sorted(released, key=lambda test: (roughly(test) / test.accepted, rate(test)))
    candidates: list[tuple[int, int]] = []
    for place, test in enumerate(ranked[:CONSIDERED]):
        if roughly(test) > MOST_LABELS:
            continue
        spent = level[test.part] or protocol.level / len(level)
        accepted = labels_needed(rate(test), protocol.rule.alpha, spent)
        if accepted is not None:
            candidates.append((ceil(accepted * units / test.accepted), place))
    if candidates:
        needed, place = min(candidates)
        return ranked[place], needed
    return (ranked[0] if ranked else None), None


def _describe_next_interim(protocol: Protocol) -> str:
    interim = protocol.interim
    assert interim is not None
    if interim.number == len(interim.sizes):
        return "this was the last interim analysis: start again with rows that were never tested"
    rows, size = len(protocol.roles["certify"]), interim.sizes[interim.number]
    return (
        f"interim analysis {interim.number + 1} of {len(interim.sizes)} takes {size} certification rows, "
        f"{size - rows} more"
    )


def _is_exact(protocol: Protocol) -> bool:
    return protocol.clusters is None and is_binary(protocol.task, protocol.reference)


def _count_clusters(protocol: Protocol, ids: Collection[str]) -> int:
    assert protocol.clusters is not None
    known = set(ids)
    return sum(not known.isdisjoint(rows) for rows in protocol.clusters.rows)


def _too_few_clusters(protocol: Protocol, ids: Collection[str]) -> bool:
    """Whether the clusters could not pass if every row were released and right."""
    if protocol.clusters is None:
        return False
    known = set(ids)
    sizes = np.array([len(known.intersection(rows)) for rows in protocol.clusters.rows])
    none = np.zeros_like(sizes)
    p_value = cluster_pvalue(sizes, none, protocol.rule.alpha, protocol.clusters.largest, protocol.level)
    return p_value > protocol.level


def _explain_batch(protocol: Protocol, aligned: Aligned, tested: int) -> tuple[str, str]:
    reason = (
        f"none of {tested} policies passed its test: with {len(aligned.truth)} of {len(protocol.batch)} rows "
        f"labelled, disagreement with people on this batch could not be shown to be at most "
        f"{protocol.rule.alpha:g}"
    )
    if not _count_verdicts(aligned):
        return reason, NO_VERDICTS
    return reason, (
        "send this batch to human review, or use better judges for the next one, with more rows to label. "
        "A batch that was tested must not be tested again until it passes"
    )


def _count_verdicts(aligned: Aligned) -> int:
    return int((aligned.labels >= 0).any(axis=1).sum())
