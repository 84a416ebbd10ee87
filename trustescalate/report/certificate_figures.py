"""Take the figures of a certificate: its tests, coverage, agreement and cost."""

from dataclasses import replace

from trustescalate.calibration.losses import whom
from trustescalate.calibration.run_errors import NO_POLICY
from trustescalate.calibration.uncertified import rests_on_tests
from trustescalate.records import Certificate, PolicyTest
from trustescalate.records.policies import largest_alpha
from trustescalate.report import figures
from trustescalate.report.figures import Figure, count, missing, share, words
from trustescalate.report.sections import Column, numbers

INTERVAL_DELTA = 0.05
"""The failure probability of an interval printed next to a measured share."""
INTERVAL = "95 % interval"
NEVER = "never accepts"
CHOSEN = "the policy was chosen on these rows: no interval"


def human_reference(certificate: Certificate) -> str:
    """Name the human labels that released verdicts are compared with."""
    return whom(certificate.task, certificate.label_policy)


def population(certificate: Certificate) -> str:
    """Name the items that the guarantee is about: a batch or a population, never the items of one run."""
    if certificate.batch is not None:
        return "the items of the batch"
    if certificate.weighting is not None:
        return f"items as the weights {certificate.weighting.by} describe them"
    return "items from the same population"


def used_tests(certificate: Certificate) -> tuple[PolicyTest, ...]:
    """Return the tests that the guarantee rests on, which use disjoint rows.

    One for the chosen policy; on a tierwise path one for each tier that passed; with group guarantees one for
    each certified group.
    """
    if certificate.group_by is not None:
        return tuple(one.tests[one.chosen] for one in certificate.groups if one.chosen is not None)
    if certificate.chosen is None:
        return ()
    if is_tierwise(certificate):
        return tuple(test for test in certificate.tests if test.rejected)
    return (certificate.tests[certificate.chosen],)


def why_none(certificate: Certificate) -> str:
    """State why there is no chosen policy, and so no figure that rests on one."""
    tested = certificate.claim != "expected" and rests_on_tests(certificate)
    return NO_POLICY if tested else certificate.reason


def all_tests(certificate: Certificate) -> tuple[PolicyTest, ...]:
    """Return every test of every group."""
    return (*certificate.tests, *(test for one in certificate.groups for test in one.tests))


def is_tierwise(certificate: Certificate) -> bool:
    """Whether each tier was tested separately."""
    return certificate.path == "tierwise"


def accepted_rows(certificate: Certificate) -> tuple[int, float]:
    """Count the labelled rows that the certified cascade accepted, and sum their losses."""
    tests = used_tests(certificate)
    return sum(map(compared_rows, tests)), sum(map(total_loss, tests))


def total_loss(test: PolicyTest) -> float:
    """Sum the losses on a test's accepted rows: the number of errors, or a sum of shares."""
    return test.errors if test.loss is None else test.loss


def compared_rows(test: PolicyTest) -> int:
    """Count the accepted rows with human labels: all of them, except in a batch."""
    return test.accepted if test.drawn is None else test.drawn


def covered_rows(certificate: Certificate) -> int:
    """Count the rows that coverage is a share of: the certification rows, or the whole batch."""
    return certificate.n if certificate.batch is None else certificate.batch.items


def policy_coverage(certificate: Certificate, test: PolicyTest) -> Figure:
    """Give the share of items that a policy accepts; of unlabelled items where rows come from a region."""
    if test.seen is not None and certificate.region is not None:
        return share(test.seen, certificate.region.judged)
    return share(test.accepted, covered_rows(certificate))


def thresholds(certificate: Certificate) -> dict[str, float | None]:
    """Map each judge to its certified threshold; None where it never accepts, or nothing is certified."""
    names = [binding.judge for binding in certificate.judges]
    return dict(zip(names, certificate.thresholds or [None] * len(names), strict=True))


def observed_agreement(certificate: Certificate) -> Figure:
    """Give the chosen policy's agreement with human labels on the certification rows.

    Without an interval: these rows chose the policy, so an interval would miss more often than it states.
    """
    if not used_tests(certificate):
        return missing(why_none(certificate))
    accepted, errors = accepted_rows(certificate)
    if accepted == 0:
        return missing("the policy accepted no row")
    agreed = accepted - (float(errors) if certificate.method == "betting" else int(errors))
    return replace(share(agreed, accepted), note=CHOSEN)


def interval_figure(limits: tuple[float, float] | None) -> Figure:
    """Print an interval, or a dash; the share next to it has the reason."""
    return missing("") if limits is None else words(figures.interval(*limits))


def count_columns(certificate: Certificate) -> tuple[Column, ...]:
    """Name the columns of `count_cells`, and those of the p-value and its level."""
    labelled = () if certificate.batch is None else ("… of these labelled",)
    lost = ("Total loss", "Mean loss") if certificate.method == "betting" else ("Errors", "Selective risk")
    return numbers("Accepted", "Coverage", *labelled, *lost, "p", "Level")


def count_cells(certificate: Certificate, test: PolicyTest) -> tuple[Figure, ...]:
    """Give a test's counts: accepted rows, coverage, labelled rows of a batch, errors, selective risk."""
    return (
        count(test.accepted),
        policy_coverage(certificate, test),
        *(() if certificate.batch is None else (count(compared_rows(test)),)),
        count(test.errors) if test.loss is None else figures.decimal(test.loss, ""),
        share(total_loss(test), compared_rows(test), "the policy accepted no row"),
    )


def outcome(test: PolicyTest) -> Figure:
    """State whether a test was passed."""
    return words("passed" if test.rejected else "not passed")


def certified_agreement(certificate: Certificate) -> Figure:
    """Give the lower bound on agreement that is certified; missing where nothing is."""
    if certificate.status != "certified":
        return missing(why_none(certificate))
    figure = figures.complement(largest_alpha(certificate))
    return replace(figure, note=f"over {population(certificate)}")


def predicted_coverage(certificate: Certificate) -> Figure:
    """Give the certificate's lower bound on coverage; for a batch, the coverage itself."""
    lower = certificate.coverage_lower
    return missing(why_none(certificate)) if lower is None else figures.at_least(lower)


def expected_cost_share(certificate: Certificate) -> Figure:
    """Give the chosen policy's cost per certification row as a share of the last judge's."""
    expected = certificate.status == "expected"
    if not (expected or used_tests(certificate)):
        return missing(NO_POLICY)
    last, cost = (
        certificate.diagnostics[-1].cost if certificate.diagnostics else 0.0,
        expected_cost(certificate),
    )
    if not last or cost is None:
        return missing("the last judge has no recorded cost")
    return figures.ratio(cost, last)


def expected_cost(certificate: Certificate) -> float | None:
    """Give the chosen policy's cost in USD per certification row; None without one."""
    if certificate.status == "expected":  # every judge judges every item
        return sum(judge.cost for judge in certificate.diagnostics)
    if certificate.chosen is not None:
        return certificate.tests[certificate.chosen].cost
    # rows of a group without a certificate cost nothing: no judge is called
    paid = [one.n * one.tests[one.chosen].cost for one in certificate.groups if one.chosen is not None]
    return sum(paid) / certificate.n if paid else None
