"""Guarantees for each value of a field by itself, what the run did with each, and values that were left out."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from trustescalate.records import Certificate, GroupGuarantee, LeftOut, PolicyTest, Run, Unseen
from trustescalate.records.item_fields import value_of
from trustescalate.records.policies import certified_groups
from trustescalate.report import certificate_sections, figures, run_sections
from trustescalate.report.figures import Figure, count, missing, share, words
from trustescalate.report.sections import Column, GroupFacts, Row, Section, Table
from trustescalate.report.text import one_line

MANY = 12
"""A table with more rows than this is folded, and a sentence names no more values than half of it."""
LONGEST = 40

# ── the guarantees ─────────────────────────────────────────────────────────────────────────────────


def quoted(value: str) -> str:
    """A value within a sentence: on one line, of bounded length, and unable to end its quotation.

    >>> quoted("de\\n” hold. “")
    '“de⏎" hold. "”'
    """
    shown = one_line(value).replace("“", '"').replace("”", '"')
    return f"“{shown if len(shown) <= LONGEST else shown[:LONGEST] + '…'}”"


def guarantee_of(certificate: Certificate) -> str:
    """The claim: which share is guaranteed for which values, and how many have no guarantee."""
    certified = certified_groups(certificate)
    by_alpha: dict[float, list[str]] = {}
    for guarantee in sorted(certified, key=lambda one: one.alpha):
        by_alpha.setdefault(guarantee.alpha, []).append(guarantee.value)
    parts = [
        f"at least {figures.complement(alpha).text} for {_listed(values)}"
        for alpha, values in by_alpha.items()
    ]
    left = len(certificate.groups) - len(certified)
    others = (
        f"; {left:,} of {len(certificate.groups):,} values have no certificate, and abstain" if left else ""
    )
    return (
        f"With probability at least {figures.complement(certificate.delta).text} over the draw of the "
        f"{certificate.n:,} labelled rows, all of this holds at once, for the items of each "
        f"{certificate.group_by} by itself, among {certificate_sections.population(certificate)}: of the verdicts that this "
        f"cascade releases, {', '.join(parts)} agree with {certificate_sections.whom(certificate)}{others}"
    )


def _listed(values: Sequence[str]) -> str:
    shown = ", ".join(map(quoted, values[: MANY // 2]))
    more = len(values) - MANY // 2
    return f"{shown} and {more:,} more" if more > 0 else shown


def groups_section(certificate: Certificate, run: Run | None) -> Section | None:
    """What is guaranteed for each value, on which counts, and what is not certified."""
    if certificate.group_by is None:
        return None
    sure = figures.complement(certificate.delta).text
    text = [
        f"Each value of {certificate.group_by} was tested by itself, on its own rows. With probability at "
        f"least {sure} all guarantees below hold at once, however common each value is among the items.",
        "A value without a guarantee is not certified, and that says nothing of how good its verdicts are: its "
        f"items go to people, and no judge is asked. So do items without any {certificate.group_by}, or "
        "with one that the certificate does not know.",
        "To check a guarantee by hand: its p-value is the probability of at most so many errors among so many "
        "accepted rows at an error rate of α, BinomCDF(errors; accepted, α), and it is at most its level. "
        "δ is divided among the values with rows enough; one whose tests were all passed hands its part on.",
    ]
    tables = [_guarantees(certificate)]
    if run is not None:
        tables.append(_outcomes(run))
    certified = certified_groups(certificate)
    if certified:
        tables += [_tests(certified), _thresholds(certificate, certified)]
    tables.append(_everything(certificate))
    return Section(
        "groups", f"A guarantee for each {certificate.group_by}", tuple(text), tables=tuple(tables)
    )


def _used(guarantee: GroupGuarantee) -> PolicyTest | None:
    return None if guarantee.chosen is None else guarantee.tests[guarantee.chosen]


def _guarantees(certificate: Certificate) -> Table:
    rows = []
    for guarantee in certificate.groups:
        test, lower = _used(guarantee), guarantee.coverage_lower
        why = _why_not(guarantee)
        cells = (
            words(guarantee.value),
            missing(why) if test is None else words(f"≥ {figures.complement(guarantee.alpha).text}"),
            count(guarantee.n),
            missing("") if test is None else count(test.accepted),
            missing("") if test is None else count(test.errors),
            missing("") if lower is None else figures.at_least(lower),
            missing("") if guarantee.radius is None else figures.factor(guarantee.radius),
            words(why or "certified"),
        )
        rows.append(Row(cells))
    titles = ("Guaranteed agreement", "Labelled rows", "Accepted", "Wrong", "Coverage at least", "Γ*")
    columns = (
        Column(certificate.group_by or ""),
        *(Column(title, True) for title in titles),
        Column("Result"),
    )
    return Table("What is guaranteed, value by value", columns, tuple(rows), folded=len(rows) > MANY)


def _why_not(guarantee: GroupGuarantee) -> str:
    if guarantee.chosen is not None:
        return ""
    if not guarantee.tests:
        return "not tested: too few rows"
    return "no test passed" if guarantee.spent else "not tested: too few rows to pass any test"


def _tests(certified: Sequence[GroupGuarantee]) -> Table:
    rows = []
    for guarantee in certified:
        test = guarantee.tests[guarantee.chosen or 0]
        p_value, level = figures.compared(test.p_value, test.level)
        cells = (
            words(guarantee.value),
            figures.setting(guarantee.alpha),
            count(test.errors),
            count(test.accepted),
            p_value,
            level,
            words("handed on" if guarantee.finished else "kept"),
        )
        rows.append(Row(cells))
    titles = ("α", "Errors", "Accepted", "p", "Level")
    columns = (Column("Value"), *(Column(title, True) for title in titles), Column("Its part of δ"))
    return Table("What each guarantee rests on", columns, tuple(rows), folded=len(rows) > MANY)


def _thresholds(certificate: Certificate, certified: Sequence[GroupGuarantee]) -> Table:
    rows = []
    for guarantee in certified:
        test = guarantee.tests[guarantee.chosen or 0]
        for seal, tau, accepted in zip(certificate.judges, test.thresholds, test.by_tier, strict=True):
            exact = figures.exact(tau, certificate_sections.NEVER)
            rows.append(Row((words(guarantee.value), words(seal.judge), exact, count(accepted))))
    columns = (Column("Value"), Column("Judge"), Column("Accepts from score", True), Column("Rows", True))
    return Table("The chosen policies, tier by tier", columns, tuple(rows), folded=True)


def _everything(certificate: Certificate) -> Table:
    rows = []
    for guarantee in certificate.groups:
        for place, test in enumerate(guarantee.tests):
            if test.level == 0:
                continue
            p_value, level = figures.compared(test.p_value, test.level)
            cells = (
                words(guarantee.value),
                count(place + 1),
                count(test.accepted),
                count(test.errors),
                p_value,
                level,
                words("passed" if test.rejected else "not passed"),
            )
            rows.append(Row(cells, "chosen" if place == guarantee.chosen else ""))
    titles = ("Policy", "Accepted", "Errors", "p", "Level")
    columns = (Column("Value"), *(Column(title, True) for title in titles), Column("Test"))
    return Table("Every test that was made", columns, tuple(rows), folded=True)


# ── the run ──────────────────────────────────────────────────────────────────────────────────────


def group_facts(certificate: Certificate, run: Run | None) -> tuple[GroupFacts, ...]:
    """What a gate may compare, for each certified value: its guarantee, and fresh labels against it.

    The upper ends hold for all values with fresh labels at once (Bonferroni), since there may be many.
    """
    certified = certified_groups(certificate)
    if run is None or not certified:
        return ()
    parts = _by_value(run)
    here = [guarantee.value for guarantee in certified if guarantee.value in parts]
    looks = sum(run_sections.judged_agreement(parts[value])[1] is not None for value in here)
    measured = {
        value: run_sections.judged_agreement(parts[value], certificate_sections.DELTA / max(1, looks))
        for value in here
    }
    return tuple(
        GroupFacts(
            guarantee.value,
            figures.complement(guarantee.alpha),
            (found := measured.get(guarantee.value, (missing("the run has no such item"), None)))[0],
            _upper(*found, looks),
        )
        for guarantee in certified
    )


def _upper(figure: Figure, limits: tuple[float, float] | None, looks: int) -> Figure:
    if limits is None:
        return missing(figure.note)
    return figures.at_most(
        limits[1], f"upper end of a {certificate_sections.INTERVAL} for {looks:,} values at once"
    )


def _by_value(run: Run) -> Mapping[str | None, Run]:
    """The decisions on the items of each value that the certificate knows; of all others under None."""
    certificate = run.header.certificate
    known = {guarantee.value for guarantee in certificate.groups}
    members: dict[str | None, set[str]] = {}
    for item in run.items:
        value = value_of(item, certificate.group_by or "")
        members.setdefault(value if value in known else None, set()).add(item.id)
    return {
        value: replace(
            run,
            items=tuple(item for item in run.items if item.id in ids),
            decisions=tuple(row for row in run.decisions if row.item_id in ids),
        )
        for value, ids in members.items()
    }


def _outcomes(run: Run) -> Table:
    by = run.header.certificate.group_by or ""
    parts = sorted(_by_value(run).items(), key=lambda pair: (pair[0] is None, pair[0] or ""))
    rows = []
    for value, part in parts:
        figure, limits = run_sections.judged_agreement(part)
        cells = (
            words(f"no {by}, or an unknown one" if value is None else value),
            count(len(part.items)),
            count(run_sections.released(part)),
            share(run_sections.released(part), len(part.items)),
            figure,
            certificate_sections.interval_figure(limits),
        )
        rows.append(Row(cells))
    titles = ("Items", "Released", "Coverage", "Agreed with people", certificate_sections.INTERVAL)
    columns = (Column(by), *(Column(title, True) for title in titles))
    return Table("This run, value by value", columns, tuple(rows), folded=len(rows) > MANY)


# ── values that were left out ────────────────────────────────────────────────────────────────────


def left_out_section(certificate: Certificate) -> Section | None:
    """How a cascade fares on a value that it was not certified on: evidence, never a guarantee."""
    found = certificate.left_out
    if found is None:
        return None
    alpha = figures.setting(certificate.alpha).text
    text = (
        f"Each value of {found.by} was left out in turn: a cascade was certified on the rows of all others, "
        f"at α = {alpha}, and then held against the rows of this one. Where that goes wrong, the certificate "
        "should not be trusted with values that it has not seen. Where it goes well, nothing is guaranteed "
        f"about the next new value. Limits are exact, two-sided, each by itself, and miss with probability "
        f"at most {figures.setting(certificate.delta).text} at either end together.",
        *_others(found),
    )
    columns = (
        Column(f"Left out: {found.by}"),
        *(Column(title, True) for title in ("Labelled rows", "Released", "Coverage", "Wrong", "Error rate")),
        Column("Would the guarantee have carried over?"),
    )
    rows = tuple(_unseen_row(each, certificate.alpha) for each in found.values)
    table = Table("Each value, judged by a cascade that has not seen it", columns, rows)
    return Section("left-out", "What about values that it has not seen?", text, tables=(table,))


def _others(found: LeftOut) -> tuple[str, ...]:
    if not found.others:
        return ()
    return (f"{found.others:,} rows of rare values, or of none, were always among the others.",)


def _unseen_row(each: Unseen, alpha: float) -> Row:
    nothing = missing("the others gave no certificate" if not each.certified else "nothing was released")
    risk = words(figures.interval(*each.risk)) if each.accepted else nothing
    cells = (
        words(each.value),
        count(each.rows),
        count(each.accepted) if each.certified else nothing,
        words(figures.interval(*each.coverage)) if each.certified else nothing,
        count(each.errors) if each.accepted else nothing,
        risk,
        words(carried_over(each, alpha)),
    )
    return Row(cells)


def carried_over(each: Unseen, alpha: float) -> str:
    """Whether risk on the value left out was at most alpha, as far as its limits tell.

    >>> carried_over(Unseen("de", 90, True, 80, 30, (0.27, 0.49), (0.81, 0.95)), 0.15)
    'no'
    """
    if not each.certified:
        return "there was none: the others gave no certificate"
    if not each.accepted:
        return "nothing was released"
    if each.risk[0] > alpha:
        return "no"
    return "yes" if each.risk[1] <= alpha else "too few rows to tell"
