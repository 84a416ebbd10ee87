"""Report the certificate: its tests, every count needed to check them, and its terms."""

from collections.abc import Sequence
from dataclasses import replace

from trustescalate.records import Batch, Certificate, Item, PolicyTest
from trustescalate.report import figures
from trustescalate.report.bars import bar_chart
from trustescalate.report.certificate_figures import (
    NEVER,
    all_tests,
    compared_rows,
    count_cells,
    count_columns,
    covered_rows,
    human_reference,
    is_tierwise,
    outcome,
    predicted_coverage,
    thresholds,
    total_loss,
    used_tests,
)
from trustescalate.report.clusters import cluster_lines, spread
from trustescalate.report.figures import Figure, count, share, words
from trustescalate.report.pictures import Bar, Bars
from trustescalate.report.sections import Column, Row, Section, Table, numbers, pairs_table

_PREFER = {
    "coverage": "maximum coverage, less at most 2 % of the rows for a cheaper policy",
    "cost": "minimum cost",
    "total": "minimum cost with abstentions priced",
}
_CLUSTER_TERMS = {
    "one_per_cluster": "Clusters, one row of each tested",
    "row_weighted": "Clusters, one row of each, kept in proportion to the size",
    "betting": "Clusters, tested by betting",
}
_NO_MAJORITY = {
    "majority": "Certification rows without a majority, counted as disagreement",
    "annotator": "Certification rows without a majority, which does not matter here",
}
_TIED_OUT = "Rows outside the claim (more annotators call them a tie than prefer either response)"
_TIES = {
    "class": "a class of its own",
    "half": "one half right, where the other label is a preference",
    "drop": "dropped, outside the claim",
}


def certificate_section(certificate: Certificate, items: Sequence[Item] = ()) -> Section:
    """Report what is guaranteed, how it was tested, and every count; `items` are those of a run."""
    used = () if certificate.group_by is not None else used_tests(certificate)
    text = (
        " ".join(_check_line(certificate, test) for test in used) or _no_test_line(certificate),
        *guarantee_terms(certificate),
        *(_check_text(certificate, test) for test in used),
        *_radius_text(certificate),
        *_attempt_text(certificate),
        *cluster_lines(certificate, items),
        *_region_text(certificate),
    )
    tables = (_policy_table(certificate), _test_table(certificate)) if used else ()
    charts = _policy_chart(certificate) if used else ()
    terms = _terms(certificate, folded=not charts)
    return Section("certificate", "Certificate", text, charts, (*tables, terms))


def _no_test_line(certificate: Certificate) -> str:
    if certificate.group_by is not None and certificate.status == "certified":
        return "Each group has a test of its own: “Guarantees by group” has the counts to check it by hand."
    reason = certificate.reason.rstrip(".")
    return f"Nothing is certified. {reason[:1].upper()}{reason[1:]}."


def guarantee_terms(certificate: Certificate) -> tuple[str, ...]:
    """State what the guarantee rests on, and what it does not cover; nothing without a certificate."""
    if certificate.status != "certified":
        return ()
    rests = "; ".join(certificate.assumptions)
    delta = figures.setting(certificate.delta).text
    about = [
        "that any one verdict is right",
        "that the human labels are right",
    ]
    if certificate.group_by is None:
        about.append("agreement within a group of items, which may be lower")
    about.append(
        "items other than those of this batch"
        if certificate.batch is not None
        else "items from elsewhere, or judges, prompts or examples that changed"
    )
    about.append("anything about items that abstain")
    return (
        *([f"Assumptions: {rests}."] if rests else []),
        f"Not guaranteed: {'; '.join(about)}. The certificate is wrong for at most {delta} of all draws of "
        "the labelled rows.",
    )


def _policy_chart(certificate: Certificate) -> tuple[Bars, ...]:
    """Draw how many rows each judge accepts under the chosen policy, and how many no judge accepts."""
    by_tier = [sum(parts) for parts in zip(*(test.by_tier for test in used_tests(certificate)), strict=True)]
    whole, bars = covered_rows(certificate), []
    for accepted, (judge, threshold) in zip(by_tier, thresholds(certificate).items(), strict=True):
        start = NEVER if threshold is None else f"from score {threshold:.3f}"
        part = f"{accepted:,} ({share(accepted, whole).text})"
        bars.append(Bar(f"{judge}, {start}", (float(accepted),), (part,)))
    left = whole - sum(by_tier)
    bars.append(Bar("no judge: abstains", (float(left),), (f"{left:,} ({share(left, whole).text})",)))
    where = "certification rows" if certificate.batch is None else "items of the batch"
    return bar_chart(f"What the certified policy does with the {whole:,} {where}", bars)


def tested(certificate: Certificate) -> str:
    """Number the test of these labels that a certificate is from; empty where no ledger counts them."""
    attempt = certificate.attempt
    if attempt is None or certificate.claim == "expected":  # tests nothing and spends no delta
        return ""
    return f"test {attempt.number} of these labels"


# ── how to check it ──────────────────────────────────────────────────────────────────────────────


def _check_line(certificate: Certificate, test: PolicyTest) -> str:
    """Check a test in one line: counts, p-value, level."""
    p_value, level = figures.compared(test.p_value, test.level)
    alpha, rows = certificate.alpha, compared_rows(test)
    counts = f"{test.errors:,} errors on {rows:,} accepted rows at α = {figures.setting(alpha).text}"
    if certificate.batch is not None:
        from trustescalate.stats.batch import errors_allowed

        marked = int(errors_allowed(test.accepted, alpha)) + 1
        marked += test.errors if certificate.batch.release_human_labels else 0
        counts = f"{test.errors:,} errors on {rows:,} labelled of {test.accepted:,} accepted items"
        p_value_text = f"HypergeomCDF({test.errors}; {test.accepted}, {marked}, {rows}) = {p_value.text}"
    elif certificate.method == "exact":
        p_value_text = f"BinomCDF({test.errors}; {test.accepted}, {alpha!r}) = {p_value.text}"
    else:
        counts = f"a total loss of {total_loss(test):g} on {rows:,} accepted rows at α = {alpha:g}"
        p_value_text = f"the betting test's p-value, from the recorded votes and labels, is {p_value.text}"
    tier = f"Tier {certificate.tests.index(test) + 1}: " if is_tierwise(certificate) else "To check by hand: "
    return f"{tier}{counts}; {p_value_text} ≤ {level.text}, the level of its test."


def _check_text(certificate: Certificate, test: PolicyTest) -> str:
    p_value, level = figures.compared(test.p_value, test.level)
    if certificate.batch is not None:
        return _batch_check_text(certificate, certificate.batch, test)
    if certificate.method != "exact":
        return _betting_check_text(certificate, test)
    policy = "the chosen policy"
    if is_tierwise(certificate):
        policy = f"tier {certificate.tests.index(test) + 1}, on the rows that earlier tiers left over,"
    return (
        f"To check it by hand: {policy} accepted {test.accepted} of {certificate.n} certification rows and "
        f"disagreed with the human labels on {test.errors}. Its p-value is the probability of at most "
        f"{test.errors} errors in {test.accepted} at an error rate of {certificate.alpha!r}, "
        f"BinomCDF({test.errors}; {test.accepted}, {certificate.alpha!r}) = {p_value.text}; "
        f"it was tested at level {level.text}."
    )


def _betting_check_text(certificate: Certificate, test: PolicyTest) -> str:
    p_value, level = figures.compared(test.p_value, test.level)
    result, unit = f"has a total loss of {total_loss(test):g} on them", "row"
    if certificate.method == "clusters" and certificate.clusters is not None:
        unit = "cluster"
        result = f"disagreed with the human labels on {test.errors}, in {certificate.clusters.count} clusters"
    return (
        f"To check it: the chosen policy accepted {test.accepted} of {certificate.n} certification rows and "
        f"{result}. Its p-value {p_value.text} is that of a betting test, {unit} by {unit} in an order given "
        f"by the seed, against a risk of {certificate.alpha!r} (`stats.betting`). The check needs the "
        f"recorded votes and the labels; these counts are not sufficient. It was tested at level "
        f"{level.text}. There is no robustness radius and there are no simultaneous limits: both are derived "
        "from binomial counts, which these are not."
    )


def _batch_check_text(certificate: Certificate, batch: Batch, test: PolicyTest) -> str:
    from trustescalate.stats.batch import errors_allowed

    p_value, level = figures.compared(test.p_value, test.level)
    rows, allowed = compared_rows(test), int(errors_allowed(test.accepted, certificate.alpha))
    marked, replaced = allowed + 1, ""
    if batch.release_human_labels:
        marked += test.errors
        replaced = f", besides the {test.errors} among the drawn rows, which human labels replace"
    return (
        f"To check it by hand: the chosen policy accepted {test.accepted} of the {batch.items} items of the "
        f"batch, among them {rows} of the {certificate.n} rows drawn for labelling, and disagreed with the "
        f"human labels on {test.errors} of these. At an error rate of {certificate.alpha!r} it may be wrong "
        f"on {allowed} of {test.accepted}{replaced}. Its p-value is the probability of at most {test.errors} "
        f"errors among {rows} rows drawn from {test.accepted} without replacement, if {marked} were wrong, "
        f"HypergeomCDF({test.errors}; {test.accepted}, {marked}, {rows}) = {p_value.text}; it was tested at "
        f"level {level.text}."
    )


def _attempt_text(certificate: Certificate) -> tuple[str, ...]:
    interim, attempt = certificate.interim, certificate.attempt
    delta = figures.setting(certificate.delta).text
    if interim is not None:
        sizes = ", ".join(f"{size:,}" for size in interim.sizes)
        return (
            f"This is interim analysis {interim.number} of {len(interim.sizes)}, planned at {sizes} rows. "
            f"It may spend {figures.setting(interim.share).text} of δ, so that all analyses together give a "
            f"wrong certificate with probability at most {delta}.",
        )
    if attempt is None or not tested(certificate):
        return ()
    spent = "all" if attempt.share == 1 else figures.setting(attempt.share).text
    return (
        f"This is {tested(certificate)}. It may spend {spent} of δ: all tests of a label, past and future, "
        f"give a wrong certificate with probability at most {delta} together.",
    )


def _region_text(certificate: Certificate) -> tuple[str, ...]:
    region = certificate.region
    if region is None:
        return ()
    others = f", and {region.uniform:,} from all items" if region.uniform else ""
    rest = "the rows drawn from all items" if region.uniform else "no row: none was drawn from all items"
    return (
        f"{region.rows:,} certification rows were drawn from the items that some tested policy "
        f"accepts{others}; rows outside that region do not count in these tests. The policies, of expected "
        f"coverage at most {figures.setting(region.most).text}, were fixed before these rows were labelled. "
        f"Coverage and cost are counted on {region.judged:,} unlabelled items drawn from all items, "
        f"{region.inside:,} of which lie in the region; the lower bound on coverage holds for all tested "
        f"policies simultaneously. Figures about all items, and about each judge, are counted on {rest}.",
    )


def _radius_text(certificate: Certificate) -> tuple[str, ...]:
    if certificate.radius is None:
        return ()
    shown, alpha = figures.factor(certificate.radius).text, figures.setting(certificate.alpha).text
    return (
        f"Robustness radius Γ* = {shown}: if no type of released item becomes more than {shown} times as "
        f"common, or as rare, as among the labelled rows, disagreement stays at most {alpha}. A radius of "
        "1.00 allows no distribution shift. It rests on the upper limit on the risk at the level of the "
        "test, which does not account for the choice among policies that passed: it is a guide, not part "
        "of the guarantee.",
    )


# ── tables ───────────────────────────────────────────────────────────────────────────────────────


def _policy_table(certificate: Certificate) -> Table:
    rows = []
    by_tier = [sum(parts) for parts in zip(*(test.by_tier for test in used_tests(certificate)), strict=True)]
    for tier, (judge, threshold) in enumerate(thresholds(certificate).items()):
        readable = words(NEVER) if threshold is None else figures.decimal(threshold, "", places=4)
        cells = (count(tier + 1), words(judge), readable, figures.exact(threshold, NEVER))
        rows.append(Row((*cells, count(by_tier[tier]), share(by_tier[tier], covered_rows(certificate)))))
    titles = numbers("Accepts from score", "Exact threshold", "Rows accepted", "Share of rows")
    where = "certification rows" if certificate.batch is None else "whole batch"
    columns = (Column("Tier"), Column("Judge"), *titles)
    return Table(f"The chosen policy per tier, on the {where}", columns, tuple(rows))


def _test_table(certificate: Certificate) -> Table:
    columns = (Column("Tested"), *count_columns(certificate), Column("Test"))
    rows = []
    for test in used_tests(certificate):
        tier = certificate.tests.index(test) + 1
        name = f"tier {tier}" if is_tierwise(certificate) else "the whole cascade"
        compared = figures.compared(test.p_value, test.level)
        rows.append(Row((words(name), *count_cells(certificate, test), *compared, outcome(test))))
    return Table("The tests that the guarantee rests on", columns, tuple(rows))


def _terms(certificate: Certificate, *, folded: bool) -> Table:
    task, roles = certificate.task, certificate.roles
    tests = all_tests(certificate)
    groups = [
        ("A guarantee for each group by", words(certificate.group_by or "")),
        ("Groups seen", count(len(certificate.groups))),
        ("Groups certified", count(len(used_tests(certificate)))),
    ]
    terms = [
        ("Question", words(task.question)),
        ("α, the risk level (tolerated share of disagreement)", figures.setting(certificate.alpha)),
        ("δ, the failure probability", figures.setting(certificate.delta)),
        ("Claim", words(certificate.claim)),
        ("Agreement with", words(human_reference(certificate))),
        ("n, certification rows", count(certificate.n)),
        *_batch_terms(certificate),
        *_row_terms(certificate),
        (_NO_MAJORITY[certificate.label_policy], count(certificate.no_majority)),
        *_answer_terms(certificate),
        ("Expected coverage, lower bound", predicted_coverage(certificate)),
        *(groups if certificate.group_by is not None else ()),
        ("Policies tested", count(len(tests))),
        ("Policies that passed their test", count(sum(test.rejected for test in tests))),
        ("Path", words(certificate.path)),
        ("Procedure", words(certificate.procedure)),
        ("Chosen for", words(_PREFER.get(certificate.prefer, certificate.prefer))),
        ("Score", words(certificate.estimator)),
        ("Labels", words(", ".join(task.labels))),
        ("Ties", words(_TIES[task.ties])),
        *([("Ratings agree up to a distance of", count(task.tolerance))] if task.tolerance else []),
        *((f"Rows in the role “{role}”", count(len(ids))) for role, ids in sorted(roles.items())),
    ]
    return replace(pairs_table("Terms of the certificate", ("Term", "Value"), terms), folded=folded)


def _batch_terms(certificate: Certificate) -> list[tuple[str, Figure]]:
    batch = certificate.batch
    if batch is None:
        return []
    terms = [
        ("N, items of the batch", count(batch.items)),
        ("Digest of the batch", words(batch.digest)),
        ("Digest of the votes on it", words(batch.votes)),
    ]
    return [
        *terms,
        *([("Labelled rows are released with", words("human labels"))] * batch.release_human_labels),
    ]


def _row_terms(certificate: Certificate) -> list[tuple[str, Figure]]:
    """State how the certification rows were selected, where they are not simply all, one per cluster."""
    terms, clusters, weights = list[tuple[str, Figure]](), certificate.clusters, certificate.weighting
    region, interim, attempt = certificate.region, certificate.interim, certificate.attempt
    if clusters is not None:
        terms.append((_CLUSTER_TERMS[clusters.test], count(clusters.count)))
        terms.append(("Labelled rows in these clusters", count(clusters.rows)))
        terms.append(("Size of a cluster", words(spread(clusters.sizes, "row"))))
        if clusters.largest is not None:
            terms.append(("Largest possible cluster, in rows", count(clusters.largest)))
    if weights is not None:
        terms.append(
            (f"Labelled rows before the selection by weights ({weights.source})", count(weights.offered))
        )
        terms.append((f"Upper bound on the weights {weights.by}", figures.exact(weights.bound, "")))
    if region is not None:
        terms.append(
            ("Certification rows drawn from the region that the tested policies accept", count(region.rows))
        )
        terms.append(
            ("Upper bound on the expected coverage of the tested policies", figures.setting(region.most))
        )
        terms.append(("Share of unlabelled items in the region", share(region.inside, region.judged)))
    if interim is not None:
        terms.append(("Interim analysis", words(f"{interim.number} of {len(interim.sizes)}")))
        terms.append(("Share of δ for this analysis", figures.setting(interim.share)))
    elif attempt is not None:
        terms.append(("Test of these labels", count(attempt.number)))
        terms.append(("Share of δ for this test", figures.setting(attempt.share)))
    return terms


def _answer_terms(certificate: Certificate) -> list[tuple[str, Figure]]:
    """Count rows that every annotator skipped, and dropped ties."""
    task = certificate.task
    terms = [("Rows outside the claim (skipped by every annotator)", count(certificate.skipped))]
    if task.skips == "disagree":
        name = "Certification rows skipped by every annotator, counted as disagreement"
        terms = [(name, count(certificate.skipped))]
    if task.ties == "drop":
        in_batch = "Certification rows called a tie, counted as disagreement"
        terms.append((_TIED_OUT if certificate.batch is None else in_batch, count(certificate.dropped_ties)))
        name = "Certification rows called a tie by some annotators, who are left out"
        terms.append((name, count(certificate.contested_ties)))
    return terms
