"""Build a report from a certificate or a run: the claim, the key figures and the sections.

Every printed figure is computed here or in a section. Pure: no judge, no network, no disk.
"""

from collections.abc import Callable, Mapping
from typing import Literal

from trustescalate.calibration.attainable import Attainable
from trustescalate.calibration.expectation import WEAKER
from trustescalate.calibration.served_models import compare_served
from trustescalate.calibration.uncertified import rests_on_tests
from trustescalate.records import Batch, Certificate, Probe, Run
from trustescalate.records.criteria import count_in_words
from trustescalate.records.policies import largest_alpha
from trustescalate.report import expectation, figures, run_figures, this_run, uncertified
from trustescalate.report.agreement import agreement_section, human_rows, judged_agreement, leave_one_out
from trustescalate.report.annotators import alternative_annotator_section, annotator_section
from trustescalate.report.attainable import PLAIN, Command
from trustescalate.report.calibration_page import complete
from trustescalate.report.cascade import abstentions_section, cascade_section
from trustescalate.report.certificate import certificate_section, tested
from trustescalate.report.certificate_figures import (
    INTERVAL,
    certified_agreement,
    compared_rows,
    expected_cost_share,
    human_reference,
    observed_agreement,
    population,
    predicted_coverage,
    used_tests,
)
from trustescalate.report.clusters import cluster_banner, cluster_clause, outside_clause
from trustescalate.report.criteria import criteria_section
from trustescalate.report.distribution_shift import SHIFT, shift_alarms, shift_section
from trustescalate.report.failed_votes import failed_votes_section
from trustescalate.report.figures import Figure, count, missing, share
from trustescalate.report.flow import items_flow
from trustescalate.report.groups import (
    group_facts,
    groups_chart,
    groups_section,
    guarantee_of,
    left_out_section,
)
from trustescalate.report.injection import injection_section
from trustescalate.report.items import ItemRows
from trustescalate.report.judge_bias import bias_section
from trustescalate.report.judges import judge_findings, judges_section
from trustescalate.report.leaderboard import leaderboard_section
from trustescalate.report.overall import overall_figure, overall_section
from trustescalate.report.pictures import Picture, Power
from trustescalate.report.product import DISJOINT, is_disjoint, product_figure
from trustescalate.report.provenance import provenance_section
from trustescalate.report.risk_coverage import risk_chart, risk_section
from trustescalate.report.sections import SCHEMA, KeyFigure, Measures, Report, Section, TaskFacts

__all__ = ["SECTIONS", "Report", "build", "build_calibration"]

NO_RUN = "no run yet"
SIMULATED = "Simulated judges and data: these figures are no statement about any real model."
NOTHING_RELEASED = (
    "Nothing was released: every decided item needs human review. The claim is about released verdicts."
)
NO_EXPECTATION = "No guarantee in expectation"
REPRESENTATIVE = "the labelled rows were drawn independently from the population of the items to be judged"
Status = Literal["certified", "expected", "none", "incomplete", "uncertified"]
_HEADLINES: Mapping[Status, str] = {
    "certified": "Certified",
    "expected": "In expectation only",
    "none": "No certificate",
    "incomplete": "Incomplete run",
    "uncertified": "Uncertified",
}
_UNFINISHED = {
    "running": "was still running",
    "budget": "stopped when its budget was reached",
    "stopped": "was stopped",
    "complete": "states that it is complete, but not every item was decided",
}


def build(run: Run, probe: Probe | None = None) -> Report:
    """Build the report of a run, finished or not."""
    return _report(run.header.certificate, run, probe)


def build_calibration(
    certificate: Certificate,
    probe: Probe | None = None,
    seen: Attainable | None = None,
    power: Power | None = None,
    command: Command = PLAIN,
) -> Report:
    """Build the report of a calibration, certified or not; `seen` is what one that was not could have had."""
    return complete(_report(certificate, None, probe), certificate, seen, power, command)


def _report(certificate: Certificate, run: Run | None, probe: Probe | None) -> Report:
    task, measures = certificate.task, _measures(certificate, run)
    status = _status(certificate, run)
    headline = _HEADLINES[status]
    if status == "none" and certificate.claim == "expected":
        headline = NO_EXPECTATION
    clusters = ""
    if certificate.status != "none" and certificate.batch is None:
        clusters = cluster_banner(certificate, () if run is None else run.items)
    by_slug = {slug: section(certificate, run) for slug, section in SECTIONS.items()}
    sections = list(by_slug.values())
    if probe is not None:
        sections.insert(list(by_slug).index("certificate"), injection_section(probe, certificate))
    return Report(
        schema=SCHEMA,
        kind="calibration" if run is None else "run",
        status=status,
        complete=run is None or run_figures.is_complete(run),
        task=TaskFacts(task.kind, task.question, task.labels, task.ties),
        headline=headline,
        claim=_claim(certificate, run),
        advice=_advice(certificate),
        assumptions=() if certificate.status == "none" else certificate.assumptions or (REPRESENTATIVE,),
        banners=_banners(certificate, run, measures, clusters),
        clusters=clusters,
        key_figures=_key_figures(certificate, run, measures),
        measures=measures,
        sections=tuple(section for section in sections if section is not None),
        items=() if run is None else ItemRows(run),
        versions={} if run is None else dict(sorted(run.header.versions.items())),
        groups=group_facts(certificate, run),
        run_claim="" if run is None else this_run.sentence(run),
        tested="" if status == "uncertified" else tested(certificate),
        product=None if run is None else run.product,
        facts=_facts(certificate, run),
        pictures=_pictures(certificate, run),
    )


def _facts(certificate: Certificate, run: Run | None) -> tuple[str, ...]:
    facts = [f"{certificate.n:,} labelled rows"] if certificate.n else []
    if run is None or not run.uncertified:
        alpha, mean = figures.setting(largest_alpha(certificate)).text, certificate.claim == "expected"
        facts.append(
            f"α = {alpha}" if mean else f"α = {alpha}, δ = {figures.setting(certificate.delta).text}"
        )
        facts += filter(None, [tested(certificate)])
    if run is None:
        return f"calibration of {certificate.created[:10]}", *facts
    part = [] if run.header.shard is None else [str(run.header.shard)]
    return f"run {run.header.id}", *part, count_in_words(run.items), *facts


def _pictures(certificate: Certificate, run: Run | None) -> tuple[Picture, ...]:
    """The charts of the first screen: where the items went, the groups, and what was tested."""
    flow = () if run is None or not run.decisions else (items_flow(run),)
    groups = groups_chart(certificate, run) if certificate.group_by is not None else ()
    return (*flow, *groups, *risk_chart(certificate))


def _status(certificate: Certificate, run: Run | None) -> Status:
    if run is not None and run.uncertified:
        return "uncertified"
    if certificate.status == "none":
        return "none"
    return certificate.status if run is None or run_figures.is_complete(run) else "incomplete"


# ── the claim ────────────────────────────────────────────────────────────────────────────────────


def _claim(certificate: Certificate, run: Run | None) -> str:
    if run is not None and run.uncertified:
        return uncertified.sentence(run)
    if certificate.status == "none":
        headline = NO_EXPECTATION if certificate.claim == "expected" else _HEADLINES["none"]
        return f"{headline}: {certificate.reason}."
    released = "" if run is None else f". {_released(run)}"
    if certificate.status == "expected":
        return f"{expectation.sentence(certificate)}{released}."
    if certificate.batch is not None:
        return _batch_claim(certificate, certificate.batch, run)
    guarantee = guarantee_of(certificate) if certificate.group_by is not None else _guarantee(certificate)
    if certificate.weighting is not None and certificate.weighting.source == "estimated":
        guarantee = f"Approximately, since the weights were estimated: {guarantee[0].lower()}{guarantee[1:]}"
    guarantee += outside_clause(certificate) + cluster_clause(certificate, () if run is None else run.items)
    if run is None:
        lower = predicted_coverage(certificate).text
        return f"{guarantee}; it is expected to release a verdict for at least {lower} of such items."
    return f"{guarantee}{released}."


def _probably(certificate: Certificate) -> str:
    return (
        f"With probability at least {figures.complement(certificate.delta).text} over the draw of the "
        f"{certificate.n:,} labelled rows, "
    )


def _guarantee(certificate: Certificate, items: str = "") -> str:
    return (
        f"{_probably(certificate)}at least {figures.complement(certificate.alpha).text} of the "
        f"verdicts that this cascade releases on {items or population(certificate)} agree with "
        f"{human_reference(certificate)}"
    )


def _batch_claim(certificate: Certificate, batch: Batch, run: Run | None) -> str:
    if batch.release_human_labels:
        return _replaced_claim(certificate, batch, run)
    guarantee = _guarantee(certificate, f"this batch of {batch.items:,} items")
    if run is not None:
        return f"{guarantee}. {_released(run)}."
    accepted = sum(test.accepted for test in used_tests(certificate))
    return f"{guarantee}; it releases {accepted:,} of them ({share(accepted, batch.items).text})."


def _replaced_claim(certificate: Certificate, batch: Batch, run: Run | None) -> str:
    (test,) = used_tests(certificate)
    drawn = compared_rows(test)
    guarantee = (
        f"{_probably(certificate)}at most {figures.setting(certificate.alpha).text} of the "
        f"{test.accepted:,} items of this batch of {batch.items:,} that the cascade accepts are released "
        f"with a label that disagrees with {human_reference(certificate)}. {drawn:,} of these labels are "
        f"human labels, and {test.accepted - drawn:,} are the judges'; among the judges' alone the share "
        "may be higher"
    )
    if run is None:
        return f"{guarantee}."
    return f"{guarantee}. {_released(run)} by judges, and {run_figures.labelled(run):,} with human labels."


def _released(run: Run) -> str:
    done = f"{run_figures.released(run):,} of {run.header.items:,} ({run_figures.coverage(run).text})"
    return f"This run released {done}{'' if run_figures.is_complete(run) else ' so far'}"


def _advice(certificate: Certificate) -> str:
    advice = certificate.advice if certificate.status == "none" else ""
    return f"{advice[0].upper()}{advice[1:]}." if advice else ""


def _banners(certificate: Certificate, run: Run | None, measures: Measures, clusters: str) -> tuple[str, ...]:
    banners = [SIMULATED] if is_simulated(certificate, run) else []
    banners += [uncertified.BANNER] if run is not None and run.uncertified else []
    if run is not None and not run_figures.is_complete(run):
        decided, items = len(run.decisions), run.header.items
        banners.append(
            f"Incomplete: this run {_UNFINISHED[run.header.status]}. {decided:,} of "
            f"{count_in_words(run.items)} are decided, {items - decided:,} are not; "
            "figures about the run are about the decided part."
        )
    if run is not None and run_figures.releases_nothing(run):
        banners.append(NOTHING_RELEASED)
    if measures.excess_failures.value:
        banners.append(f"Votes fail more often than at calibration: {measures.excess_failures.text}.")
    banners += [clusters] if clusters else []
    banners += judge_findings(certificate) if run is None else []
    if run is not None:
        banners += [f"{row.sentence}." for row in compare_served(certificate, run.judgments) if row.changed]
    if run is not None and any(tier.raised for tier in run.shift):
        banners.append(SHIFT)
    if run is not None and run.product is not None and is_disjoint(run.product):
        banners.append(DISJOINT)
    return tuple(banners)


def is_simulated(certificate: Certificate, run: Run | None) -> bool:
    """Whether a judge of the certificate or of the run is simulated."""
    configured = [] if run is None else run.header.config.get("judges", [])
    backends = [judge.get("backend") for judge in configured if isinstance(judge, Mapping)]
    return "simulated" in backends or any(
        binding.judge.lower().startswith("simulated") for binding in certificate.judges
    )


# ── key figures ──────────────────────────────────────────────────────────────────────────────────


def _key_figures(certificate: Certificate, run: Run | None, measures: Measures) -> tuple[KeyFigure, ...]:
    if run is not None and run.uncertified:
        means = product_figure(run) or overall_figure(run)
        return (*means, *uncertified.key_figures(run), KeyFigure("Cost", measures.cost, measures.cost.note))
    agreement = KeyFigure("Certified agreement", *_certified(measures))
    if certificate.status == "expected":
        mean = measures.expected_agreement
        shown = Figure(mean.value, f"≥ {mean.text}")
        agreement = KeyFigure("Agreement in expectation", shown, "a mean over runs, no limit for this run")
    covered = measures.coverage if run is not None else measures.predicted_coverage_lower
    share = covered.value if isinstance(covered.value, float) else None
    return (
        agreement,
        KeyFigure("Coverage", *_coverage(certificate, run, measures), share),
        KeyFigure("Cost against the last judge", *_cost(run, measures)),
        KeyFigure("Human leave-one-out agreement", *_human(certificate, measures)),
    )


def _certified(measures: Measures) -> tuple[Figure, str]:
    figure = measures.certified_agreement
    if figure.value is None:
        return figure, figure.note
    shown = Figure(figure.value, f"≥ {figure.text}", figure.note)
    observed = measures.observed_agreement.text
    return shown, f"with probability ≥ {measures.confidence.text}; observed {observed} at calibration"


def _coverage(certificate: Certificate, run: Run | None, measures: Measures) -> tuple[Figure, str]:
    lower = measures.predicted_coverage_lower
    if run is not None:
        predicted = "" if lower.value is None else f"; predicted: at least {lower.text}"
        return measures.coverage, (
            f"{run_figures.released(run):,} of {run.header.items:,} released, "
            f"{run_figures.abstained(run):,} for human review{predicted}"
        )
    if lower.value is None:
        return lower, lower.note
    how = "expected, from the certification rows" if certificate.batch is None else "of the batch, as counted"
    return Figure(lower.value, f"≥ {lower.text}"), how


def _human(certificate: Certificate, measures: Measures) -> tuple[Figure, str]:
    figure, human = measures.human_agreement, certificate.human_agreement
    if human is None or figure.value is None:
        return figure, figure.note
    detail = f"one annotator with the majority of the others; {figures.interval(*human.interval)}"
    upper = [limit.text for _, limit, _ in human_rows(certificate)[1:]]
    return figure, detail + (f"; attainable by any verdicts: {upper[0]}" if upper else "")


def _cost(run: Run | None, measures: Measures) -> tuple[Figure, str]:
    figure = measures.cost_share
    if figure.value is None:
        return figure, figure.note
    if run is None:
        return figures.saved(figure), "expected, from the certification rows"
    last = run_figures.always_last_judge(run).text
    return figures.saved(figure), f"{measures.cost.text} instead of {last}, estimated from certification rows"


# ── what a gate may compare ──────────────────────────────────────────────────────────────────────


def _measures(certificate: Certificate, run: Run | None) -> Measures:
    confidence = figures.complement(certificate.delta)
    if certificate.status == "expected":
        confidence = missing(WEAKER)

    def of_run(take: Callable[[Run], Figure]) -> Figure:
        return missing(NO_RUN) if run is None else take(run)

    def of_released(take: Callable[[Run], Figure]) -> Figure:
        is_none = run is not None and run.uncertified
        return missing(uncertified.NOTHING) if is_none else of_run(take)

    judged, limits = (missing(NO_RUN), None) if run is None else judged_agreement(run)
    lower, upper = missing(judged.note), missing(judged.note)
    if limits is not None:
        lower = figures.at_least(limits[0], f"lower end of the {INTERVAL}")
        upper = figures.at_most(limits[1], f"upper end of the {INTERVAL}")
    return Measures(
        certified_agreement=certified_agreement(certificate),
        expected_agreement=expectation.agreement(certificate),
        confidence=confidence,
        observed_agreement=observed_agreement(certificate),
        predicted_coverage_lower=predicted_coverage(certificate),
        human_agreement=leave_one_out(certificate.human_agreement),
        coverage=of_released(run_figures.coverage),
        coverage_without_failures=of_released(run_figures.coverage_without_failures),
        abstained=of_released(lambda run: count(run_figures.abstained(run))),
        abstention=of_run(run_figures.abstention),
        abstention_without_failures=of_run(run_figures.abstention_without_failures),
        shift_alarms=of_run(shift_alarms),
        failed_votes=of_run(run_figures.failed_votes),
        excess_failures=of_run(run_figures.excess_failures),
        judged_agreement=judged,
        judged_agreement_lower=lower,
        judged_agreement_upper=upper,
        run_errors_upper=of_released(this_run.errors_upper),
        cost=of_run(run_figures.total_cost),
        cost_per_1000=of_run(run_figures.cost_per_1000),
        cost_share=expected_cost_share(certificate) if run is None else run_figures.cost_share(run),
    )


# ── the sections ─────────────────────────────────────────────────────────────────────────────────

Maker = Callable[[Certificate, Run | None], Section | None]


def _guarantee_section(certificate: Certificate, run: Run | None) -> Section | None:
    if not rests_on_tests(certificate):
        return None
    if certificate.claim == "expected":
        return expectation.guarantee_section(certificate, run)
    return certificate_section(certificate, () if run is None else run.items)


def _of_certificate(make: Callable[[Certificate], Section | None]) -> Maker:
    return lambda certificate, _run: make(certificate)


def _of_run(make: Callable[[Run], Section | None]) -> Maker:
    return lambda _certificate, run: None if run is None else make(run)


SECTIONS: Mapping[str, Maker] = {
    "uncertified-verdicts": _of_run(uncertified.uncertified_section),
    "agreement-with-human-labels": agreement_section,
    "mean-over-all-items": overall_section,
    "leaderboard": _of_run(leaderboard_section),
    "judges": _of_certificate(judges_section),
    "judge-bias": _of_run(bias_section),
    "failed-votes": failed_votes_section,
    "cascade": _of_run(cascade_section),
    "abstentions": _of_run(abstentions_section),
    "guarantees-by-group": groups_section,
    "leave-one-group-out-check": _of_certificate(left_out_section),
    "criteria": _of_run(criteria_section),
    "distribution-shift-check": _of_run(shift_section),
    "inter-annotator-agreement": _of_certificate(annotator_section),
    "alternative-annotator-test": _of_certificate(alternative_annotator_section),
    "certificate": _guarantee_section,
    "risk-coverage-curve": _of_certificate(risk_section),
    "provenance": provenance_section,
}
"""The sections in reading order, by their slug; a section without content is None. Add one here."""
