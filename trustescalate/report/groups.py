"""Report guarantees per group, the run's results in each group, and the leave-one-group-out check."""

from array import array
from collections.abc import Mapping, Sequence

from trustescalate.records import Certificate, GroupGuarantee, LeftOut, Run, Unseen
from trustescalate.records.item_fields import value_of
from trustescalate.records.policies import certified_groups
from trustescalate.records.stored import take_rows
from trustescalate.report import figures, run_figures
from trustescalate.report.agreement import Limits, judged_agreement
from trustescalate.report.bars import LONGEST, interval_chart, share_bar
from trustescalate.report.certificate_figures import (
    INTERVAL,
    INTERVAL_DELTA,
    NEVER,
    human_reference,
    interval_figure,
    outcome,
    population,
)
from trustescalate.report.figures import Figure, count, missing, share, words
from trustescalate.report.pictures import Interval, Intervals
from trustescalate.report.sections import FOLD_ROWS, Column, GroupFacts, Row, Section, Table, numbers
from trustescalate.report.text import one_line

# ── the guarantees ─────────────────────────────────────────────────────────────────────────────────


def quoted(value: str) -> str:
    """Quote a group's name: on one line, of bounded length, and unable to end its quotation.

    >>> quoted("de\\n” hold. “")
    '“de⏎" hold. "”'
    """
    shown = one_line(value).replace("“", '"').replace("”", '"')
    return f"“{shown if len(shown) <= LONGEST else shown[:LONGEST] + '…'}”"


def guarantee_of(certificate: Certificate) -> str:
    """State which share is guaranteed for which groups, and how many groups have no certificate."""
    certified = certified_groups(certificate)
    by_alpha: dict[float, list[str]] = {}
    for guarantee in sorted(certified, key=lambda one: one.alpha):
        by_alpha.setdefault(guarantee.alpha, []).append(guarantee.value)
    parts = [
        f"at least {figures.complement(alpha).text} for {_listed(names)}" for alpha, names in by_alpha.items()
    ]
    left, total = len(certificate.groups) - len(certified), len(certificate.groups)
    others = f"; {left:,} of {total:,} groups have no certificate, and abstain" if left else ""
    return (
        f"With probability at least {figures.complement(certificate.delta).text} over the draw of the "
        f"{certificate.n:,} labelled rows, all of these hold simultaneously, for the items of each "
        f"{certificate.group_by} separately, among {population(certificate)}: of the verdicts that this "
        f"cascade releases, {', '.join(parts)} agree with {human_reference(certificate)}{others}"
    )


def _listed(names: Sequence[str]) -> str:
    more = len(names) - FOLD_ROWS // 2
    shown = ", ".join(map(quoted, names[: FOLD_ROWS // 2]))
    return f"{shown} and {more:,} more" if more > 0 else shown


def groups_section(certificate: Certificate, run: Run | None) -> Section | None:
    """Report the guarantee of each group with its counts, and the groups without; None without groups."""
    if certificate.group_by is None:
        return None
    by, sure = certificate.group_by, figures.complement(certificate.delta).text
    text = (
        _lead(certificate),
        f"Each group by {by} was tested separately, on its own rows. With probability at least {sure} all "
        "guarantees below hold simultaneously, whatever the share of each group among the items.",
        "A group without a guarantee is not certified, which is no statement about the quality of its "
        "verdicts: its items abstain, and no judge is called. Items without "
        f"{by}, or with a value that the certificate does not know, abstain too.",
        "To check a guarantee by hand: its p-value is the probability of at most so many errors among so "
        "many accepted rows at an error rate of α, BinomCDF(errors; accepted, α), and it is at most its "
        "level. δ is divided among the groups with enough rows; a group that passed all its tests passes "
        "its share on to the others.",
    )
    tables = [_guarantees_table(certificate)]
    if run is not None:
        tables.append(_run_table(run))
    certified = certified_groups(certificate)
    if certified:
        tables += [_chosen_tests_table(certified), _thresholds_table(certificate, certified)]
    tables.append(_all_tests_table(certificate))
    title = f"Guarantees by group: {by}"
    return Section("guarantees-by-group", title, text, groups_chart(certificate, run), tuple(tables))


def _lead(certificate: Certificate) -> str:
    certified, total = certified_groups(certificate), len(certificate.groups)
    if not certified:
        return f"None of {total:,} groups by {certificate.group_by} has a guarantee: every item abstains."
    names = _listed([one.value for one in certified])
    alphas = sorted({one.alpha for one in certified})
    least = figures.complement(alphas[-1]).text
    if len(alphas) > 1:
        least += f" to {figures.complement(alphas[0]).text}"
    verb = "has" if len(certified) == 1 else "have"
    lead = f"{len(certified):,} of {total:,} groups by {certificate.group_by} {verb} a guarantee"
    lead += f", of at least {least} agreement: {names}"
    return f"{lead}{'' if total == len(certified) else '; the items of the others abstain'}."


def groups_chart(certificate: Certificate, run: Run | None) -> tuple[Intervals, ...]:
    """Draw each group's agreement on fresh labels of the run, or on the certification rows it accepts."""
    fresh = _measured(certificate, run)
    some = any(limits is not None for _, limits in fresh.values())
    bars = []
    for guarantee in certificate.groups:
        if guarantee.chosen is None:
            bars.append(Interval(guarantee.value, None, None, "no guarantee"))
            continue
        test, note = guarantee.tests[guarantee.chosen], f"≥ {figures.complement(guarantee.alpha).text}"
        if some:
            bars.append(share_bar(guarantee.value, *fresh.get(guarantee.value, (missing(""), None)), note))
            continue
        observed = share(test.accepted - test.errors, test.accepted)
        bars.append(share_bar(guarantee.value, observed, None, note))
    alphas = {one.alpha for one in certified_groups(certificate)}
    common = alphas.pop() if len(alphas) == 1 else None
    where = "fresh labels of this run, simultaneous 95 % intervals" if some else "accepted certification rows"
    return interval_chart(
        f"Agreement of each group: {where}",
        bars,
        reference=None if common is None else 1 - common,
        reference_name="" if common is None else "guaranteed",
    )


def _guarantees_table(certificate: Certificate) -> Table:
    rows = []
    for guarantee in certificate.groups:
        why, lower, radius = _why_none(guarantee), guarantee.coverage_lower, guarantee.radius
        agreement, accepted, errors = missing(why), missing(""), missing("")
        if guarantee.chosen is not None:
            test = guarantee.tests[guarantee.chosen]
            agreement = words(f"≥ {figures.complement(guarantee.alpha).text}")
            accepted, errors = count(test.accepted), count(test.errors)
        cells = (
            *(words(guarantee.value), agreement, count(guarantee.n), accepted, errors),
            missing("") if lower is None else figures.at_least(lower),
            missing("") if radius is None else figures.factor(radius),
            words(why or "certified"),
        )
        rows.append(Row(cells))
    titles = ("Guaranteed agreement", "Labelled rows", "Accepted", "Errors", "Coverage at least", "Γ*")
    columns = (Column(certificate.group_by or ""), *numbers(*titles), Column("Result"))
    return Table("Guarantee per group", columns, tuple(rows), folded=len(rows) > FOLD_ROWS)


def _why_none(guarantee: GroupGuarantee) -> str:
    if guarantee.chosen is not None:
        return ""
    if not guarantee.tests:
        return "not tested: too few rows"
    return "no test passed" if guarantee.spent else "not tested: too few rows to pass any test"


def _chosen_tests_table(certified: Sequence[GroupGuarantee]) -> Table:
    rows = []
    for guarantee in certified:
        test = guarantee.tests[guarantee.chosen or 0]
        cells = (
            *(
                words(guarantee.value),
                figures.setting(guarantee.alpha),
                count(test.errors),
                count(test.accepted),
            ),
            *figures.compared(test.p_value, test.level),
            words("passed on" if guarantee.finished else "kept"),
        )
        rows.append(Row(cells))
    columns = (Column("Group"), *numbers("α", "Errors", "Accepted", "p", "Level"), Column("Share of δ"))
    return Table("The test behind each guarantee", columns, tuple(rows), folded=len(rows) > FOLD_ROWS)


def _thresholds_table(certificate: Certificate, certified: Sequence[GroupGuarantee]) -> Table:
    rows = []
    for guarantee in certified:
        test = guarantee.tests[guarantee.chosen or 0]
        for judge, tau, accepted in zip(certificate.judges, test.thresholds, test.by_tier, strict=True):
            cells = (words(guarantee.value), words(judge.judge), figures.exact(tau, NEVER), count(accepted))
            rows.append(Row(cells))
    columns = (Column("Group"), Column("Judge"), *numbers("Accepts from score", "Rows"))
    return Table("The chosen policies per tier", columns, tuple(rows), folded=True)


def _all_tests_table(certificate: Certificate) -> Table:
    rows = []
    for guarantee in certificate.groups:
        for place, test in enumerate(guarantee.tests):
            if test.level == 0:
                continue
            cells = (
                *(words(guarantee.value), count(place + 1), count(test.accepted), count(test.errors)),
                *figures.compared(test.p_value, test.level),
                outcome(test),
            )
            rows.append(Row(cells, "chosen" if place == guarantee.chosen else ""))
    titles = numbers("Policy", "Accepted", "Errors", "p", "Level")
    return Table("All tests", (Column("Group"), *titles, Column("Test")), tuple(rows), folded=True)


# ── the run ──────────────────────────────────────────────────────────────────────────────────────


def group_facts(certificate: Certificate, run: Run | None) -> tuple[GroupFacts, ...]:
    """Give each certified group's guarantee, and the measured agreement of fresh labels with it.

    The upper ends hold simultaneously for all groups with fresh labels (Bonferroni).
    """
    measured = _measured(certificate, run)
    compared = sum(limits is not None for _, limits in measured.values())
    facts = []
    for guarantee in certified_groups(certificate) if run is not None else ():
        nothing = missing("the run has no such item"), None
        agreement, limits = measured.get(guarantee.value, nothing)
        upper = missing(agreement.note)
        if limits is not None:
            note = f"upper end of a {INTERVAL}, simultaneous for {compared:,} groups"
            upper = figures.at_most(limits[1], note)
        facts.append(GroupFacts(guarantee.value, figures.complement(guarantee.alpha), agreement, upper))
    return tuple(facts)


def _measured(certificate: Certificate, run: Run | None) -> Mapping[str, tuple[Figure, Limits]]:
    """Measure the agreement of fresh labels with each certified group that the run has items of."""
    certified = certified_groups(certificate)
    if run is None or not certified:
        return {}
    parts = _by_group(run)
    present = [guarantee.value for guarantee in certified if guarantee.value in parts]
    compared = sum(judged_agreement(parts[value])[1] is not None for value in present)
    return {value: judged_agreement(parts[value], INTERVAL_DELTA / max(1, compared)) for value in present}


def _by_group(run: Run) -> Mapping[str | None, Run]:
    """Split a run by the groups that the certificate knows; None holds all other items."""
    certificate = run.header.certificate
    known = {guarantee.value for guarantee in certificate.groups}
    places: dict[str | None, array[int]] = {}
    for place, item in enumerate(run.items):
        value = value_of(item, certificate.group_by or "")
        places.setdefault(value if value in known else None, array("i")).append(place)
    return {value: take_rows(run, own) for value, own in places.items()}


def _run_table(run: Run) -> Table:
    by = run.header.certificate.group_by or ""
    rows = []
    for value, part in sorted(_by_group(run).items(), key=lambda pair: (pair[0] is None, pair[0] or "")):
        agreement, limits = judged_agreement(part)
        released = run_figures.released(part)
        cells = (
            words(f"no {by}, or an unknown one" if value is None else value),
            *(count(len(part.items)), count(released), share(released, len(part.items))),
            *(agreement, interval_figure(limits)),
        )
        rows.append(Row(cells))
    titles = numbers("Items", "Released", "Coverage", "Agreement with human labels", INTERVAL)
    return Table("This run per group", (Column(by), *titles), tuple(rows), folded=len(rows) > FOLD_ROWS)


# ── leave one group out ──────────────────────────────────────────────────────────────────────────


def left_out_section(certificate: Certificate) -> Section | None:
    """Report how a cascade performs on a held-out group: evidence, never a guarantee."""
    left_out = certificate.left_out
    if left_out is None:
        return None
    alpha, delta = figures.setting(certificate.alpha).text, figures.setting(certificate.delta).text
    text = (
        _left_out_lead(left_out, certificate.alpha),
        f"Each group by {left_out.by} was held out in turn: a cascade was certified on the rows of all other "
        f"groups, at α = {alpha}, and then evaluated on the rows of the held-out group. A failure means that "
        "the certificate should not be trusted on groups that it has not seen. A success guarantees nothing "
        "about the next new group. Limits are exact, two-sided, for each group separately, with a failure "
        f"probability of at most {delta} at both ends together.",
        *_others_text(left_out),
    )
    titles = numbers("Labelled rows", "Released", "Coverage", "Errors", "Selective risk")
    columns = (Column(f"Held-out group: {left_out.by}"), *titles, Column("Guarantee carries over"))
    rows = tuple(_unseen_row(each, certificate.alpha) for each in left_out.values)
    table = Table("Each held-out group, judged by a cascade certified on the others", columns, rows)
    bars = [
        share_bar(
            each.value,
            share(each.errors, each.accepted),
            each.risk,
            _CARRIED[carried_over(each, certificate.alpha)],
        )
        for each in left_out.values
        if each.accepted
    ]
    charts = interval_chart(
        "Selective risk on each held-out group, exact limits",
        bars,
        reference=certificate.alpha,
        reference_name="α",
    )
    return Section("leave-one-group-out-check", "Leave-one-group-out check", text, charts, (table,))


_CARRIED = {"yes": "carries over", "no": "fails", "too few rows to tell": "too few rows to tell"}


def _left_out_lead(left_out: LeftOut, alpha: float) -> str:
    """Count the groups by whether the guarantee of the others carries over to them."""
    results = {each.value: carried_over(each, alpha) for each in left_out.values}
    good, bad = ([name for name, result in results.items() if result == word] for word in ("yes", "no"))
    lead = (
        f"A guarantee from all other groups carries over to {len(good):,} of {len(results):,} held-out groups"
    )
    if bad:
        lead += f", and fails on {_listed(bad)}"
    unclear = len(results) - len(good) - len(bad)
    return f"{lead}{f'; {unclear:,} could not be measured well enough' if unclear else ''}."


def _others_text(left_out: LeftOut) -> tuple[str, ...]:
    if not left_out.others:
        return ()
    return (f"{left_out.others:,} rows of rare groups, or of none, were never held out.",)


def _unseen_row(each: Unseen, alpha: float) -> Row:
    nothing = missing("the others gave no certificate" if not each.certified else "nothing was released")
    cells = (
        words(each.value),
        count(each.rows),
        count(each.accepted) if each.certified else nothing,
        words(figures.interval(*each.coverage)) if each.certified else nothing,
        count(each.errors) if each.accepted else nothing,
        words(figures.interval(*each.risk)) if each.accepted else nothing,
        words(carried_over(each, alpha)),
    )
    return Row(cells)


def carried_over(each: Unseen, alpha: float) -> str:
    """State whether the risk on a held-out group was at most alpha, as far as its limits tell.

    >>> carried_over(Unseen("de", 90, True, 80, 30, (0.27, 0.49), (0.81, 0.95)), 0.15)
    'no'
    """
    if not each.certified:
        return "no guarantee: the others gave no certificate"
    if not each.accepted:
        return "nothing was released"
    if each.risk[0] > alpha:
        return "no"
    return "yes" if each.risk[1] <= alpha else "too few rows to tell"
