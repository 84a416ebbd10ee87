"""Draw where the items of a run went: from judge to judge, and the rest to people."""

from collections import Counter

from trustescalate.records import Run
from trustescalate.records.decisions import alike
from trustescalate.report import run_figures
from trustescalate.report.certificate_figures import thresholds
from trustescalate.report.figures import share
from trustescalate.report.pictures import Flow, FlowTier


def items_flow(run: Run) -> Flow:
    """Count the items that reach each judge and end there; the figures are those of the decisions."""
    asked, ended = Counter[str](), Counter[str]()
    for decision, number in alike(run.decisions):
        for step in decision.trail:
            asked[step.judge] += number
        if decision.trail and (run.uncertified or decision.label is not None):
            ended[decision.trail[-1].judge] += number
    tiers = tuple(
        FlowTier(judge, asked[judge], ended[judge], run_figures.total_cost(run, judge).text)
        for judge in thresholds(run.header.certificate)
    )
    review = 0 if run.uncertified else run_figures.abstained(run)
    labelled = run_figures.labelled(run)
    undecided = run.header.items - len(run.decisions)
    word = "judged" if run.uncertified else "released"
    parts = [f"{tier.name} was asked about {tier.asked:,} and {word} {tier.ended:,}" for tier in tiers]
    parts += [f"{labelled:,} were released with human labels"] if labelled else []
    parts += [f"{review:,} ({share(review, run.header.items).text}) need human review"] if review else []
    parts += [f"{undecided:,} are not decided yet"] if undecided else []
    alt = f"Of {run.header.items:,} items: {'; '.join(parts)}."
    return Flow(
        "Where the items went", tiers, run.header.items, review, undecided, word, alt, labelled=labelled
    )
