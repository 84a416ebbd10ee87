"""What the certificate says: sections of facts that need no run."""

from collections.abc import Sequence
from dataclasses import replace

from trustescalate.calibration.losses import rule
from trustescalate.records import Batch, Certificate, HumanAgreement, Item, PolicyTest
from trustescalate.records.policies import largest_alpha
from trustescalate.report import figures
from trustescalate.report.clusters import cluster_lines, spread
from trustescalate.report.figures import Figure, count, missing, share, words
from trustescalate.report.sections import Column, Point, RiskCoverage, Row, Section, Table

DELTA = 0.05
"""Intervals printed beside a measured share miss it with probability at most this."""
INTERVAL = "95 % interval"
NO_POLICY = "no policy passed its test"
NEVER = "never accepts"
CHOSEN = "the policy was chosen on these rows: no interval"
_PEOPLE = {"majority": "the majority of people", "annotator": "an annotator drawn at random"}
_PREFER = {
    "coverage": "the most coverage, less at most 2 % of the rows for a cheaper policy",
    "cost": "the least cost",
    "total": "the least cost with abstentions priced",
}
_A_CASCADE = "a whole cascade, from the strictest thresholds on the left to the laxest on the right"
_ONE_ANNOTATOR = "one annotator per row: human agreement cannot be measured"


def whom(certificate: Certificate) -> str:
    """Name whom the released verdicts agree with."""
    return _PEOPLE[certificate.label_policy] + rule(certificate.task)


def population(certificate: Certificate) -> str:
    """Name the items that the guarantee is about: a batch, or those of a population, never those of one run."""
    if certificate.batch is not None:
        return "the items of the batch"
    if certificate.weighting is not None:
        return f"items as the weights {certificate.weighting.by} describe them"
    return "items from the same population"


def used_tests(certificate: Certificate) -> tuple[PolicyTest, ...]:
    """Return the tests that the guarantee rests on.

    One, that of the chosen policy; on a tierwise path one a tier that passed, and where each value of a field
    has a guarantee of its own one for each that is certified, each on rows of its own.
    """
    if certificate.group_by is not None:
        return tuple(one.tests[one.chosen] for one in certificate.groups if one.chosen is not None)
    if certificate.chosen is None:
        return ()
    if is_tierwise(certificate):
        return tuple(test for test in certificate.tests if test.rejected)
    return (certificate.tests[certificate.chosen],)


def why_none(certificate: Certificate) -> str:
    """Say why there is no chosen policy, and so no figure that rests on one."""
    return certificate.reason if certificate.claim == "expected" else NO_POLICY


def all_tests(certificate: Certificate) -> tuple[PolicyTest, ...]:
    """Every test that was made, for whichever value."""
    return (*certificate.tests, *(test for one in certificate.groups for test in one.tests))


def is_tierwise(certificate: Certificate) -> bool:
    """Whether every tier was tested on its own."""
    return certificate.path == "tierwise"


def accepted_rows(certificate: Certificate) -> tuple[int, float]:
    """Count the certification rows that the certified cascade accepted, and what it lost on them."""
    tests = used_tests(certificate)
    return sum(map(compared_rows, tests)), sum(map(lost, tests))


def lost(test: PolicyTest) -> float:
    """What the accepted rows of a test lose: the number of errors, or a sum of shares."""
    return test.errors if test.loss is None else test.loss


def compared_rows(test: PolicyTest) -> int:
    """Count the accepted rows that people labelled: all, save in a batch."""
    return test.accepted if test.drawn is None else test.drawn


def covered_rows(certificate: Certificate) -> int:
    """Count the rows that coverage is a share of: the certification rows, or the whole batch."""
    return certificate.n if certificate.batch is None else certificate.batch.items


def coverage(certificate: Certificate, test: PolicyTest) -> Figure:
    """The share of items that a policy accepts: of unlabelled ones, where tested rows are of a region."""
    if test.seen is not None and certificate.region is not None:
        return share(test.seen, certificate.region.judged)
    return share(test.accepted, covered_rows(certificate))


def thresholds(certificate: Certificate) -> dict[str, float | None]:
    """Map each judge to its certified threshold; None where it never accepts, or nothing is certified."""
    names = [seal.judge for seal in certificate.judges]
    return dict(zip(names, certificate.thresholds or [None] * len(names), strict=True))


def observed_agreement(certificate: Certificate) -> Figure:
    """Count how far the chosen policy agreed with people on the certification rows.

    It has no interval: these rows chose the policy, and an interval that stands only where a test passed
    would miss far more often than it says.
    """
    if not used_tests(certificate):
        return missing(why_none(certificate))
    accepted, errors = accepted_rows(certificate)
    if accepted == 0:
        return missing("the policy accepted no row")
    agreed = accepted - (float(errors) if certificate.method == "betting" else int(errors))
    return replace(share(agreed, accepted), note=CHOSEN)


def agreement(
    losses: Sequence[float], clusters: Sequence[str], why: str, delta: float = DELTA
) -> tuple[Figure, tuple[float, float] | None]:
    """Give the agreement that losses in [0, 1] leave, a row each, with an interval that holds for them.

    `clusters` names what each row belongs to: rows of one name are clustered. Exact for right and wrong on
    rows that all stand alone, else `stats.intervals.mean_interval`; none where nothing was compared.
    """
    from trustescalate.calibration.population import agreement_limits

    if not losses:
        return missing(why), None
    whole = sum(losses)
    part = len(losses) - int(whole) if set(losses) <= {0, 1} else len(losses) - float(whole)
    return share(part, len(losses)), agreement_limits(losses, clusters, delta)


def last_judge(certificate: Certificate) -> tuple[Figure, tuple[float, float] | None]:
    """Give the agreement of the last judge alone with people, on every certification row.

    It was fixed before labels were read, so it stands on the page whatever came of the test.
    """
    if certificate.batch is not None or not certificate.diagnostics or not certificate.diagnostics[-1].n:
        return missing("the last judge was not asked about every row"), None
    last = certificate.diagnostics[-1]
    return share(last.agreements, last.n), last.interval


def leave_one_out(found: HumanAgreement | None) -> Figure:
    """Give the share of times that one annotator agrees with the majority of the others."""
    if found is None:
        return missing(_ONE_ANNOTATOR)
    return share(found.agreements, found.comparisons, "no row has a majority without that annotator")


def human_rows(certificate: Certificate, *, both: bool = False) -> list[tuple[str, Figure, Figure]]:
    """The lines on human agreement: leave-one-out, and the limit that no verdicts can pass, with intervals.

    The limit is that for whom this certificate is about, or `both`.
    """
    found = certificate.human_agreement
    around = interval_figure(None if found is None else found.interval)
    rows = [("Human leave-one-out: one person with the majority of the others", leave_one_out(found), around)]
    if found is None or not found.rows:
        return rows
    if both or certificate.label_policy == "majority":
        limits = interval_figure(found.decidable_interval)
        rows.append(("Upper limit: rows that have a majority", share(found.decidable, found.rows), limits))
    if both or certificate.label_policy == "annotator":
        limits, mean = interval_figure(found.largest_share_interval), found.largest_share * found.rows
        name = "Upper limit: the largest share of a row's annotators that one verdict agrees with, on average"
        rows.append((name, share(min(mean, found.rows), found.rows), limits))
    return rows


def interval_figure(limits: tuple[float, float] | None) -> Figure:
    """Print an interval, or that there is none; the share beside it says why."""
    return missing("") if limits is None else words(figures.interval(*limits))


# ── the certificate ──────────────────────────────────────────────────────────────────────────────


def certificate_section(certificate: Certificate, items: Sequence[Item] = ()) -> Section:
    """What was guaranteed, how it was tested, every count needed to check it; `items` are those of a run."""
    used = () if certificate.group_by is not None else used_tests(certificate)
    text = (
        *(_check_line(certificate, test) for test in used),
        *_radius_line(certificate),
        *_share_line(certificate),
        *cluster_lines(certificate, items),
        *_region_line(certificate),
    )
    tables = (_policy_table(certificate), _test_table(certificate)) if used else ()
    return Section("certificate", "The certificate", text, tables=(*tables, _terms(certificate)))


def _check_line(certificate: Certificate, test: PolicyTest) -> str:
    p_value, level = figures.compared(test.p_value, test.level)
    if certificate.batch is not None:
        return _batch_check_line(certificate, certificate.batch, test)
    if certificate.method != "exact":
        return _bet_line(certificate, test)
    return (
        f"To check it by hand: {_tested(certificate, test)} accepted {test.accepted} of {certificate.n} "
        f"certification rows and disagreed with people on {test.errors}. Its p-value is the probability of "
        f"at most {test.errors} errors in {test.accepted} at an error rate of {certificate.alpha!r}, "
        f"BinomCDF({test.errors}; {test.accepted}, {certificate.alpha!r}) = {p_value.text}; "
        f"it was tested at level {level.text}."
    )


def _bet_line(certificate: Certificate, test: PolicyTest) -> str:
    p_value, level = figures.compared(test.p_value, test.level)
    terms, unit = f"lost {lost(test):g} on them", "row"
    if certificate.method == "clusters" and certificate.clusters is not None:
        unit = "cluster"
        terms = f"disagreed with people on {test.errors}, in {certificate.clusters.count} clusters"
    return (
        f"To check it: the chosen policy accepted {test.accepted} of {certificate.n} certification rows and "
        f"{terms}. Its p-value {p_value.text} is that of a bet on {unit} after {unit}, in an order that the "
        f"seed gives, against a risk of {certificate.alpha!r} (`stats.betting`): it needs the recorded "
        f"votes and the labels, these counts are not enough. It was tested at level {level.text}. No "
        "robustness radius and no limits for several policies at once are given: both are read off "
        "binomial counts, which these are not."
    )


def tested(certificate: Certificate) -> str:
    """Say which test of its labels a certificate is from; nothing where no ledger counts them."""
    attempt = certificate.attempt
    if attempt is None or certificate.claim == "expected":  # which tests nothing, and spends no delta
        return ""
    return f"test {attempt.number} of these labels"


def _share_line(certificate: Certificate) -> tuple[str, ...]:
    look, attempt = certificate.interim, certificate.attempt
    if look is None:
        if attempt is None or not tested(certificate):
            return ()
        share = "all" if attempt.share == 1 else figures.setting(attempt.share).text
        return (
            f"This is {tested(certificate)}. It may spend {share} of δ: all tests of a label, those made "
            "before and those to come, give a wrong certificate with probability at most "
            f"{figures.setting(certificate.delta).text} together.",
        )
    sizes = ", ".join(f"{size:,}" for size in look.sizes)
    return (
        f"This is look {look.number} of {len(look.sizes)}, planned at {sizes} rows. It may spend "
        f"{figures.setting(look.share).text} of δ, so that all looks together are wrong with probability at "
        f"most {figures.setting(certificate.delta).text}.",
    )


def _region_line(certificate: Certificate) -> tuple[str, ...]:
    region = certificate.region
    if region is None:
        return ()
    others = f", and {region.uniform:,} from all items" if region.uniform else ""
    text = (
        f"{region.rows:,} certification rows were drawn from the items that some tested policy "
        f"accepts{others}: rows elsewhere count for nothing in these tests. The policies, of expected "
        f"coverage at most {figures.setting(region.most).text}, were fixed before these rows were labelled. "
        f"Coverage and cost are counted on {region.judged:,} items that were drawn from all without labels, "
        f"{region.inside:,} of which the region holds; the lower bound on coverage holds for every tested "
        "policy at once. What is said of all items, and of each judge, is counted on "
    )
    return (
        text + ("the rows drawn from all items." if region.uniform else "no row: none was drawn from all."),
    )


def _batch_check_line(certificate: Certificate, batch: Batch, test: PolicyTest) -> str:
    from trustescalate.stats.batch import errors_allowed

    p_value, level = figures.compared(test.p_value, test.level)
    rows, allowed = compared_rows(test), int(errors_allowed(test.accepted, certificate.alpha))
    marked, why = allowed + 1, ""
    if batch.release_human_labels:
        marked += test.errors
        why = f", besides the {test.errors} among the drawn, which people's labels replace"
    return (
        f"To check it by hand: the chosen policy accepted {test.accepted} of the {batch.items} items of the "
        f"batch, among them {rows} of the {certificate.n} drawn for people to label, and disagreed with "
        f"people on {test.errors} of these. At an error rate of {certificate.alpha!r} it may be wrong on "
        f"{allowed} of {test.accepted}{why}. Its p-value is the probability of at most {test.errors} errors "
        f"among {rows} rows drawn from {test.accepted} without replacement, if {marked} were wrong, "
        f"HypergeomCDF({test.errors}; {test.accepted}, {marked}, {rows}) = {p_value.text}; it was tested at "
        f"level {level.text}."
    )


def _radius_line(certificate: Certificate) -> tuple[str, ...]:
    if certificate.radius is None:
        return ()
    shown, alpha = figures.factor(certificate.radius).text, figures.setting(certificate.alpha).text
    return (
        f"Robustness radius Γ* = {shown}: if no kind of released item becomes more than {shown} times as "
        f"common, or as rare, as it was among the labelled rows, disagreement stays at most {alpha}. At 1.00 "
        "there is no room for any change. It rests on the upper limit on the risk at the level of the test, "
        "which does not account for the choice among policies that passed: a guide, not part of the guarantee.",
    )


def _tested(certificate: Certificate, test: PolicyTest) -> str:
    if not is_tierwise(certificate):
        return "the chosen policy"
    return f"tier {certificate.tests.index(test) + 1}, on the rows that earlier tiers left over,"


def _policy_table(certificate: Certificate) -> Table:
    rows = []
    by_tier = [sum(parts) for parts in zip(*(test.by_tier for test in used_tests(certificate)), strict=True)]
    for tier, (judge, threshold) in enumerate(thresholds(certificate).items()):
        readable = words(NEVER) if threshold is None else figures.decimal(threshold, "", places=4)
        cells = (
            count(tier + 1),
            words(judge),
            readable,
            figures.exact(threshold, NEVER),
            count(by_tier[tier]),
            share(by_tier[tier], covered_rows(certificate)),
        )
        rows.append(Row(cells))
    columns = (
        Column("Tier"),
        Column("Judge"),
        Column("Accepts from score", True),
        Column("Exact threshold", True),
        Column("Rows accepted", True),
        Column("Share of rows", True),
    )
    where = "certification rows" if certificate.batch is None else "whole batch"
    return Table(f"The chosen policy, tier by tier, on the {where}", columns, tuple(rows))


def _test_table(certificate: Certificate) -> Table:
    columns = (Column("Tested"), *_count_columns(certificate), Column("Test"))
    rows = tuple(_test_cells(certificate, test) for test in used_tests(certificate))
    return Table("What the guarantee rests on", columns, rows)


def _test_cells(certificate: Certificate, test: PolicyTest) -> Row:
    p_value, level = figures.compared(test.p_value, test.level)
    tier = certificate.tests.index(test) + 1
    cells = (
        words(f"tier {tier}" if is_tierwise(certificate) else "the whole cascade"),
        *_count_cells(certificate, test),
        p_value,
        level,
        words("passed" if test.rejected else "not passed"),
    )
    return Row(cells)


def _count_columns(certificate: Certificate) -> tuple[Column, ...]:
    drawn = () if certificate.batch is None else ("… of these labelled",)
    counted = ("Lost", "Mean loss") if certificate.method == "betting" else ("Errors", "Error rate")
    titles = ("Accepted", "Coverage", *drawn, *counted, "p", "Level")
    return tuple(Column(title, True) for title in titles)


def _count_cells(certificate: Certificate, test: PolicyTest) -> tuple[Figure, ...]:
    return (
        count(test.accepted),
        coverage(certificate, test),
        *(() if certificate.batch is None else (count(compared_rows(test)),)),
        count(test.errors) if test.loss is None else figures.decimal(test.loss, ""),
        share(lost(test), compared_rows(test), "the policy accepted no row"),
    )


def predicted_coverage(certificate: Certificate) -> Figure:
    """Give the certificate's lower bound on coverage; of a batch it is known."""
    lower = certificate.coverage_lower
    return missing(why_none(certificate)) if lower is None else figures.at_least(lower)


def expected_cost_share(certificate: Certificate) -> Figure:
    """Give the chosen policy's cost per certification row as a share of the last judge's."""
    expected = certificate.status == "expected"
    if not (expected or used_tests(certificate)):
        return missing(NO_POLICY)
    last = certificate.diagnostics[-1].cost if certificate.diagnostics else 0.0
    if not last:
        return missing("the last judge has no recorded cost")
    if expected:  # all judges are asked about everything
        return figures.ratio(sum(judge.cost for judge in certificate.diagnostics), last)
    return figures.ratio(_cost_per_row(certificate), last)


def _cost_per_row(certificate: Certificate) -> float:
    """USD for a certification row; nobody is asked about the rows of a value without a guarantee."""
    if certificate.chosen is not None:
        return certificate.tests[certificate.chosen].cost
    paid = (one.n * one.tests[one.chosen].cost for one in certificate.groups if one.chosen is not None)
    return sum(paid) / certificate.n


def _batch_terms(certificate: Certificate) -> tuple[tuple[str, Figure], ...]:
    batch = certificate.batch
    return (
        ()
        if batch is None
        else (
            ("N, items of the batch", count(batch.items)),
            ("Digest of the batch", words(batch.digest)),
            ("Digest of the votes on it", words(batch.votes)),
            *(
                [("Labelled rows are released with", words("people's labels"))]
                if batch.release_human_labels
                else []
            ),
        )
    )


def _group_terms(certificate: Certificate) -> tuple[tuple[str, Figure], ...]:
    if certificate.group_by is None:
        return ()
    return (
        ("A guarantee of its own for each", words(certificate.group_by)),
        ("… values seen", count(len(certificate.groups))),
        ("… of these certified", count(len(used_tests(certificate)))),
    )


def _row_terms(certificate: Certificate) -> list[tuple[str, Figure]]:
    """How the certification rows came about, where they are not simply all, one of each group."""
    terms, clusters, weights = list[tuple[str, Figure]](), certificate.clusters, certificate.weighting
    if clusters is not None:
        terms.append((_CLUSTER_TERMS[clusters.test], count(clusters.count)))
        terms.append(("Labelled rows in these clusters", count(clusters.rows)))
        terms.append(("Size of a cluster", words(spread(clusters.sizes, "row"))))
        if clusters.largest is not None:
            terms.append(("The most rows that a cluster can have", count(clusters.largest)))
    if weights is not None:
        terms.append((f"… kept by their weights, {weights.source}, of", count(weights.offered)))
        terms.append((f"No weight {weights.by} is above", figures.exact(weights.bound, "")))
    if certificate.region is not None:
        region = certificate.region
        terms.append(("… drawn from the region that the tested policies accept", count(region.rows)))
        terms.append(("No tested policy has an expected coverage above", figures.setting(region.most)))
        terms.append(("Share of unlabelled items in the region", share(region.inside, region.judged)))
    if certificate.interim is not None:
        terms.append(("Look", words(f"{certificate.interim.number} of {len(certificate.interim.sizes)}")))
        terms.append(("… may spend, of δ", figures.setting(certificate.interim.share)))
    return terms


def _attempt_terms(certificate: Certificate) -> tuple[tuple[str, Figure], ...]:
    attempt = certificate.attempt
    if attempt is None or certificate.interim is not None:
        return ()
    return (
        ("Test of these labels", count(attempt.number)),
        ("… may spend, of δ", figures.setting(attempt.share)),
    )


_CLUSTER_TERMS = {
    "one_per_cluster": "… one of each cluster, of",
    "row_weighted": "… one of each cluster, kept in proportion to its size, of",
    "betting": "… in clusters, tested by betting",
}
_TORN = {
    "majority": "… of these without a majority, counted as disagreement",
    "annotator": "… of these without a majority, which does not matter here",
}
_TIED_OUT = "Rows outside the claim (more people call them a tie than prefer either response)"
_TIES = {
    "class": "a class of its own",
    "half": "one half right, where the other side has a preference",
    "drop": "dropped, outside the claim",
}


def _answer_terms(certificate: Certificate) -> list[tuple[str, Figure]]:
    """Rows that everybody skipped, and dropped ties."""
    task, inside = certificate.task, certificate.batch is not None
    terms = [("Rows outside the claim (skipped by everybody)", count(certificate.skipped))]
    if task.skips == "disagree":
        terms = [("… of these skipped by everybody, counted as disagreement", count(certificate.skipped))]
    if task.ties == "drop":
        where = "… of these called a tie, counted as disagreement" if inside else _TIED_OUT
        terms.append((where, count(certificate.dropped_ties)))
        terms.append(("… of these called a tie by some, who are left out", count(certificate.contested_ties)))
    return terms


def _terms(certificate: Certificate) -> Table:
    task, roles = certificate.task, certificate.roles
    terms = [
        ("Question", words(task.question)),
        ("α, the tolerated share of disagreement", figures.setting(certificate.alpha)),
        ("δ, the tolerated probability of being wrong", figures.setting(certificate.delta)),
        ("Claim", words(certificate.claim)),
        ("Agreement with", words(whom(certificate))),
        ("n, certification rows", count(certificate.n)),
        *_batch_terms(certificate),
        *_row_terms(certificate),
        (_TORN[certificate.label_policy], count(certificate.no_majority)),
        *_attempt_terms(certificate),
        *_answer_terms(certificate),
        ("Coverage to expect, lower bound", predicted_coverage(certificate)),
        *_group_terms(certificate),
        ("Policies tested", count(len(all_tests(certificate)))),
        ("… of these certified", count(sum(test.rejected for test in all_tests(certificate)))),
        ("Path", words(certificate.path)),
        ("Procedure", words(certificate.procedure)),
        ("Chosen for", words(_PREFER.get(certificate.prefer, certificate.prefer))),
        ("Score", words(certificate.estimator)),
        ("Answers", words(", ".join(task.labels))),
        ("Ties", words(_TIES[task.ties])),
        *([("Ratings agree up to a distance of", count(task.tolerance))] if task.tolerance else []),
        *((f"Rows in the role “{role}”", count(len(ids))) for role, ids in sorted(roles.items())),
    ]
    rows = tuple(Row((words(name), figure)) for name, figure in terms)
    return Table("The terms", (Column("Term"), Column("Value")), rows)


# ── agreement ────────────────────────────────────────────────────────────────────────────────────


def agreement_rows(certificate: Certificate) -> list[Row]:
    """The lines of the agreement table that need no run: guarantee, observed, and how people agree."""
    observed = observed_agreement(certificate)
    rows: list[Row] = []
    if certificate.status == "certified":
        rates = (largest_alpha(certificate), certificate.delta)
        guarantee, sure = (figures.complement(rate).text for rate in rates)
        name = (
            "Certified"
            if certificate.group_by is None
            else "Certified, over all: the least of its guarantees"
        )
        cells = (words(name), missing(""), words(f"≥ {guarantee}"), words(f"with probability ≥ {sure}"))
        rows.append(Row(cells))
    if certificate.status == "expected":
        limit = words(f"≥ {figures.complement(certificate.alpha).text}")
        rows.append(Row((words("In expectation"), missing(""), limit, words("a mean over runs"))))
    else:
        rows.append(agreement_row("Observed on accepted certification rows", observed, missing("")))
    alone, limits = last_judge(certificate)
    if limits is not None:
        name = "The last judge alone, on every certification row"
        rows.append(agreement_row(name, alone, interval_figure(limits)))
    return [*rows, *(agreement_row(*each) for each in human_rows(certificate))]


def agreement_row(name: str, figure: Figure, limits: Figure) -> Row:
    """One line of the agreement table: counts, share, interval."""
    counts = missing("") if figure.counts is None else words("{:,} of {:,}".format(*figure.counts))
    return Row((words(name), counts, figure, limits))


# ── risk and coverage ────────────────────────────────────────────────────────────────────────────


def risk_section(certificate: Certificate) -> Section | None:
    """Every policy that was tested: how much it accepts, and how often it is wrong."""
    if not certificate.tests:
        return None
    point = "one tier, on the rows that earlier tiers left over" if is_tierwise(certificate) else _A_CASCADE
    text = (
        f"Each point is {point}. A filled point passed its test. A hollow point did not, and is never used, "
        "wherever it lies.",
    )
    path = not is_tierwise(certificate)
    points = _points(certificate)
    limits = tuple(
        (seen.coverage, seen.risk, check.upper)
        for check in certificate.band
        if (seen := points[check.test]).risk is not None
    )
    chart = RiskCoverage(certificate.alpha, points, path, _risk_alt(certificate), limits)
    tables = (*([_band_table(certificate)] if certificate.band else []), _tests_table(certificate))
    return Section("risk", "Risk and coverage", (*text, *_band_text(certificate)), chart, tables=tables)


def _band_text(certificate: Certificate) -> tuple[str, ...]:
    if not certificate.band:
        return ()
    sure = figures.complement(certificate.delta).text
    return (
        f"The whiskers are upper limits on the true error rate of {len(certificate.band)} of these policies. "
        f"With probability at least {sure} all of them hold at once, so α may be chosen from them after "
        "looking. That has a price: a policy may have passed its test at the α fixed beforehand, and yet "
        "have a limit above it here. Between the whiskers nothing is said. Test and limits are two guarantees, "
        "each with its own δ.",
    )


def _band_table(certificate: Certificate) -> Table:
    rows = []
    for check in certificate.band:
        test = certificate.tests[check.test]
        cells = (
            count(check.test + 1),
            count(test.accepted),
            coverage(certificate, test),
            share(test.errors, test.accepted, "the policy accepted no row"),
            figures.at_most(check.upper),
        )
        rows.append(Row(cells, "chosen" if test in used_tests(certificate) else ""))
    titles = ("Accepted", "Coverage", "Error rate", "True error rate at most")
    columns = (Column("Policy"), *(Column(title, True) for title in titles))
    sure = figures.complement(certificate.delta).text
    return Table(f"Limits that all hold at once, with probability {sure}", columns, tuple(rows), folded=True)


def _points(certificate: Certificate) -> tuple[Point, ...]:
    return tuple(
        Point(
            coverage=seen[0] / seen[1] if (seen := coverage(certificate, test).counts) else 0.0,
            risk=lost(test) / rows if (rows := compared_rows(test)) else None,
            certified=test.rejected,
            chosen=test in used_tests(certificate),
            part=test.part,
        )
        for test in certificate.tests
    )


def _risk_alt(certificate: Certificate) -> str:
    passed = sum(test.rejected for test in certificate.tests)
    alpha = figures.setting(certificate.alpha).text
    tested = len(certificate.tests)
    head = f"Error rate against coverage for {tested} policies; {passed} passed at α = {alpha}."
    if certificate.band:
        head += f" Whiskers show upper limits for {len(certificate.band)} of them."
    if not used_tests(certificate):
        return f"{head} None was chosen."
    accepted, errors = accepted_rows(certificate)
    released = sum(test.accepted for test in used_tests(certificate))
    risk, covered = share(errors, accepted).text, share(released, covered_rows(certificate)).text
    if certificate.region is not None:
        covered = coverage(certificate, used_tests(certificate)[0]).text
    return f"{head} The chosen one: error rate {risk} at coverage {covered}."


def _tests_table(certificate: Certificate) -> Table:
    names = [f"Threshold of {seal.judge}" for seal in certificate.judges]
    columns = (
        Column("Tier" if is_tierwise(certificate) else "Policy"),
        *(
            Column(name, True)
            for name in (["Threshold of all"] if _has_one_threshold(certificate) else names)
        ),
        *_count_columns(certificate),
        Column("Test"),
    )
    rows = tuple(_test_row(certificate, index) for index in range(len(certificate.tests)))
    return Table("Everything tested, in the order of the tests", columns, rows, folded=True)


def _has_one_threshold(certificate: Certificate) -> bool:
    return all(len(set(test.thresholds)) == 1 for test in certificate.tests)


def _test_row(certificate: Certificate, index: int) -> Row:
    test = certificate.tests[index]
    taus = test.thresholds
    p_value, level = figures.compared(test.p_value, test.level)
    cells = (
        count(index + 1),
        *(
            figures.exact(threshold, NEVER)
            for threshold in (taus[:1] if _has_one_threshold(certificate) else taus)
        ),
        *_count_cells(certificate, test),
        p_value,
        level,
        words("passed" if test.rejected else "not passed"),
    )
    return Row(cells, "chosen" if test in used_tests(certificate) else "")
