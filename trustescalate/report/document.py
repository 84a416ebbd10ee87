"""From a run, or a certificate alone, to a report: every figure that is printed anywhere is made here.

Pure: no judge, no network, no disk. A new section is a function and a row in `SECTIONS`.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal

from trustescalate.calibration.expectation import WEAKER
from trustescalate.records import Batch, Certificate, Probe, Run
from trustescalate.records.policies import largest_alpha
from trustescalate.report import (
    certificate_sections,
    expected,
    figures,
    groups,
    leaderboard,
    reliability,
    run_sections,
    secondary,
    this_run,
)
from trustescalate.report.clusters import cluster_banner, cluster_clause, outside_clause
from trustescalate.report.figures import Figure, count, missing, share
from trustescalate.report.injection import injection_section
from trustescalate.report.sections import (
    SCHEMA,
    Column,
    KeyFigure,
    Measures,
    Report,
    Section,
    Table,
    TaskFacts,
)

__all__ = ["SECTIONS", "Report", "build", "build_calibration"]

NO_RUN = "nothing was run yet"
SIMULATED = "Simulated judges and data: these figures say nothing about any real model."
REPRESENTATIVE = "the labelled rows were drawn independently from the population of the items to be judged"
Maker = Callable[[Certificate, Run | None], Section | None]
_AFTER_CHOICE = (
    "No interval stands beside what was observed on accepted certification rows: these rows chose the "
    "policy, which the certificate accounts for. The last judge's figure was fixed before, and stands here "
    "whatever came of the test."
)
_YARDSTICK = (
    "Human leave-one-out agreement, how often one person agrees with the majority of the others, says how "
    "hard the task is for people. It is no limit for a judge, who may agree more often with a majority than "
    "one of its members does; what no verdicts can exceed is the line below it."
)
_ONE_ANNOTATOR = "There is one annotator per row: human agreement cannot be measured."
Status = Literal["certified", "expected", "none", "incomplete"]
_HEADLINES: Mapping[Status, str] = {
    "certified": "Certified",
    "expected": "In expectation only",
    "none": "No certificate",
    "incomplete": "Incomplete run",
}
_UNFINISHED = {
    "running": "was still running",
    "budget": "stopped when its budget was reached",
    "stopped": "was stopped",
    "complete": "says that it is complete, but not every item was decided",
}


def build(run: Run, probe: Probe | None = None) -> Report:
    """Turn a run into the facts of its report; raises nothing for a run that is not finished."""
    return _report(run.header.certificate, run, probe)


def build_calibration(certificate: Certificate, probe: Probe | None = None) -> Report:
    """Turn a certificate into a report without a run: what `calibrate` shows, certified or not."""
    return _report(certificate, None, probe)


def _report(certificate: Certificate, run: Run | None, probe: Probe | None) -> Report:
    task = certificate.task
    status = _status(certificate, run)
    made = [section(certificate, run) for section in SECTIONS.values()]
    made.insert(-1, None if probe is None else injection_section(probe, certificate))
    return Report(
        schema=SCHEMA,
        kind="calibration" if run is None else "run",
        status=status,
        complete=run is None or run_sections.is_complete(run),
        task=TaskFacts(task.kind, task.question, task.labels, task.ties),
        subject=f"Calibration, {certificate.created}" if run is None else _subject(run),
        headline=_headline(certificate, run),
        claim=_claim(certificate, run),
        advice=_advice(certificate),
        assumptions=_assumptions(certificate),
        banners=_banners(certificate, run),
        clusters=_clusters(certificate, run),
        key_figures=_key_figures(certificate, run),
        measures=_measures(certificate, run),
        sections=tuple(section for section in made if section is not None),
        items=() if run is None else run_sections.item_rows(run),
        versions={} if run is None else dict(sorted(run.header.versions.items())),
        groups=groups.group_facts(certificate, run),
        run_claim="" if run is None else this_run.sentence(run),
        tested=certificate_sections.tested(certificate),
    )


def _subject(run: Run) -> str:
    return f"Run {run.header.id}, {run.header.created}"


# ── what it comes down to ────────────────────────────────────────────────────────────────────────


def _status(certificate: Certificate, run: Run | None) -> Status:
    if certificate.status == "none":
        return "none"
    return certificate.status if run is None or run_sections.is_complete(run) else "incomplete"


def _headline(certificate: Certificate, run: Run | None) -> str:
    status = _status(certificate, run)
    if status == "none" and certificate.claim == "expected":
        return "No guarantee in expectation"
    return _HEADLINES[status]


def _claim(certificate: Certificate, run: Run | None) -> str:
    if certificate.status == "none":
        return f"{_headline(certificate, run)}: {certificate.reason}."
    if certificate.status == "expected":
        return f"{expected.sentence(certificate)}{'' if run is None else f'. {_released(run)}'}."
    if certificate.batch is not None:
        return _batch_claim(certificate, certificate.batch, run)
    guarantee = (
        groups.guarantee_of(certificate) if certificate.group_by is not None else _guarantee(certificate)
    )
    if certificate.weighting is not None:
        guarantee = _weighted(guarantee, certificate.weighting.source)
    guarantee += outside_clause(certificate) + cluster_clause(certificate, () if run is None else run.items)
    if run is None:
        lower = certificate_sections.predicted_coverage(certificate).text
        return f"{guarantee}; it is expected to release a verdict for at least {lower} of such items."
    return f"{guarantee}. {_released(run)}."


def _guarantee(certificate: Certificate) -> str:
    return (
        f"With probability at least {figures.complement(certificate.delta).text} over the draw of the "
        f"{certificate.n:,} labelled rows, at least {figures.complement(certificate.alpha).text} of the "
        f"verdicts that this cascade releases on {certificate_sections.population(certificate)} agree with "
        f"{certificate_sections.whom(certificate)}"
    )


def _weighted(guarantee: str, source: Literal["known", "estimated"]) -> str:
    if source == "known":
        return guarantee
    return f"Approximately, since the weights were estimated: {guarantee[0].lower()}{guarantee[1:]}"


def _batch_claim(certificate: Certificate, batch: Batch, run: Run | None) -> str:
    if batch.release_human_labels:
        return _replaced_claim(certificate, batch, run)
    guarantee = (
        f"With probability at least {figures.complement(certificate.delta).text} over the draw of the "
        f"{certificate.n:,} labelled rows, at least {figures.complement(certificate.alpha).text} of the "
        f"verdicts that this cascade releases on this batch of {batch.items:,} items agree with "
        f"{certificate_sections.whom(certificate)}"
    )
    if run is not None:
        return f"{guarantee}. {_released(run)}."
    accepted = sum(test.accepted for test in certificate_sections.used_tests(certificate))
    return f"{guarantee}; it releases {accepted:,} of them ({share(accepted, batch.items).text})."


def _replaced_claim(certificate: Certificate, batch: Batch, run: Run | None) -> str:
    (test,) = certificate_sections.used_tests(certificate)
    drawn = certificate_sections.compared_rows(test)
    guarantee = (
        f"With probability at least {figures.complement(certificate.delta).text} over the draw of the "
        f"{certificate.n:,} labelled rows, at most {figures.setting(certificate.alpha).text} of the "
        f"{test.accepted:,} items of this batch of {batch.items:,} that the cascade accepts get an answer "
        f"that {certificate_sections.whom(certificate)} do not share. {drawn:,} of these answers are people's own, and "
        f"{test.accepted - drawn:,} the judges'; of the judges' alone the share may be higher"
    )
    return (
        f"{guarantee}."
        if run is None
        else f"{guarantee}. {_released(run)} by judges, and {run_sections.labelled(run):,} with people's labels."
    )


def _released(run: Run) -> str:
    done = f"{run_sections.released(run):,} of {run.header.items:,} ({run_sections.coverage(run).text})"
    return f"This run released {done}{'' if run_sections.is_complete(run) else ' so far'}"


def _advice(certificate: Certificate) -> str:
    advice = certificate.advice if certificate.status == "none" else ""
    return f"{advice[0].upper()}{advice[1:]}." if advice else ""


def _assumptions(certificate: Certificate) -> tuple[str, ...]:
    return () if certificate.status == "none" else certificate.assumptions or (REPRESENTATIVE,)


def _banners(certificate: Certificate, run: Run | None) -> tuple[str, ...]:
    banners = [SIMULATED] if _is_simulated(certificate, run) else []
    if run is not None and not run_sections.is_complete(run):
        decided, items = len(run.decisions), run.header.items
        banners.append(
            f"Incomplete: this run {_UNFINISHED[run.header.status]}. {decided:,} of {items:,} items are "
            f"decided, {items - decided:,} are not; figures about the run are about the part that was done."
        )
    banners += [text] if (text := _clusters(certificate, run)) else []
    if run is not None and any(tier.raised for tier in run.shift):
        banners.append(secondary.MOVED)
    return tuple(banners)


def _clusters(certificate: Certificate, run: Run | None) -> str:
    if certificate.status == "none" or certificate.batch is not None:
        return ""
    return cluster_banner(certificate, () if run is None else run.items)


def _is_simulated(certificate: Certificate, run: Run | None) -> bool:
    configured = [] if run is None else run.header.config.get("judges", [])
    backends = [judge.get("backend") for judge in configured if isinstance(judge, Mapping)]
    names = [seal.judge.lower() for seal in certificate.judges]
    return "simulated" in backends or any(name.startswith("simulated") for name in names)


def _key_figures(certificate: Certificate, run: Run | None) -> tuple[KeyFigure, ...]:
    measures = _measures(certificate, run)
    agreement = KeyFigure("Certified agreement", *_certified(measures))
    if certificate.status == "expected":
        mean = measures.expected_agreement
        shown = Figure(mean.value, f"≥ {mean.text}")
        agreement = KeyFigure("Agreement in expectation", shown, "a mean over runs, no limit for this one")
    return (
        agreement,
        KeyFigure("Coverage", *_coverage(certificate, run, measures)),
        KeyFigure("Human leave-one-out agreement", *_human(certificate, measures)),
        KeyFigure("Cost against the last judge", *_cost(run, measures)),
    )


def _certified(measures: Measures) -> tuple[Figure, str]:
    figure = measures.certified_agreement
    if figure.value is None:
        return figure, figure.note
    shown = Figure(figure.value, f"≥ {figure.text}", figure.note)
    observed = measures.observed_agreement
    sure = f"with probability ≥ {measures.confidence.text}, {figure.note}"
    return shown, f"{sure}; observed {observed.text}"


def _coverage(certificate: Certificate, run: Run | None, measures: Measures) -> tuple[Figure, str]:
    lower = measures.predicted_coverage_lower
    if run is not None:
        predicted = "" if lower.value is None else f"; the certificate expects at least {lower.text}"
        return measures.coverage, (
            f"{run_sections.released(run):,} of {run.header.items:,} released, "
            f"{run_sections.abstained(run):,} for people{predicted}"
        )
    if lower.value is None:
        return lower, lower.note
    how = "expected, from the certification rows" if certificate.batch is None else "of the batch, as counted"
    return Figure(lower.value, f"≥ {lower.text}"), how


def _human(certificate: Certificate, measures: Measures) -> tuple[Figure, str]:
    figure, found = measures.human_agreement, certificate.human_agreement
    if found is None or figure.value is None:
        return figure, figure.note
    limits = figures.interval(*found.interval)
    told = f"one of {found.annotators:,} people with the majority of the others; {limits}"
    most = [limit.text for _, limit, _ in certificate_sections.human_rows(certificate)[1:]]
    return (
        figure,
        f"{told}; on these rows no verdicts could agree with people on more than {most[0]}" if most else told,
    )


def _cost(run: Run | None, measures: Measures) -> tuple[Figure, str]:
    figure = measures.cost_share
    if figure.value is None:
        return figure, figure.note
    if run is None:
        return figure, "expected, from the certification rows"
    last = run_sections.always_last_judge(run).text
    return figure, f"{measures.cost.text} instead of {last}, estimated from the certification rows"


# ── what a gate may compare ──────────────────────────────────────────────────────────────────────


def _measures(certificate: Certificate, run: Run | None) -> Measures:
    certified = certificate.status == "certified"
    judged, judged_limits = run_sections.judged_agreement(run) if run else (missing(NO_RUN), None)
    return Measures(
        certified_agreement=replace(
            figures.complement(largest_alpha(certificate)),
            note=f"over {certificate_sections.population(certificate)}",
        )
        if certified
        else missing(certificate_sections.why_none(certificate)),
        expected_agreement=expected.agreement(certificate),
        confidence=missing(WEAKER)
        if certificate.status == "expected"
        else figures.complement(certificate.delta),
        observed_agreement=certificate_sections.observed_agreement(certificate),
        predicted_coverage_lower=certificate_sections.predicted_coverage(certificate),
        human_agreement=certificate_sections.leave_one_out(certificate.human_agreement),
        coverage=run_sections.coverage(run) if run else missing(NO_RUN),
        abstained=count(run_sections.abstained(run)) if run else missing(NO_RUN),
        failed_votes=run_sections.failed_votes(run) if run else missing(NO_RUN),
        judged_agreement=judged,
        judged_agreement_lower=_end(0, judged_limits, judged),
        judged_agreement_upper=_end(1, judged_limits, judged),
        run_errors_upper=this_run.errors_upper(run) if run else missing(NO_RUN),
        cost=figures.usd(run_sections.spent(run)) if run else missing(NO_RUN),
        cost_per_1000=run_sections.cost_per_1000(run) if run else missing(NO_RUN),
        cost_share=run_sections.cost_share(run)
        if run
        else certificate_sections.expected_cost_share(certificate),
    )


def _end(end: Literal[0, 1], limits: tuple[float, float] | None, figure: Figure) -> Figure:
    if limits is None:
        return missing(figure.note)
    if end == 0:
        return figures.at_least(limits[0], f"lower end of the {certificate_sections.INTERVAL}")
    return figures.at_most(limits[1], f"upper end of the {certificate_sections.INTERVAL}")


# ── the sections ─────────────────────────────────────────────────────────────────────────────────


def _agreement_section(certificate: Certificate, run: Run | None) -> Section:
    rows = certificate_sections.agreement_rows(certificate)
    if run is not None:
        rows += this_run.agreement_rows(run) + run_sections.agreement_rows(run)
    columns = (
        Column("Agreement with people"),
        Column("Counts", True),
        Column("Share", True),
        Column(certificate_sections.INTERVAL, True),
    )
    text = [_YARDSTICK if certificate.human_agreement else _ONE_ANNOTATOR]
    text += [_AFTER_CHOICE] if certificate.status == "certified" else []
    table = Table(f"Agreement with {certificate_sections.whom(certificate)}", columns, tuple(rows))
    if run is not None:
        text += this_run.agreement_text(run) + run_sections.agreement_text(run)
    return Section("agreement", "How far it agrees with people", tuple(text), tables=(table,))


def _guarantee_section(certificate: Certificate, run: Run | None) -> Section:
    if certificate.claim == "expected":
        return expected.guarantee_section(certificate, run)
    return certificate_sections.certificate_section(certificate, () if run is None else run.items)


def _of_certificate(make: Callable[[Certificate], Section | None]) -> Maker:
    return lambda certificate, _run: make(certificate)


def _of_run(make: Callable[[Run], Section | None]) -> Maker:
    return lambda _certificate, run: None if run is None else make(run)


SECTIONS: Mapping[str, Maker] = {
    "agreement": _agreement_section,
    "groups": groups.groups_section,
    "overall": secondary.overall_section,
    "leaderboard": _of_run(leaderboard.leaderboard_section),
    "work": _of_run(run_sections.work_section),
    "abstentions": _of_run(run_sections.abstentions_section),
    "shift": _of_run(secondary.shift_section),
    "left-out": _of_certificate(groups.left_out_section),
    "certificate": _guarantee_section,
    "risk": _of_certificate(certificate_sections.risk_section),
    "people": _of_certificate(secondary.annotator_section),
    "judges": _of_certificate(reliability.judges_section),
    "provenance": run_sections.provenance_section,
}
"""The sections in reading order, by their slug. One that has nothing to say is None."""
