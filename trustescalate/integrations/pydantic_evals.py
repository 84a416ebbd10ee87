"""Evaluate pydantic-evals cases with a certified cascade; an abstention is a failure of the evaluator.

A pass/fail verdict is an assertion, a rating or the outcome of a pair a score, and a label without an order a
label. The evaluator's version is the certificate's id.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json, to_jsonable_python
from pydantic_evals.evaluators import EvaluationReason, Evaluator, EvaluatorContext

from trustescalate.errors import UsageError
from trustescalate.integrations.shared import SharedCascade
from trustescalate.records import TaskKind

NAME = "certified_cascade"
"""The name of the evaluation, and of the case's attribute that says who decided."""


class Abstained(Exception):
    """Raised for an abstention, which pydantic-evals reports as a failure of the evaluator."""


@dataclass(repr=False)
class CertifiedCascade(Evaluator):  # type: ignore[misc]
    """Release the verdict of a certified cascade on a case, whose inputs are the prompt.

    The output is the response, the expected output the reference; in a pairwise task it is the baseline's
    response, unless `baseline` names a field of the metadata. `context` names the field with retrieved
    passages. The case's name is the item's id. Raises the errors of `SharedCascade.certificate` when it is
    made, before any case runs.
    """

    config: str = "trustescalate.toml"
    baseline: str | None = None
    context: str | None = None

    def __post_init__(self) -> None:
        self._cascade = SharedCascade(self.config)
        self._version = self._cascade.certificate().id

    def get_default_evaluation_name(self) -> str:
        """The name in reports."""
        return NAME

    def get_evaluator_version(self) -> str | None:
        """The certificate's id."""
        return self._version

    async def evaluate(self, ctx: EvaluatorContext) -> EvaluationReason:
        """Judge a case. Raises Abstained, and the errors of `SharedCascade.judge`."""
        expected = None if ctx.expected_output is None else _text(ctx.expected_output)
        meta = to_jsonable_python(ctx.metadata)
        pair = self._cascade.task.kind is TaskKind.PAIRWISE
        item = self._cascade.item(
            _text(ctx.inputs),
            _text(ctx.output),
            baseline=_field(meta, self.baseline, expected) if pair else None,
            reference=expected if self.baseline or not pair else None,
            context=_field(meta, self.context, ()),
            item_id=ctx.name,
            meta=meta if isinstance(meta, Mapping) else {},
        )
        verdict = await self._cascade.judge_async(item)
        ctx.attributes[NAME] = verdict.metadata
        if verdict.label is None:
            raise Abstained(verdict.explanation.removeprefix("Abstained "))
        return EvaluationReason(value=verdict.outcome, reason=verdict.explanation)


def _text(value: Any) -> str:
    """A text as it is, anything else as JSON."""
    return value if isinstance(value, str) else to_json(value).decode()


def _field(meta: Any, name: str | None, default: Any) -> Any:
    if name is None:
        return default
    if not isinstance(meta, Mapping) or name not in meta:
        raise UsageError(f"the case's metadata has no {name!r}", "name another field of the metadata")
    return meta[name]
