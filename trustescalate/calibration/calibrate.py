"""Test the guarantee of a protocol on labelled rows, and assemble the certificate with every count.

No model call is made here and no file is read. `Protocol` holds everything that was decided; its digest is
taken before a label is read, so a certificate shows that no choice depends on the labels that it tested.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Literal, NamedTuple

import numpy as np

from trustescalate.calibration.alignment import align, data_digest, lay_out, votes_digest
from trustescalate.calibration.annotator_agreement import measure_agreement
from trustescalate.calibration.assumptions import cluster_record, state_assumptions, state_exclusions
from trustescalate.calibration.diagnostics import clusters_of, diagnose, human_agreement
from trustescalate.calibration.expectation import keep_scored_rows
from trustescalate.calibration.group_guarantees import (
    certify_values,
    coverage_lower,
    explain_by_value,
    leave_out,
)
from trustescalate.calibration.losses import losses
from trustescalate.calibration.no_certificate import explain_no_certificate, name_failures
from trustescalate.calibration.policy_tests import Tested, kind_of, run_test
from trustescalate.calibration.population import calibration_overall
from trustescalate.calibration.protocol import Aligned, Judged, Protocol, labels_digest
from trustescalate.calibration.region import must_be_laid_out, recount, region_record
from trustescalate.calibration.retest import radius_of, simultaneous_limits
from trustescalate.calibration.scoring import Scorer, pooling_record, scorer_of
from trustescalate.calibration.served_models import served_at
from trustescalate.data.labels import contested_ties, dropped_ties, majority, skipped
from trustescalate.records import (
    Annotation,
    Batch,
    Certificate,
    Channel,
    GroupGuarantee,
    Item,
    JudgeBinding,
    Judgment,
)
from trustescalate.records.criteria import ask_several
from trustescalate.stats.paths import Plan
from trustescalate.stats.pooling import Votes
from trustescalate.stats.region import expected_among, truncated

CERTIFICATE_SCHEMA = 1
_METHODS: Mapping[str, Literal["betting", "clusters"]] = {"betting": "betting", "clusters": "clusters"}


def calibrate(
    protocol: Protocol,
    annotations: Sequence[Annotation],
    judged: Judged,
    *,
    created: str,
    batch_digest: str = "",
    items: Mapping[str, Item] = MappingProxyType({}),
) -> Certificate:
    """Test the guarantee of a protocol on its certification rows.

    `judged` holds every judge's judgments on the items in the roles `certify` and `pilot`, and `dev` where
    the path is fitted on those; with a region also on those of that role, and on its candidates. With the
    claim "batch" it holds what `rows_to_judge` names, and `batch_digest` stands for the items of the batch.
    `items` are those that were judged, by id: their clusters count once in `overall`.
    Returns a certificate; `status` is "none", with its reason, where nothing passed. With the claim
    "expected" nothing is tested: the certificate keeps what conformal selection reads of each labelled row.
    Raises CertificateMismatch where the policies are not those that the region was made of.
    """
    task = protocol.task
    ready = lay_ready(protocol, annotations, judged)
    notes, rows, scorer, aligned, plan = (
        ready.notes,
        ready.aligned.ids,
        ready.scorer,
        ready.aligned,
        ready.plan,
    )
    truth = majority(task, notes)
    batch, expected = protocol.claim == "batch", protocol.claim == "expected"
    whole = _rows_of_all(protocol, aligned)
    own = [note for note in notes if protocol.region is None or note.item_id in set(whole.ids)]
    region = None
    result, groups = run_tests(protocol, ready)
    if protocol.region is not None:
        assert plan is not None, "the configuration refuses tierwise"
        candidates = align(protocol, protocol.region.candidates, (), judged, scorer)
        votes = Votes(candidates.scores, candidates.labels)
        region = region_record(protocol.region, plan, votes, len(whole.ids), len(rows))
        if result.tests:
            result = Tested(*recount(protocol, plan, result.tests, votes, candidates.costs))
    certified = result.chosen is not None or result.coverage_lower is not None
    reason, advice = "", ""
    if not certified and protocol.groups is not None:
        reason, advice = explain_by_value(protocol, protocol.groups, groups)
    elif not certified:
        reason, advice = explain_no_certificate(protocol, aligned, result.tests)
    units = clusters_of(protocol)
    certificate = Certificate(
        schema=CERTIFICATE_SCHEMA,
        status="certified" if certified else "none",
        reason=reason,
        advice=advice,
        alpha=protocol.rule.alpha,
        delta=protocol.rule.delta,
        claim=protocol.claim,
        path=protocol.rule.path,
        procedure="fixed_sequence" if protocol.tierwise else protocol.rule.procedure,
        prefer=protocol.rule.prefer,
        abstention_price=protocol.rule.abstention_price,
        estimator=protocol.estimator,
        task=task,
        label_policy=protocol.reference,
        n=len(rows),
        no_majority=sum(truth.get(item_id) is None for item_id in rows),
        dropped_ties=dropped_ties(task, notes),
        contested_ties=contested_ties(task, notes),
        skipped=skipped(notes),
        chosen=result.chosen,
        thresholds=result.thresholds,
        coverage_lower=result.coverage_lower,
        tests=result.tests,
        judges=tuple(_bind(name, fingerprint, judged[name]) for name, fingerprint in protocol.judges),
        diagnostics=tuple(
            diagnose(protocol, whole, tier, judged[name]) for tier, (name, _) in enumerate(protocol.judges)
        ),
        human_agreement=human_agreement(task, own, units),
        roles=protocol.roles,
        protocol=protocol.digest,
        data_digest=data_digest(notes, judged),
        seed=protocol.seed,
        version=protocol.version,
        created=created,
        assumptions=(*state_assumptions(protocol), *state_exclusions(protocol, notes)),
        stack=None
        if plan is None
        else next((pooling_record(s) for s in plan.readings if s is not None), None),
        batch=_batch_record(protocol, batch_digest, judged, notes) if batch else None,
        group_by=None if protocol.groups is None else protocol.groups.by,
        groups=groups,
        left_out=leave_out(protocol, rows, aligned, plan),
        annotator_agreement=measure_agreement(
            task,
            own,
            whole.ids,
            {name: whole.labels[:, j] for j, (name, _) in enumerate(protocol.judges)},
            None if units is None else np.array([units[item_id] for item_id in whole.ids], dtype=np.int64),
        ),
        method=_METHODS.get(kind_of(protocol), "exact"),
        interim=protocol.interim,
        attempt=protocol.attempt,
        clusters=cluster_record(protocol),
        weighting=protocol.weighting,
        overall=None
        if ask_several(items[item_id] for item_id in rows if item_id in items)
        else calibration_overall(protocol, own, judged, scorer, items),
        region=region,
    )
    if expected:
        return name_failures(keep_scored_rows(certificate, aligned))
    bounded = replace(certificate, radius=radius_of(certificate), band=simultaneous_limits(certificate))
    return name_failures(bounded)


class Ready(NamedTuple):
    """What a protocol tests: the annotations on its rows, the scorer, the rows and the path.

    `tested` are the rows that the test reads: with the claim "batch" the whole batch.
    """

    notes: Sequence[Annotation]
    scorer: Scorer
    aligned: Aligned
    tested: Aligned
    plan: Plan | None


def lay_ready(protocol: Protocol, annotations: Sequence[Annotation], judged: Judged) -> Ready:
    """Align the rows of a protocol and lay out its path. No level of risk is read here."""
    wanted = set(protocol.tested)
    notes = [note for note in annotations if note.item_id in wanted]
    batch, expected = protocol.claim == "batch", protocol.claim == "expected"
    known = losses(protocol.task, protocol.reference, notes)
    rows = [item_id for item_id in protocol.tested if batch or expected or item_id in known]
    scorer = scorer_of(protocol, judged)
    aligned = align(protocol, rows, notes, judged, scorer)
    plan = None if expected else _restrict(protocol, lay_out(protocol, annotations, judged, scorer))
    tested = align(protocol, protocol.batch, notes, judged, scorer) if batch else aligned
    return Ready(notes, scorer, aligned, tested, plan)


def run_tests(protocol: Protocol, ready: Ready) -> tuple[Tested, tuple[GroupGuarantee, ...]]:
    """Run the test of a protocol on its rows; with a guarantee for each value of a field, theirs too."""
    if protocol.groups is not None:
        assert ready.plan is not None, "the configuration refuses tierwise"
        rows = ready.aligned.ids
        groups = certify_values(protocol, protocol.groups, rows, ready.aligned, ready.plan)
        return Tested(None, coverage_lower(groups, len(rows), protocol.level), ()), groups
    if not ready.aligned.ids or protocol.claim == "expected":
        return Tested(None, None, ()), ()
    return run_test(protocol, ready.tested, ready.plan), ()


def _rows_of_all(protocol: Protocol, aligned: Aligned) -> Aligned:
    """The tested rows that were drawn from the whole population: rows from a region say nothing of it."""
    drawn = set(protocol.roles.get("region", ()))
    return aligned.take([item_id not in drawn for item_id in aligned.ids])


def _restrict(protocol: Protocol, plan: Plan | None) -> Plan | None:
    """The plan that is tested; with a region, without the policies that accept rows outside it."""
    rule = protocol.region
    if rule is None or plan is None:
        return plan
    cut = truncated(plan, rule.most)
    must_be_laid_out(rule, cut)
    uniform, inside = len(protocol.roles["certify"]), len(protocol.roles["region"])
    return expected_among(cut, uniform, inside, rule.share) if uniform + inside else cut


def _bind(name: str, fingerprint: str, judged: Mapping[str, Judgment]) -> JudgeBinding:
    votes = (vote for judgment in judged.values() for vote in judgment.votes if vote.failure is None)
    channel: Channel = next((vote.channel for vote in votes), "logprobs")
    return JudgeBinding(name, fingerprint, channel, served=served_at(judged.values()))


def _batch_record(
    protocol: Protocol, batch_digest: str, judged: Judged, notes: Sequence[Annotation]
) -> Batch:
    replaced = protocol.release_human_labels
    labels = labels_digest(notes, protocol.roles["certify"]) if replaced else ""
    return Batch(len(protocol.batch), batch_digest, votes_digest(judged), replaced, labels)
