"""Score Inspect AI samples with a certified cascade: the scorer `trustescalate/certified_cascade`.

An abstention is unscored: it stays in the log with its reason, and counts in no metric.
"""

from collections.abc import Mapping
from functools import partial
from statistics import fmean
from typing import Any

from anyio.to_thread import run_sync
from inspect_ai.model import ChatMessage
from inspect_ai.scorer import (
    Metric,
    SampleScore,
    Score,
    Scorer,
    Target,
    mean,
    metric,
    scorer,
    stderr,
)
from inspect_ai.solver import TaskState

from trustescalate.errors import UsageError

ABSTAINED = "abstained"
"""The reason of an unscored sample."""


@metric  # type: ignore[untyped-decorator]
def verdicts() -> Metric:
    """Mean and standard error of the released verdicts; shares of the labels where they have no order."""

    def compute(scores: list[SampleScore]) -> Mapping[str, float]:
        values = [each.score.value for each in scores]
        if shares := [value for value in values if isinstance(value, Mapping)]:
            return {label: fmean(_number(share[label]) for share in shares) for label in shares[0]}
        return {"mean": _number(mean()(scores)), "stderr": _number(stderr()(scores))} if values else {}

    return compute


@metric(scores="unreduced")  # type: ignore[untyped-decorator]
def released() -> Metric:
    """Number of released verdicts over all samples and epochs; the other samples are `unscored_samples`."""

    def compute(scores: list[SampleScore]) -> Mapping[str, float]:
        return {"released": len(scores)}

    return compute


@scorer(metrics=[verdicts(), released()])  # type: ignore[untyped-decorator]
def certified_cascade(
    config: str = "trustescalate.toml",
    baseline: str | None = None,
    context: str | None = None,
    item_id: str | None = None,
) -> Scorer:
    """Release the verdict of a certified cascade on each sample, or leave the sample unscored.

    Args:
        config: The configuration with the certificate, below the working directory.
        baseline: In a pairwise task, the metadata field with the baseline's response; by default the target.
        context: The metadata field with a list of retrieved passages.
        item_id: The metadata field with the item's id; by default the id that `import` gives: `ID|epochN`.

    Raises the errors of `SharedCascade.certificate` when the task is made, before any sample is.
    """
    # Inspect loads this module with every scorer that it looks up; the cascade is imported when it is used
    from trustescalate.data.importers.inspect_ai import read_item
    from trustescalate.integrations.shared import SharedCascade
    from trustescalate.records import TaskKind
    from trustescalate.report.export.inspect_scores import score_value

    cascade = SharedCascade(config)
    cascade.certificate()
    pair = cascade.task.kind is TaskKind.PAIRWISE

    async def score(state: TaskState, target: Target) -> Score:
        read = read_item(_as_logged(state, list(target)))
        meta = state.metadata
        item = cascade.item(
            read.prompt,
            read.responses[0],
            baseline=_field(meta, baseline, read.reference) if pair else None,
            reference=read.reference if baseline or not pair else None,
            context=_field(meta, context, ()),
            item_id=_field(meta, item_id, read.id),
            meta=meta,
        )
        verdict = await run_sync(partial(cascade.judge, item), abandon_on_cancel=True)
        about = {
            "answer": state.output.completion,
            "explanation": verdict.explanation,
            "metadata": verdict.metadata,
        }
        if verdict.label is None:
            return Score.unscored(reason=ABSTAINED, **about)
        return Score(value=score_value(cascade.task, verdict.label), **about)

    return score


def _as_logged(state: TaskState, target: list[str]) -> dict[str, Any]:
    """The fields of a sample as a log holds them, so that the item is the one that `import` reads."""
    choices = sorted(state.choices, key=lambda choice: choice.original_position)
    return {
        "id": state.sample_id,
        "epoch": state.epoch,
        "input": state.input if isinstance(state.input, str) else _dumped(state.input),
        "choices": [choice.value for choice in choices] or None,
        "target": target,
        "messages": _dumped(state.messages),
        "output": {"completion": state.output.completion},
    }


def _dumped(messages: list[ChatMessage]) -> list[dict[str, Any]]:
    return [message.model_dump(mode="json", exclude_none=True) for message in messages]


def _field(meta: Mapping[str, Any], name: str | None, default: Any) -> Any:
    if name is None:
        return default
    if name not in meta:
        raise UsageError(f"the sample's metadata has no {name!r}", "name another field of the metadata")
    return meta[name]


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")
