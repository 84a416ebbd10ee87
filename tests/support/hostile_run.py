"""Make a run in which every text that somebody else wrote is an attack."""

from dataclasses import replace

from tests.support import factory
from tests.support.factory import HOSTILE
from trustescalate.records import (
    AnnotatorAgreement,
    Decision,
    Item,
    Judgment,
    LeftOut,
    Pair,
    Run,
    ToolCall,
    Turn,
    Vote,
)

HOSTILE_TRACE = (
    Turn("assistant", HOSTILE, (ToolCall(HOSTILE, HOSTILE, HOSTILE),)),
    Turn("tool", HOSTILE, tool_call_id=HOSTILE, name=HOSTILE),
    Turn("tool", HOSTILE, name=HOSTILE),
)


def hostile_run() -> Run:
    """A run in which every text that somebody else wrote is an attack."""
    whole = factory.run(30)
    task = replace(factory.TASK, question=HOSTILE, labels=("A", "B", HOSTILE))
    certificate = replace(
        whole.header.certificate,
        task=task,
        judges=tuple(replace(seal, judge=seal.judge + HOSTILE) for seal in whole.header.certificate.judges),
        diagnostics=tuple(
            replace(row, judge=row.judge + HOSTILE, failures={HOSTILE: 3})
            for row in whole.header.certificate.diagnostics
        ),
        assumptions=(HOSTILE,),
        annotator_agreement=_hostile_people(),
        left_out=replace(
            factory.grouped_certificate(HOSTILE, "fi").left_out or LeftOut("", (), 0), by=HOSTILE
        ),
    )
    header = replace(
        whole.header,
        id=HOSTILE,
        command=HOSTILE,
        certificate=certificate,
        config={"question": HOSTILE, HOSTILE: 1},
        versions={HOSTILE: HOSTILE},
    )
    return Run(
        header,
        tuple(_hostile_item(item) for item in whole.items),
        tuple(
            replace(row, item_id=row.item_id + HOSTILE, judge=row.judge + HOSTILE, votes=_hostile_votes(row))
            for row in whole.judgments
        ),
        tuple(_hostile_decision(row) for row in whole.decisions),
        tuple(replace(row, item_id=row.item_id + HOSTILE, annotator=HOSTILE) for row in whole.annotations),
        replace(factory.overall(), strata=factory.strata(HOSTILE)),
        tuple(replace(row, judge=row.judge + HOSTILE) for row in factory.shift(raised=True)),
        factory.standings(HOSTILE),
    )


def _hostile_people() -> AnnotatorAgreement:
    agreement = factory.people()
    return replace(
        agreement,
        annotators=tuple(replace(row, name=row.name + HOSTILE) for row in agreement.annotators),
        pairs=tuple(Pair(row.first + HOSTILE, HOSTILE, 1, 2) for row in agreement.pairs),
        stand_ins=tuple(replace(row, judge=HOSTILE, annotator=HOSTILE) for row in agreement.stand_ins),
    )


def _hostile_item(item: Item) -> Item:
    return replace(
        item,
        id=item.id + HOSTILE,
        prompt=HOSTILE + str(item.prompt),
        responses=(str(item.responses[0]) + HOSTILE, HOSTILE_TRACE),
        context=(HOSTILE,),
        reference=HOSTILE,
    )


def _hostile_votes(row: Judgment) -> tuple[Vote, ...]:
    return tuple(replace(vote, raw=HOSTILE, failure=vote.failure and HOSTILE) for vote in row.votes)


def _hostile_decision(row: Decision) -> Decision:
    steps = tuple(
        replace(step, judge=step.judge + HOSTILE, label=HOSTILE, failures=(HOSTILE,)) for step in row.trail
    )
    known = row.label is not None
    return replace(
        row,
        item_id=row.item_id + HOSTILE,
        label=HOSTILE if known else None,
        judge=row.judge + HOSTILE if row.judge else None,
        reason=HOSTILE,
        trail=steps,
    )
