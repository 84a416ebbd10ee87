"""Report the cascade's decisions, votes and cost per tier, and its abstentions."""

from collections import Counter

from trustescalate.records import Run
from trustescalate.records.decisions import alike
from trustescalate.records.failures import reason_in_words
from trustescalate.records.judge_counts import count_votes
from trustescalate.report import figures
from trustescalate.report.bars import bar_chart
from trustescalate.report.certificate_figures import thresholds
from trustescalate.report.figures import Figure, count, missing, share, words
from trustescalate.report.pictures import Bar, Bars
from trustescalate.report.run_figures import (
    always_last_judge,
    cost_per_1000,
    cost_share,
    steps,
    total_cost,
)
from trustescalate.report.sections import Column, Row, Section, Table, numbers, pairs_table

_ESCALATED = (
    "Each item goes to the cheapest judge first, and escalates to the next judge when its score is below the "
    "threshold of that judge. Voting stops early when the remaining votes cannot change the outcome."
)
_NOT_ESCALATED = (
    "Every judge judges every item, and its score combines all judges up to it: the verdict and the score of "
    "the last judge, pooled from all judges, decide."
)
_NAMED = (
    "Each item goes to the next judge until a score reaches the threshold that was named for its judge. "
    "Nothing is released: no test says how often the verdicts are right."
)
_EACH = "Every judge judges every item with its full ensemble. Nothing is released."


def cascade_section(run: Run) -> Section:
    """Report who decided how many items, with how many votes, at what cost."""
    tiers, savings, cost = _tier_table(run), _savings_table(run), _cost_table(run)
    text = _ESCALATED if run.header.certificate.status != "expected" else _NOT_ESCALATED
    if run.uncertified:
        text = _NAMED if run.header.uncertified else _EACH
    shown = tuple(table for table in (tiers, savings, cost) if table.rows)
    charts, title = (*_cost_chart(tiers, cost), *_votes_chart(tiers)), "Cascade: decisions and cost per tier"
    return Section("cascade", title, (_lead(run, cost), text), charts, shown)


def _lead(run: Run, cost: Table) -> str:
    """State the votes and their cost, against the last judge alone and without early stopping."""
    counts = count_votes(run.judgments).whole
    votes, planned = counts.votes, counts.planned
    if not votes:
        return "No judge was called."
    paid, _, last, part = (row.cells[1] for row in cost.rows)
    lead = f"{len(run.decisions):,} items took {votes:,} votes"
    if paid.value is None:
        lead += f"; {paid.note}"
    elif paid.value:
        lead += f"; these votes cost {paid.text}"
        if part.value is not None:
            lead += f", {part.text} of the estimated cost of the last judge alone ({last.text})"
    if planned > votes:
        lead += f". Early stopping saved {planned - votes:,} votes ({share(planned - votes, planned).text})"
    return f"{lead}."


def _cost_chart(tiers: Table, cost: Table) -> tuple[Bars, ...]:
    """Draw the cost of each tier, of the run and of the last judge alone, where there are costs."""
    whole, _, last, _ = (row.cells[1] for row in cost.rows)
    if not whole.value:
        return ()
    lines = [(row.cells[0].text, row.cells[-1]) for row in tiers.rows if row.cells[1].value]
    lines += [("This run", whole), ("Last judge alone (estimate)", last)]
    return bar_chart(
        "Cost of each tier",
        [
            Bar(name, (float(figure.value),), (figure.text,))
            for name, figure in lines
            if isinstance(figure.value, float)
        ],
    )


def _votes_chart(tiers: Table) -> tuple[Bars, ...]:
    bars = []
    for row in tiers.rows:
        judge, judged, _, _, cast, planned, *_ = row.cells
        if judged.value:
            values = tuple(float(each.value or 0) for each in (cast, planned))
            bars.append(Bar(judge.text, values, (cast.text, planned.text)))
    return bar_chart("Votes of each tier", bars, ("cast", "planned"))


def abstentions_section(run: Run) -> Section | None:
    """Report the reasons for abstentions; None without any, and in an uncertified run, which has none."""
    reasons = Counter[str]()
    for decision, number in () if run.uncertified else alike(run.decisions):
        if decision.label is None:
            reasons[reason_in_words(decision.reason)] += number
    if not reasons:
        return None
    total = sum(reasons.values())
    ordered = sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0]))
    rows = tuple(Row((words(reason), count(number), share(number, total))) for reason, number in ordered)
    columns = (Column("Reason"), *numbers("Items", "Share of abstentions"))
    table = Table("Abstentions by reason", columns, rows)
    first, most = ordered[0]
    lead = (
        f"{total:,} of {len(run.decisions):,} decided items ({share(total, len(run.decisions)).text}) need "
    )
    lead += (
        f"human review. Most frequent reason: {first} ({most:,})."
        if len(ordered) > 1
        else f"human review: {first}."
    )
    bars = [Bar(reason, (float(number),), (f"{number:,}",)) for reason, number in ordered]
    charts = bar_chart("Abstentions by reason", bars)
    return Section("abstentions", "Abstentions (human review queue)", (lead,), charts, (table,))


def _tier_table(run: Run) -> Table:
    ended = "Threshold reached" if run.uncertified else "Released"
    titles = ("Judged", ended, "Share of all items", "Votes", "Planned", "Saved", "Failed", "Cost")
    rows = tuple(_tier_row(run, judge) for judge in thresholds(run.header.certificate))
    caption = "Tiers, cheapest first; planned votes are those of the full ensemble"
    return Table(caption, (Column("Judge"), *numbers(*titles)), rows)


def _tier_row(run: Run, judge: str) -> Row:
    rows = list(steps(run, judge))
    accepted = sum(number for step, number in rows if step.accepted)
    votes = sum(number * step.votes for step, number in rows)
    planned = sum(number * step.planned for step, number in rows)
    cells = (
        *(words(judge), count(sum(number for _, number in rows)), count(accepted)),
        share(accepted, run.header.items, "the run has no items"),
        *(count(votes), count(planned), share(planned - votes, planned, "no vote was planned")),
        count(count_votes(run.judgments).of(judge).failed),
        total_cost(run, judge),
    )
    return Row(cells)


def _savings_table(run: Run) -> Table:
    """Compare votes and USD with the same judges without early stopping, and with the last judge alone."""
    counts = count_votes(run.judgments).whole
    votes, paid = counts.votes, counts.cost
    reference = missing("the reference")
    rows = [
        Row((words("This run"), count(votes), reference, total_cost(run), reference)),
        _savings_row("The same judges, full ensembles", votes, counts.planned, paid, counts.full_cost),
    ]
    last = run.header.certificate.diagnostics[-1] if run.header.certificate.diagnostics else None
    if last is not None and last.n:
        alone = last.votes * len(run.decisions) // last.n
        rows.append(_savings_row("Always the last judge", votes, alone, paid, last.cost * len(run.decisions)))
    columns = (Column("Compared with"), *numbers("Votes", "Saved", "Cost", "Saved"))
    return Table("Savings; costs of votes not asked are estimates", columns, tuple(rows) if votes else ())


def _savings_row(name: str, votes: int, instead: int, paid: float, cost: float) -> Row:
    fewer = share(instead - votes, instead) if instead >= votes else missing("more votes, of cheaper judges")
    cheaper = missing("no cost was recorded") if cost <= 0 else figures.ratio(cost - paid, cost)
    return Row((words(name), count(instead), fewer, figures.usd(cost), cheaper))


def _cost_table(run: Run) -> Table:
    lines: tuple[tuple[str, Figure], ...] = (
        ("Cost of these votes", total_cost(run)),
        ("Per 1,000 items", cost_per_1000(run)),
        ("The last judge on every item, estimated from the certification rows", always_last_judge(run)),
        ("Cost of these votes, as a share of that", cost_share(run)),
    )
    return pairs_table("Cost", ("What", "Amount"), lines, numeric=True)
