"""Count a run's decisions, votes and costs from its rows."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from trustescalate.config import ENDPOINTS
from trustescalate.records import Decision, Label, Run, Step
from trustescalate.records.columns import Place
from trustescalate.records.decisions import alike, placed_decisions
from trustescalate.records.failures import describe_kinds
from trustescalate.records.judge_counts import count_votes
from trustescalate.records.stored import judgments_of
from trustescalate.report import figures
from trustescalate.report.figures import Figure, missing, share
from trustescalate.stats.drift import excess_pvalue

OFTENER = 0.01
"""Level at which votes fail oftener than at calibration."""
NOTHING_DECIDED = "no item has been decided"


def is_complete(run: Run) -> bool:
    """Whether the run states that it is complete and every item was decided."""
    return run.header.status == "complete" and len(run.decisions) == run.header.items


def released(run: Run) -> int:
    """Count the verdicts of judges that the cascade released; released human labels do not count."""
    return sum(number for row, number in alike(run.decisions) if row.judge is not None)


def labelled(run: Run) -> int:
    """Count the items that were released with human labels."""
    rows = alike(run.decisions)
    return sum(number for row, number in rows if row.judge is None and row.label is not None)


def releases_nothing(run: Run) -> bool:
    """Whether a certified run decided items and released none."""
    certified = run.header.certificate.status != "none"
    return certified and bool(run.decisions) and all(row.label is None for row, _ in alike(run.decisions))


def abstained(run: Run) -> int:
    """Count the items that need human review."""
    return sum(number for row, number in alike(run.decisions) if row.label is None)


def coverage(run: Run) -> Figure:
    """Give the share of the run's items for which a verdict was released."""
    return share(released(run), run.header.items, "the run has no items")


def coverage_without_failures(run: Run) -> Figure:
    """Bound the coverage that the run would have had without failed votes.

    As if every item with a failed vote on its way to a person had been released. The note counts the failed
    votes of these items by kind.
    """
    lost = _lost(run)
    bound = share(released(run) + lost, run.header.items, "the run has no items")
    if not lost:
        return bound
    judged, failures = judgments_of(run), Counter[str]()
    for place, decision in placed_decisions(run):
        if _is_lost(decision):
            votes = (vote for judgment in judged(place) for vote in judgment.votes)
            failures.update(vote.failure for vote in votes if vote.failure is not None)
    note = f"{lost:,} items went to people with failed votes: {describe_kinds(failures.elements())}"
    return replace(bound, note=note)


def _lost(run: Run) -> int:
    """Count the items that went to people with failed votes."""
    return sum(number for row, number in alike(run.decisions) if _is_lost(row))


def _is_lost(decision: Decision) -> bool:
    return decision.label is None and any(step.failures for step in decision.trail)


def abstention(run: Run) -> Figure:
    """Give the share of the run's items that need human review."""
    return share(abstained(run), run.header.items, "the run has no items")


def abstention_without_failures(run: Run) -> Figure:
    """Bound the share that would need human review without failed votes, as `coverage_without_failures`."""
    lost = _lost(run)
    bound = share(abstained(run) - lost, run.header.items, "the run has no items")
    return replace(bound, note=coverage_without_failures(run).note) if lost else bound


def steps(run: Run, judge: str) -> Iterator[tuple[Step, int]]:
    """Yield the trail entries of a judge to count, with how many are alike; scores are not to be read."""
    rows = alike(run.decisions)
    return ((step, number) for row, number in rows for step in row.trail if step.judge == judge)


def verdicts_by_item(run: Run, judge: str) -> Iterator[tuple[Place, Label | None]]:
    """Yield the place of each item that a judge was asked about, with its verdict."""
    rows = placed_decisions(run)
    return ((place, step.label) for place, row in rows for step in row.trail if step.judge == judge)


def failed_votes(run: Run) -> Figure:
    """Give the share of votes that failed."""
    votes = count_votes(run.judgments).whole
    return share(votes.failed, votes.votes, "no judge was called")


def excess_failures(run: Run) -> Figure:
    """Count the judges whose votes fail significantly oftener than on the certification rows, and name them.

    Where there is none, the text has the rates of all.

    Votes on one row fail together, so that rows are compared: a one-sided Fisher test at 1 %, shared among
    the judges.
    """
    certified = [judge for judge in run.header.certificate.diagnostics if judge.votes]
    sentences, compared = [], []
    for before in certified:
        votes, each = count_votes(run.judgments).of(before.judge), before.votes / before.n
        then = sum(before.failures.values())
        p_value = excess_pvalue(votes.failed / each, votes.votes / each, then / each, before.n)
        now, usual = share(votes.failed, votes.votes).text, share(then, before.votes).text
        compared.append(f"{before.judge}: {now} of its votes failed, {usual} at calibration")
        if p_value < OFTENER / len(certified):
            sentences.append(compared[-1])
    if not certified:
        return missing("the certificate holds no votes to compare with: set [gate] max_failure_share")
    return Figure(len(sentences), "; ".join(sentences or compared))


def spent(run: Run, judge: str | None = None) -> float:
    """Sum the cost in USD of all judges or of one."""
    return count_votes(run.judgments).of(judge).cost


def total_cost(run: Run, judge: str | None = None, share: float = 1.0) -> Figure:
    """Give a share of the cost in USD of all judges or of one; a price that is not set is not free."""
    amount, asked = figures.usd(spent(run, judge) * share), count_votes(run.judgments).each
    unset = [
        table["name"]
        for table in run.header.config.get("judges", ())
        if table.get("backend") in ENDPOINTS and not any((table.get("price") or {}).values())
    ]
    unknown = [name for name in unset if name in asked and judge in (None, name)]
    if not unknown:
        return amount
    why = f"no price is set for {', '.join(unknown)}"
    return missing(f"price unknown: {why}") if not amount.value else replace(amount, note=f"at least: {why}")


def cost_per_1000(run: Run) -> Figure:
    """Give USD per thousand decided items."""
    if not run.decisions:
        return missing(NOTHING_DECIDED)
    return total_cost(run, share=1000 / len(run.decisions))


def always_last_judge(run: Run) -> Figure:
    """Estimate the cost of the last judge alone on the decided items."""
    judges = run.header.certificate.diagnostics
    if not judges or not judges[-1].n:
        return missing("the certificate holds no cost of the last judge")
    if not judges[-1].cost:
        return missing("the last judge has no recorded cost")
    return figures.usd(judges[-1].cost * _asked(run))


def _asked(run: Run) -> int:
    """Count the decided items that a judge was asked about: not those of a group without a certificate."""
    return sum(number for row, number in alike(run.decisions) if row.trail)


def cost_share(run: Run) -> Figure:
    """Give the run's cost as a share of `always_last_judge`."""
    last = always_last_judge(run)
    if last.value is None:
        return missing(last.note)
    asked = _asked(run)
    if not asked:
        return missing(NOTHING_DECIDED)
    if not released(run) and not run.uncertified:
        return missing("nothing was released")
    return figures.ratio(spent(run), run.header.certificate.diagnostics[-1].cost * asked)
