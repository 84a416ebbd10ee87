"""Render a report as JSON: the same facts with unescaped texts, in ASCII. Its items are JSON Lines."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from math import isfinite
from typing import Any

from trustescalate.report.figures import Figure
from trustescalate.report.sections import Block, ItemRow, Report, TrailRow


def render_json(report: Report) -> str:
    """Render all but the items and the options of commands; `schema` is its version.

    Raises ValueError for NaN and infinity.
    """
    facts = asdict(replace(report, items=()))
    del facts["items"], facts["options"]
    return json.dumps(facts, indent=1, ensure_ascii=True, allow_nan=False) + "\n"


def render_items(items: Iterable[ItemRow]) -> Iterator[bytes]:
    """Render a line for each item, as it is asked for. A number that is NaN or infinite becomes null."""
    for row in items:
        yield json.dumps(_plain(row), ensure_ascii=True, allow_nan=False).encode() + b"\n"


def _plain(row: ItemRow) -> dict[str, Any]:
    return {
        "run": row.run,
        "id": row.id,
        "state": row.state,
        "group": row.group,
        "verdict": row.verdict.value,
        "judge": row.judge.value,
        "score": _number(row.score),
        "human_label": row.people.value,
        "disagrees": row.disagrees,
        "failed_votes": row.failed,
        "reason": row.reason,
        "prompt": _blocks(row.prompt),
        "responses": [_blocks(blocks) for blocks in row.responses],
        "reference": row.reference,
        "labels": [{"annotator": annotator, "label": label} for annotator, label in row.labels],
        "trail": [_step(step) for step in row.trail],
    }


def _step(step: TrailRow) -> dict[str, Any]:
    return {
        "judge": step.judge,
        "verdict": step.verdict.value,
        "score": _finite(step.low),
        "score_upper": _finite(step.high),
        "threshold": _number(step.threshold),
        "outcome": step.outcome,
        "votes": [
            {
                "order": vote.order,
                "examples": vote.examples,
                "label": vote.label,
                "probability": _number(vote.probability),
                "failure": vote.failure,
                "cost": _number(vote.cost),
            }
            for vote in step.cast
        ],
    }


def _blocks(blocks: Iterable[Block]) -> list[dict[str, str]]:
    return [{"title": block.title, "text": block.text} for block in blocks]


def _number(figure: Figure) -> float | None:
    return None if figure.value is None else _finite(float(figure.value))


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None
