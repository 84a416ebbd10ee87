"""From records to a certificate: align votes and labels, test, and write down every count.

No judge is asked here and no file is touched. `Protocol` is everything that was decided; its digest is taken
before a label is read, so a certificate shows that nothing was chosen by looking at the labels it tested. The
tests are `testing`, what stands beside the guarantee is `diagnostics`.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal

import numpy as np

from trustescalate.calibration.annotator_agreement import people
from trustescalate.calibration.diagnostics import clusters_of, diagnose, human_agreement
from trustescalate.calibration.expectation import in_expectation
from trustescalate.calibration.group_guarantees import (
    certify_values,
    coverage_lower,
    explain_by_value,
    leave_out,
)
from trustescalate.calibration.losses import loss_table, losses, right_or_wrong, whom
from trustescalate.calibration.no_certificate import explain_no_certificate
from trustescalate.calibration.policy_tests import Tested, kind_of, run_test
from trustescalate.calibration.population import calibration_overall
from trustescalate.calibration.protocol import Aligned, Judged, Protocol, RegionRule, labels_digest
from trustescalate.calibration.region import must_be_laid_out, recounted, region_record
from trustescalate.calibration.scoring import Scorer, scorer_of
from trustescalate.data.labels import contested_ties, dropped_ties, majority, skipped
from trustescalate.records import (
    Annotation,
    Attempt,
    Batch,
    Certificate,
    Checkpoint,
    Clusters,
    GroupGuarantee,
    InterimAnalysis,
    Item,
    Json,
    JudgeBinding,
    Judgment,
    Label,
    LeftOut,
    Pooling,
    Region,
    Weighting,
)
from trustescalate.records.jsonl import digest, to_python
from trustescalate.stats.band import risk_upper_band
from trustescalate.stats.batch import judgments_needed
from trustescalate.stats.bounds import clopper_pearson_upper
from trustescalate.stats.control import SHARES
from trustescalate.stats.paths import PATHS, Basis, Plan
from trustescalate.stats.pooling import Rows
from trustescalate.stats.pooling import Votes as ScoredVotes
from trustescalate.stats.region import expected_among, truncated
from trustescalate.stats.shift import robustness_radius

CERTIFICATE_SCHEMA = 1
CHECKPOINTS = 16
"""So many policies have a limit on their risk: each one more widens the limits of all."""


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
    claim "batch" it holds what `rows_to_judge` asked for, and `batch_digest` stands for the items of the
    batch. `items` are those that were judged, by id: their clusters count once in `overall`.
    Returns a certificate, or a refusal (`status == "none"`) with its reason; never raises for bad luck. With
    the claim "expected" nothing is tested: it keeps what conformal selection reads of each labelled row.
    Raises CertificateMismatch where the policies are not those that the region was made of.
    """
    task = protocol.task
    sealed = protocol.digest
    wanted = set(protocol.tested)
    notes = [note for note in annotations if note.item_id in wanted]
    truth = majority(task, notes)
    batch, expected = protocol.claim == "batch", protocol.claim == "expected"
    known = losses(task, protocol.reference, notes)
    rows = [item_id for item_id in protocol.tested if batch or expected or item_id in known]
    scorer = scorer_of(protocol, judged)
    aligned = _align(protocol, rows, notes, judged, scorer)
    tested = _align(protocol, protocol.batch, notes, judged, scorer) if batch else aligned
    whole = _standing_for_all(protocol, aligned)
    own = [note for note in notes if protocol.region is None or note.item_id in set(whole.ids)]
    plan = None if expected else _placed(protocol, lay_out(protocol, annotations, judged, scorer))
    groups: tuple[GroupGuarantee, ...] = ()
    units = clusters_of(protocol)
    if protocol.groups is not None:
        assert plan is not None, "the configuration refuses tierwise"
        groups = certify_values(protocol, protocol.groups, rows, aligned, plan)
        result = Tested(None, coverage_lower(groups, len(rows), protocol.level), ())
    else:
        result = run_test(protocol, tested, plan) if rows and not expected else Tested(None, None, ())
    region = None
    if protocol.region is not None:
        assert plan is not None, "the configuration refuses tierwise"
        judged_for = _align(protocol, protocol.region.candidates, (), judged, scorer)
        region, result = _on_all_items(
            protocol, protocol.region, plan, result, judged_for, (len(whole.ids), len(rows))
        )
    certified = result.chosen is not None or result.coverage_lower is not None
    reason, advice = ("", "") if certified else _refusal(protocol, aligned, result, groups)
    made = Certificate(
        schema=CERTIFICATE_SCHEMA,
        status="certified" if certified else "none",
        reason=reason,
        advice=advice,
        alpha=protocol.alpha,
        delta=protocol.delta,
        claim=protocol.claim,
        path=protocol.path,
        procedure="fixed_sequence" if protocol.path == "tierwise" else protocol.procedure,
        prefer=protocol.prefer,
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
        judges=tuple(_binding(name, mark, judged[name]) for name, mark in protocol.judges),
        diagnostics=tuple(
            diagnose(protocol, whole, tier, judged[name]) for tier, (name, _) in enumerate(protocol.judges)
        ),
        human_agreement=human_agreement(task, own, units),
        roles=protocol.roles,
        protocol=sealed,
        data_digest=digest(_evidence(notes, judged)),
        seed=protocol.seed,
        version=protocol.version,
        created=created,
        assumptions=(*_assumptions(protocol), *_answers(protocol, notes)),
        stack=_stack(plan),
        batch=_batch(protocol, batch_digest, judged, notes) if batch else None,
        radius=_radius(protocol, result),
        band=_band(protocol, result),
        group_by=None if protocol.groups is None else protocol.groups.by,
        groups=groups,
        left_out=_left_out(protocol, rows, aligned, plan),
        annotator_agreement=people(
            task,
            own,
            whole.ids,
            {name: whole.labels[:, j] for j, (name, _) in enumerate(protocol.judges)},
            None if units is None else np.array([units[item_id] for item_id in whole.ids], dtype=np.int64),
        ),
        method=_METHODS.get(kind_of(protocol), "exact"),
        interim=protocol.interim,
        attempt=protocol.attempt,
        clusters=_clusters(protocol),
        weighting=protocol.weighting,
        overall=calibration_overall(protocol, own, judged, scorer, items),
        region=region,
    )
    return in_expectation(made, aligned) if expected else made


def _standing_for_all(protocol: Protocol, aligned: Aligned) -> Aligned:
    """The tested rows that were drawn from the whole population: rows from a region say nothing of it."""
    drawn = set(protocol.roles.get("region", ()))
    return aligned.take([item_id not in drawn for item_id in aligned.ids])


def _placed(protocol: Protocol, plan: Plan | None) -> Plan | None:
    """The plan that is tested; with a region, without the policies that accept rows outside it."""
    rule = protocol.region
    if rule is None or plan is None:
        return plan
    cut = truncated(plan, rule.most)
    must_be_laid_out(rule, cut)
    uniform, inside = len(protocol.roles["certify"]), len(protocol.roles["region"])
    return expected_among(cut, uniform, inside, rule.share) if uniform + inside else cut


def _on_all_items(
    protocol: Protocol, rule: RegionRule, plan: Plan, result: Tested, rows: Aligned, tested: tuple[int, int]
) -> tuple[Region, Tested]:
    """What a test says of the whole population, by unlabelled `rows` of it.

    `tested` counts the tested rows that were drawn from all items, and all tested rows.
    """
    votes = ScoredVotes(rows.scores, rows.labels)
    record = region_record(rule, plan, votes, *tested)
    if not result.tests:
        return record, result
    return record, Tested(*recounted(protocol, plan, result.tests, votes, rows.costs))


def _refusal(
    protocol: Protocol, aligned: Aligned, result: Tested, groups: Sequence[GroupGuarantee]
) -> tuple[str, str]:
    if protocol.groups is not None:
        return explain_by_value(protocol, protocol.groups, groups)
    return explain_no_certificate(protocol, aligned, result.tests)


def _left_out(protocol: Protocol, rows: Sequence[str], aligned: Aligned, plan: Plan | None) -> LeftOut | None:
    asked = protocol.leave_out
    return None if asked is None else leave_out(protocol, asked, rows, aligned, plan)


_METHODS: Mapping[str, Literal["betting", "clusters"]] = {"betting": "betting", "clusters": "clusters"}


def lay_out(
    protocol: Protocol, annotations: Sequence[Annotation], judged: Judged, scorer: Scorer
) -> Plan | None:
    """The path, from dev rows and unlabelled ones alone; None for `tierwise`, which needs none."""
    if protocol.path == "tierwise":
        return None
    wanted = set(protocol.roles["dev"]) if PATHS[protocol.path].needs_dev else set()
    notes = [note for note in annotations if note.item_id in wanted]
    rows = list(majority(protocol.task, notes))
    dev = _align(protocol, rows, notes, judged, scorer) if rows else None
    pilot = _confidences(protocol, protocol.roles["pilot"], judged, scorer)
    basis = Basis(
        None if dev is None else _dev_rows(protocol, dev),
        pilot,
        len(protocol.judges),
        len(protocol.task.labels),
    )
    plan = PATHS[protocol.path].build(basis)
    return _less_to_judge(plan) if protocol.claim == "batch" else plan


def _dev_rows(protocol: Protocol, dev: Aligned) -> Rows:
    """Dev rows as paths read them; where near misses agree, as right or wrong, save for a stack's labels."""
    if protocol.task.tolerance and protocol.path != "stacked":
        none = np.zeros(len(dev.ids), dtype=np.int64)
        return Rows(dev.scores, right_or_wrong(dev.labels, dev.losses), none, dev.costs)
    return Rows(dev.scores, dev.labels, dev.truth, dev.costs)


def _less_to_judge(plan: Plan) -> Plan:
    """A plan without the policies that are expected to accept too little ever to be tested by `fallback`.

    In a batch each policy of the path is paid for: the stricter the first, the more rows go to the judges
    that cost most.
    """
    kept = [
        (part == part[-1]).all(axis=1) | (coverage >= SHARES[0][1])
        for part, coverage in zip(plan.parts, plan.coverage, strict=True)
    ]
    return plan._replace(
        parts=tuple(part[keep] for part, keep in zip(plan.parts, kept, strict=True)),
        coverage=tuple(part[keep] for part, keep in zip(plan.coverage, kept, strict=True)),
    )


def rows_to_judge(
    protocol: Protocol, plan: Plan, judged: Judged, tier: int, scorer: Scorer
) -> tuple[str, ...]:
    """The ids of the batch that a judge must still be asked about, when all judges before it have been.

    Where no policy of the plan would ask the judge, its verdict changes no count. The order tells nothing of
    the draw: a judge that fails or changes half-way must not do so between drawn rows and the others.
    """
    rows = sorted(protocol.batch)
    read = plan.read(_confidences(protocol, rows, judged, scorer))
    wide = judgments_needed(plan.policies, *read).reshape(len(rows), len(plan.readings), -1)
    needed = np.any(wide, axis=1)[:, tier]
    known = judged[protocol.judges[tier][0]]
    return tuple(
        item_id for item_id, wanted in zip(rows, needed, strict=True) if wanted and item_id not in known
    )


def votes_digest(judged: Judged) -> str:
    """A hash of all votes, whatever their order."""
    return digest(sorted(rows for rows in _votes(judged) if rows[1]))


def _align(
    protocol: Protocol,
    rows: Sequence[str],
    notes: Sequence[Annotation],
    judged: Judged,
    scorer: Scorer,
) -> Aligned:
    task, names = protocol.task, [name for name, _ in protocol.judges]
    scores, labels = _confidences(protocol, rows, judged, scorer)
    costs = np.array(
        [[row.cost if (row := judged[name].get(item_id)) else 0.0 for name in names] for item_id in rows],
        dtype=float,
    )
    place: Mapping[Label | None, int] = {label: i for i, label in enumerate(task.labels)}
    truth = majority(task, notes)
    return Aligned(
        tuple(rows),
        scores,
        labels,
        costs.reshape(scores.shape),
        np.array([place.get(truth.get(item_id), -1) for item_id in rows], dtype=np.int64),
        loss_table(task, losses(task, protocol.reference, notes), rows),
    )


def _confidences(protocol: Protocol, rows: Sequence[str], judged: Judged, scorer: Scorer) -> ScoredVotes:
    """Scores and labels; a row that a judge was not asked about has score 0 and no verdict."""
    return scorer.read([name for name, _ in protocol.judges], rows, judged)


def _stack(plan: Plan | None) -> Pooling | None:
    stack = None if plan is None else next((stack for stack in plan.readings if stack is not None), None)
    if stack is None:
        return None
    weights = tuple(tuple((float(a), float(b)) for a, b in tier) for tier in stack.weights)
    return Pooling(weights, stack.clip)


def _binding(name: str, fingerprint: str, judged: Mapping[str, Judgment]) -> JudgeBinding:
    votes = (vote for judgment in judged.values() for vote in judgment.votes if vote.failure is None)
    return JudgeBinding(name, fingerprint, next((vote.channel for vote in votes), "logprobs"))


def _radius(protocol: Protocol, result: Tested) -> float | None:
    """The least radius of the tests that the guarantee rests on: one, or on a tierwise path one a tier."""
    if result.chosen is None or kind_of(protocol) != "exact":
        return None
    used = [result.tests[result.chosen]]
    if protocol.path == "tierwise":
        used = [test for test in result.tests if test.rejected]
    upper = max(float(clopper_pearson_upper(test.errors, test.accepted, test.level)) for test in used)
    # A p-value that equals its level to the last bit may put its limit a rounding above alpha.
    return robustness_radius(min(upper, protocol.alpha), protocol.alpha)


def _band(protocol: Protocol, result: Tested) -> tuple[Checkpoint, ...]:
    """Limits on evenly spaced policies of the path. Places alone decide which: no label, and no count."""
    size = len(result.tests)
    # Its policies are shown with the share of the rows that they accept: of a region's, that is no coverage.
    if kind_of(protocol) != "exact" or protocol.path == "tierwise" or protocol.region or size == 0:
        return ()
    places = np.unique(np.linspace(0, size - 1, min(size, CHECKPOINTS)).round().astype(np.int64))
    errors, accepted = np.array([(test.errors, test.accepted) for test in result.tests])[places].T
    upper = risk_upper_band(errors, accepted, protocol.level)
    return tuple(Checkpoint(int(test), float(limit)) for test, limit in zip(places, upper, strict=True))


def _batch(protocol: Protocol, mark: str, judged: Judged, notes: Sequence[Annotation]) -> Batch:
    said = labels_digest(notes, protocol.roles["certify"]) if protocol.release_human_labels else ""
    return Batch(len(protocol.batch), mark, votes_digest(judged), protocol.release_human_labels, said)


def _clusters(protocol: Protocol) -> Clusters | None:
    if protocol.drawn_from is not None or protocol.clusters is None:
        return protocol.drawn_from
    return Clusters(len(protocol.clusters.rows), protocol.clusters.largest)


def _assumptions(protocol: Protocol) -> tuple[str, ...]:
    agreement = f"agreement means agreement with {whom(protocol.task, protocol.reference)}"
    if protocol.reference == "majority":
        agreement += "; without one, any verdict counts as a disagreement"
    if protocol.claim == "expected":
        drawn = (
            "the labelled rows and the items of a run were drawn independently from one population, one item "
            "of each group: they are exchangeable"
        )
        said = [drawn, agreement, "the judges stay as they are: same model, same wording, same examples"]
        return tuple(said)
    if protocol.claim == "batch":
        said = [
            "no assumption is made on how the items arose: the rows to label were drawn from the whole batch "
            "by this tool, by a seed that was chosen before any label was seen",
            agreement,
            "nothing is guaranteed about items outside the batch",
        ]
        if protocol.attempt is not None and protocol.attempt.number > 1:
            said.append(_tested_before(protocol.attempt))
        return (*said, *((REPLACED,) if protocol.release_human_labels else ()))
    drawn = (
        "the certification rows were drawn independently from the same population as the items to be judged"
    )
    if protocol.groups is not None:
        drawn = (
            f"the certification rows of each value of {protocol.groups.by} were drawn independently from the "
            "same population as the items of that value to be judged; how common the values are may change"
        )
    said = [
        drawn,
        agreement,
        "the judges stay as they are: same model, same wording, same examples",
    ]
    if protocol.path == "tierwise":
        said.append(
            "each judge after the first was tested on the rows that the judges before it left over, as in "
            "the paper: its proof takes their thresholds as given"
        )
    if (given := _clusters(protocol)) is not None:
        said[0] = _whole_clusters(given)
    elif protocol.grouped:
        said.append("no two labelled rows are of one cluster; of larger ones one row each would be tested")
    if protocol.region is not None:
        said[0] = _drawn_from_region(protocol, protocol.region)
    if protocol.weighting is not None:
        said.append(_weighted(protocol.weighting))
    if protocol.interim is not None:
        said.append(_looked(protocol.interim))
    elif protocol.attempt is not None and protocol.attempt.number > 1:
        said.append(_tested_before(protocol.attempt))
    return tuple(said)


def _answers(protocol: Protocol, notes: Sequence[Annotation]) -> tuple[str, ...]:
    """What becomes of rows that everybody skipped, and of dropped ties, with their counts."""
    task, said, labelled = protocol.task, list[str](), len({note.item_id for note in notes})
    passed, tied, contested = skipped(notes), dropped_ties(task, notes), contested_ties(task, notes)
    if task.skips == "outside":
        said.append(
            f"items that everybody skips are outside the claim, as {passed:,} of {labelled:,} labelled rows "
            "are"
        )
    elif passed:
        said.append(
            f"an item that everybody skips counts as a disagreement, as {passed:,} of {labelled:,} labelled "
            "rows do"
        )
    if task.ties == "drop" and protocol.claim == "batch":
        said.append(
            "an item that more people call a tie than prefer either response counts as a disagreement, as "
            f"{tied:,} of {labelled:,} labelled rows do"
        )
    elif task.ties == "drop":
        said.append(
            "items that more people call a tie than prefer either response are outside the claim, as "
            f"{tied:,} of {labelled:,} labelled rows are; elsewhere those who call a tie are left out, on "
            f"{contested:,} rows"
        )
    return tuple(said)


def _whole_clusters(given: Clusters) -> str:
    drawn = "whole clusters were drawn independently from the same population as the items to be judged"
    if given.test == "one_per_cluster":
        return f"{drawn}; one row of each was tested, so each cluster counts once, however many rows it has"
    bound = f"{drawn}, all rows that are labelled there or a choice of them that looked at no verdict; no"
    bound += f" cluster there has more than {given.largest} rows"
    if given.test == "betting":
        return f"{bound}, and a row of a large cluster counts as much as any other"
    return (
        f"{bound}; one row of each was kept with probability rows / {given.largest}, {given.kept:,} of "
        f"{given.count:,}, so a row of a large cluster counts as much as any other"
    )


REPLACED = (
    "the rows drawn for people are released with people's labels, which count as right: the share is of all "
    "answers on accepted items, and says less about the judges' verdicts alone"
)


def _drawn_from_region(protocol: Protocol, rule: RegionRule) -> str:
    return (
        f"{len(protocol.roles['region']):,} certification rows were drawn independently from the items, of "
        f"the same population as those to be judged, that a tested policy accepts, and "
        f"{len(protocol.roles['certify']):,} from all of them; the policies, of expected coverage at most "
        f"{rule.most:.2f}, were fixed before these rows were labelled"
    )


def _weighted(given: Weighting) -> str:
    kept = (
        f"the population to be judged has weights {given.by} against the labelled rows, nowhere above "
        f"{given.bound:g}: {given.kept:,} of {given.offered:,} rows were kept with probability weight / bound"
    )
    if given.source == "known":
        return f"{kept}; the weights are exact"
    return f"{kept}; the weights were estimated, so the guarantee is approximate, as good as they are"


def _looked(look: InterimAnalysis) -> str:
    return (
        f"this is look {look.number} of {len(look.sizes)}, and may spend {look.share:g} of delta; the number "
        "of rows of every look was fixed before the first label"
    )


def _tested_before(attempt: Attempt) -> str:
    return (
        f"this is test {attempt.number} of these labels, and may spend {attempt.share:.3g} of delta; whether "
        "it was made may depend on anything, what it tests, and on how many rows, on none of their labels"
    )


def _evidence(notes: Sequence[Annotation], judged: Judged) -> Json:
    labels = sorted((note.item_id, note.annotator, note.label) for note in notes)
    return [labels, _votes(judged)]


def _votes(judged: Judged) -> list[Json]:
    return [[name, [to_python(rows[item_id]) for item_id in sorted(rows)]] for name, rows in judged.items()]
