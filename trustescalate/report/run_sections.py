"""What the run did with its items: sections of facts. Every count is taken from the rows, none is kept."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Literal

from trustescalate.calibration.losses import losses
from trustescalate.data import labels
from trustescalate.records import (
    FAILURES,
    Certificate,
    Decision,
    Item,
    Judgment,
    Label,
    Run,
    Step,
    Turn,
    Vote,
)
from trustescalate.records.jsonl import digest
from trustescalate.report import certificate_sections, figures
from trustescalate.report.clusters import counts_clusters_once
from trustescalate.report.figures import Figure, count, missing, share, words
from trustescalate.report.sections import Block, Column, ItemRow, Row, Section, Table, TrailRow

NOTHING_DECIDED = "no item has been decided"
ESCALATED = (
    "Each item goes to the cheapest judge first, and on to the next when the score stays below that judge's "
    "threshold. Asking stops as soon as the votes still to come cannot change the outcome."
)
ASKED_ALL = (
    "Every judge is asked about every item, and each speaks for all judges so far: the verdict and the score "
    "of the last one, pooled from all, decide."
)
State = Literal["abstained", "undecided", "released"]
_ORDER: tuple[State, ...] = ("abstained", "undecided", "released")

# ── counts ───────────────────────────────────────────────────────────────────────────────────────


def is_complete(run: Run) -> bool:
    """Whether every item was decided and the run says so itself."""
    return run.header.status == "complete" and len(run.decisions) == run.header.items


def released(run: Run) -> int:
    """Count the verdicts that the cascade released: the judges', not people's own labels."""
    return sum(decision.judge is not None for decision in run.decisions)


def labelled(run: Run) -> int:
    """Count the items that were released with people's labels."""
    return sum(decision.judge is None and decision.label is not None for decision in run.decisions)


def abstained(run: Run) -> int:
    """Count the items that need a person."""
    return sum(decision.label is None for decision in run.decisions)


def coverage(run: Run) -> Figure:
    """Give the share of the run's items for which a verdict was released."""
    return share(released(run), run.header.items, "the run has no items")


def steps(run: Run, judge: str | None = None) -> Iterator[Step]:
    """Go through what the tiers did, all of them or one judge's."""
    return (step for row in run.decisions for step in row.trail if judge is None or step.judge == judge)


def failed_votes(run: Run) -> Figure:
    """Give the share of votes that failed."""
    votes = list(_votes(run))
    return share(sum(vote.failure is not None for vote in votes), len(votes), "no vote was asked")


def _votes(run: Run, judge: str | None = None) -> Iterator[Vote]:
    return (vote for row in run.judgments if judge is None or row.judge == judge for vote in row.votes)


def judged_agreement(
    run: Run, delta: float = certificate_sections.DELTA
) -> tuple[Figure, tuple[float, float] | None]:
    """Compare released verdicts with people, where people labelled the run's items.

    What counts as agreement is what counts as such in the certificate. Items that were labelled because a
    cascade abstained on them are no sample of what is released: they are left out. Where each cluster counts
    once in the claim, one labelled item of each is compared, by lot; else all are, and the interval, which
    misses with probability `delta`, takes whole clusters for what was drawn.
    """
    from trustescalate.calibration.population import unit_of

    if not run.annotations:
        return missing("people labelled none of the judged items"), None
    certificate = run.header.certificate
    known = losses(certificate.task, certificate.label_policy, labels.sampled(run.annotations))
    groups = {item.id: item.group for item in run.items}
    drawn = set(known)
    if counts_clusters_once(certificate):
        lots = sorted(known, key=lambda item_id: digest("lot", certificate.seed, item_id))
        drawn = set({unit_of(item_id, groups): item_id for item_id in reversed(lots)}.values())
    judged = [row for row in run.decisions if row.judge is not None and row.item_id in drawn]
    lost = [(row.item_id, known[row.item_id][row.label]) for row in judged if row.label is not None]
    units = [unit_of(item_id, groups) for item_id, _ in lost]
    why = "people labelled no item whose verdict was released"
    return certificate_sections.agreement([loss for _, loss in lost], units, why, delta)


def _people(run: Run) -> Mapping[str, Label | None]:
    return labels.majority(run.header.certificate.task, run.annotations)


# ── cost ─────────────────────────────────────────────────────────────────────────────────────────


def spent(run: Run, judge: str | None = None) -> float:
    """Sum what was paid, in USD, for all judges or one."""
    return sum(row.cost for row in run.judgments if judge is None or row.judge == judge)


def cost_per_1000(run: Run) -> Figure:
    """Give USD per thousand decided items."""
    if not run.decisions:
        return missing(NOTHING_DECIDED)
    return figures.usd(1000 * spent(run) / len(run.decisions))


def always_last_judge(run: Run) -> Figure:
    """Estimate what the last judge alone would have cost on the decided items."""
    judges = run.header.certificate.diagnostics
    if not judges or not judges[-1].n:
        return missing("the certificate holds no cost of the last judge")
    if not judges[-1].cost:
        return missing("the last judge has no recorded cost")
    return figures.usd(judges[-1].cost * len(run.decisions))


def cost_share(run: Run) -> Figure:
    """Give the run's cost as a share of what the last judge alone would have cost."""
    last = always_last_judge(run)
    if last.value is None:
        return missing(last.note)
    if not run.decisions:
        return missing(NOTHING_DECIDED)
    return figures.ratio(spent(run), run.header.certificate.diagnostics[-1].cost * len(run.decisions))


# ── sections ─────────────────────────────────────────────────────────────────────────────────────


def agreement_rows(run: Run) -> list[Row]:
    """The line of the agreement table that the run adds, where people labelled judged items."""
    if not run.annotations:
        return []
    figure, limits = judged_agreement(run)
    return [
        certificate_sections.agreement_row(
            "Measured on judged items", figure, certificate_sections.interval_figure(limits)
        ),
    ]


def agreement_text(run: Run) -> list[str]:
    """Say what the labels on judged items are, and what they are not."""
    if not run.annotations:
        return []
    people, sampled = _people(run), {note.item_id for note in labels.sampled(run.annotations)}
    counted = [row for row in run.decisions if row.item_id in people]
    open_rows = sum(row.label is None for row in counted)
    released = [row.item_id for row in counted if row.label is not None]
    picked = len(set(released) - sampled)
    torn = sum(people[item_id] is None for item_id in released if item_id in sampled)
    told = f"{picked:,} more were picked because a cascade abstained on them; they are not compared. "
    counts = f"Of the others, those without a majority ({torn:,}) count as disagreement. "
    if run.header.certificate.label_policy == "annotator":
        counts = "Each of the others counts the share of its annotators who disagree. "
    return [
        f"People labelled {len(people):,} of the items; on {open_rows:,} of them the cascade abstained. "
        f"{told if picked else ''}{counts}This comparison measures; it certifies nothing."
    ]


def work_section(run: Run) -> Section:
    """Who decided what, with how many votes, at what price."""
    tables = [_tier_table(run), _saved_table(run), _failure_table(run), _cost_table(run)]
    text = ESCALATED if run.header.certificate.status != "expected" else ASKED_ALL
    shown = tuple(table for table in tables if table.rows)
    return Section("work", "Who decided, and what it cost", (text,), tables=shown)


def _tier_table(run: Run) -> Table:
    titles = ("Asked", "Released", "Share of all items", "Votes", "Planned", "Saved", "Failed", "Cost")
    columns = (Column("Judge"), *(Column(title, True) for title in titles))
    rows = tuple(_tier_row(run, judge) for judge in certificate_sections.thresholds(run.header.certificate))
    return Table("The tiers, cheapest first; planned votes are those of the full ensemble", columns, rows)


def _tier_row(run: Run, judge: str) -> Row:
    rows = list(steps(run, judge))
    accepted = sum(step.accepted for step in rows)
    votes, planned = sum(step.votes for step in rows), sum(step.planned for step in rows)
    cells = (
        words(judge),
        count(len(rows)),
        count(accepted),
        share(accepted, run.header.items, "the run has no items"),
        count(votes),
        count(planned),
        share(planned - votes, planned, "no vote was planned"),
        count(sum(vote.failure is not None for vote in _votes(run, judge))),
        figures.usd(spent(run, judge)),
    )
    return Row(cells)


def _saved_table(run: Run) -> Table:
    """Votes and USD against asking the same judges in full, and against asking the last judge alone."""
    votes, paid = sum(len(row.votes) for row in run.judgments), spent(run)
    planned = sum(row.planned for row in run.judgments)
    full = sum(row.cost * row.planned / len(row.votes) for row in run.judgments if row.votes)
    columns = (Column("Against"), *(Column(title, True) for title in ("Votes", "Saved", "Cost", "Saved")))
    rows = [
        Row(
            (
                words("What was asked"),
                count(votes),
                missing("it is the yardstick"),
                figures.usd(paid),
                missing("it is the yardstick"),
            )
        )
    ]
    rows.append(_saved_row("The same judges, full ensembles", votes, planned, paid, full))
    last = run.header.certificate.diagnostics[-1] if run.header.certificate.diagnostics else None
    if last is not None and last.n:
        alone = last.votes * len(run.decisions) // last.n
        rows.append(_saved_row("Always the last judge", votes, alone, paid, last.cost * len(run.decisions)))
    return Table("Saved; costs of what was not asked are estimates", columns, tuple(rows) if votes else ())


def _saved_row(name: str, votes: int, instead: int, paid: float, cost: float) -> Row:
    fewer = share(instead - votes, instead) if instead >= votes else missing("more votes, of cheaper judges")
    cheaper = missing("no cost was recorded") if cost <= 0 else figures.ratio(cost - paid, cost)
    return Row((words(name), count(instead), fewer, figures.usd(cost), cheaper))


def _failure_table(run: Run) -> Table:
    found = Counter((row.judge, vote.failure) for row in run.judgments for vote in row.votes if vote.failure)
    rows = tuple(
        Row((words(judge), words(reason), words(FAILURES.get(reason, "")), count(number)))
        for (judge, reason), number in sorted(found.items())
    )
    columns = (Column("Judge"), Column("Failure"), Column("Meaning"), Column("Votes", True))
    return Table("Failed votes, by reason", columns, rows)


def _cost_table(run: Run) -> Table:
    lines = (
        ("Spent", figures.usd(spent(run))),
        ("Per 1,000 items", cost_per_1000(run)),
        ("Always asking the last judge, estimated from the certification rows", always_last_judge(run)),
        ("Spent, as a share of that", cost_share(run)),
    )
    columns = (Column("What"), Column("Amount", True))
    return Table("Cost", columns, tuple(Row((words(name), figure)) for name, figure in lines))


def abstentions_section(run: Run) -> Section | None:
    """Why items were handed to people."""
    reasons = Counter(row.reason for row in run.decisions if row.label is None)
    if not reasons:
        return None
    total = sum(reasons.values())
    ordered = sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0]))
    rows = tuple(Row((words(reason), count(number), share(number, total))) for reason, number in ordered)
    columns = (Column("Reason"), Column("Items", True), Column("Share of abstentions", True))
    table = Table("Abstentions by reason", columns, rows)
    text = (f"{total:,} of {len(run.decisions):,} decided items need a person.",)
    return Section("abstentions", "For people to decide", text, tables=(table,))


# ── items ────────────────────────────────────────────────────────────────────────────────────────


def item_rows(run: Run) -> tuple[ItemRow, ...]:
    """Every item: those abstained on, then those not decided, then the rest, each in the given order."""
    decisions = {row.item_id: row for row in run.decisions}
    failed = {(row.item_id, row.judge): failures(row) for row in run.judgments}
    people = _people(run)
    rows = [_item_row(item, decisions.get(item.id), people, failed) for item in run.items]
    return tuple(sorted(rows, key=lambda row: _ORDER.index(row.state)))


def _item_row(
    item: Item,
    decision: Decision | None,
    people: Mapping[str, Label | None],
    failed: Mapping[tuple[str, str], str],
) -> ItemRow:
    state, trail = _state(decision), () if decision is None else _trail(decision, failed)
    gap = missing({"undecided": "not decided yet", "abstained": "a person is needed", "released": ""}[state])
    known = decision is not None and decision.label is not None
    by = (decision.judge or "people") if decision is not None else ""
    return ItemRow(
        id=item.id,
        state=state,
        texts=_texts(item),
        verdict=words(decision.label or "") if decision and known else gap,
        judge=words(by) if known else gap,
        score=_score(decision) if decision and known else gap,
        reason=decision.reason if decision and not known else "",
        people=_human(item.id, people),
        trail=trail,
    )


def _state(decision: Decision | None) -> State:
    if decision is None:
        return "undecided"
    return "abstained" if decision.label is None else "released"


def _human(item_id: str, people: Mapping[str, Label | None]) -> Figure:
    if item_id not in people:
        return missing("no person was asked")
    label = people[item_id]
    return missing("people have no majority") if label is None else words(label)


def _score(decision: Decision) -> Figure:
    score = figures.decimal(decision.score, "no score was recorded", places=4)
    last = decision.trail[-1] if decision.trail else None
    if last is None or last.score_upper <= last.score:
        return score
    return Figure(score.value, f"≥ {score.text}")


def _texts(item: Item) -> tuple[Block, ...]:
    if isinstance(item.prompt, str):
        prompt = [Block("Prompt", item.prompt)]
    else:
        prompt = [Block(turn.role.capitalize(), turn.content) for turn in item.prompt]
    single = len(item.responses) == 1
    responses = [
        block
        for place, response in enumerate(item.responses)
        for block in _response("Response" if single else f"Response {_letter(place)}", response)
    ]
    reference = [] if item.reference is None else [Block("Reference", item.reference)]
    return (*prompt, *responses, *reference)


def _response(name: str, response: str | tuple[Turn, ...]) -> list[Block]:
    if isinstance(response, str):
        return [Block(name, response)]
    return [Block(f"{name}: {turn.role}", turn.content) for turn in response]


def _letter(place: int) -> str:
    return chr(ord("A") + place) if place < 26 else str(place + 1)


def failures(judgment: Judgment) -> str:
    """Say which votes of a judgment failed, and how often."""
    return figures.failures_text(Counter(vote.failure for vote in judgment.votes if vote.failure))


def _trail(decision: Decision, failed: Mapping[tuple[str, str], str]) -> tuple[TrailRow, ...]:
    return tuple(
        _trail_row(step, failed.get((decision.item_id, step.judge), ", ".join(step.failures)))
        for step in decision.trail
    )


def _trail_row(step: Step, failed: str) -> TrailRow:
    score, threshold = _score_and_threshold(step)
    return TrailRow(
        judge=step.judge,
        verdict=missing("no verdict") if step.label is None else words(step.label),
        score=score,
        threshold=threshold,
        outcome=_outcome(step),
        votes=f"{step.votes:,} of {step.planned:,}",
        failures=failed,
    )


def _outcome(step: Step) -> str:
    if step.accepted:
        return "accepted"
    if step.label is None:
        return "no verdict"
    return certificate_sections.NEVER if step.threshold is None else "below its threshold"


def _score_and_threshold(step: Step) -> tuple[Figure, Figure]:
    deciding = step.score if step.accepted else step.score_upper
    if step.threshold is None:
        shown, threshold = figures.decimal(deciding, "", places=4), missing(certificate_sections.NEVER)
    else:
        threshold, shown = figures.compared(step.threshold, deciding)
    if step.score_upper <= step.score:
        return shown, threshold
    low, high = (f"{end:.3g}" for end in (step.score, step.score_upper))
    text = f"{shown.text} to {high}" if step.accepted else f"{low} to {shown.text}"
    return Figure(shown.value, text, "the votes not asked leave this range"), threshold


# ── where it comes from ──────────────────────────────────────────────────────────────────────────


def provenance_section(certificate: Certificate, run: Run | None) -> Section:
    """Everything needed to obtain the same figures again."""
    header = None if run is None else run.header
    lines = [("Certificate made", certificate.created), ("Certificate made by version", certificate.version)]
    lines += [("Seed", str(certificate.seed)), ("Protocol", certificate.protocol)]
    lines += [("Digest of the labelled data", certificate.data_digest)]
    blocks = []
    if header is not None:
        lines = [
            ("Run", header.id),
            ("Status", header.status),
            ("Started", header.created),
            ("Digest of the items", header.items_digest),
            *lines,
            *((f"Version of {name}", version) for name, version in sorted(header.versions.items())),
        ]
        config = json.dumps(header.config, indent=2, ensure_ascii=False, sort_keys=True, default=str)
        blocks = [Block("Command", header.command), Block("Configuration", config)]
    rows = tuple(Row((words(name), words(value))) for name, value in lines)
    facts = Table("Provenance", (Column("What"), Column("Value")), rows)
    return Section(
        "provenance",
        "Where this comes from",
        tables=(facts, _seal_table(certificate)),
        blocks=tuple(blocks),
    )


def _seal_table(certificate: Certificate) -> Table:
    columns = (Column("Judge"), Column("Read from"), Column("Fingerprint"))
    rows = tuple(
        Row((words(seal.judge), words(seal.channel), words(seal.fingerprint))) for seal in certificate.judges
    )
    return Table("The judges that the certificate is bound to", columns, rows)
