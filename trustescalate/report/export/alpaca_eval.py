"""Write AlpacaEval annotations: a record per judge and item, output_1 is A, single-turn only.

`preference` is the label that the cascade read from the judge (1, 2, tie 1.5; null: none), no probability.
"""

from collections.abc import Iterator

from trustescalate.records import TIE, TaskKind
from trustescalate.report.export.base import (
    Export,
    LeftOut,
    Row,
    Target,
    as_json,
    listed,
    models,
    plain,
    with_passages,
)

PREFERENCE = {"A": 1.0, "B": 2.0, TIE: 1.5}


def _write(export: Export) -> Iterator[bytes]:
    export.say("AlpacaEval has no ids: an item is its instruction and its two generators")

    def records(row: Row) -> Iterator[bytes]:
        if row.decision is None:
            raise LeftOut("not judged yet")
        generators = models(row.item)
        outputs = [plain(response, "AlpacaEval") for response in row.item.responses]
        for step in row.decision.trail:
            judgment = next(each for each in row.judgments if each.judge == step.judge)
            yield as_json(
                {
                    "instruction": plain(with_passages(row.item), "AlpacaEval"),
                    "output_1": outputs[0],
                    "generator_1": generators[0],
                    "output_2": outputs[1],
                    "generator_2": generators[1],
                    "annotator": row.marked(step.judge),
                    "preference": None if step.label is None else PREFERENCE[step.label],
                    "raw_completion": "\n\n".join(vote.raw for vote in judgment.votes if vote.raw),
                    "price_per_example": judgment.cost,
                    "item_id": row.item.id,
                }
            )

    return listed(export.each(records))


ALPACA_EVAL = Target(
    "alpaca_eval", "AlpacaEval annotations", _write, (TaskKind.PAIRWISE,), "it compares two outputs"
)
