"""LangSmith and openevals: judge examples with a certified cascade, as an evaluator function."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from trustescalate.integrations.fields import Fields
from trustescalate.integrations.shared import SharedCascade

Evaluator = Callable[..., list[dict[str, Any]]]


def certified_evaluator(
    cascade: SharedCascade | str | Path = "trustescalate.toml", *, key: str = "certified", **fields: str
) -> Evaluator:
    """Return an evaluator for `langsmith.evaluate` and `aevaluate`, and for where openevals has one.

    Its results are `key`, the value of a released verdict (of a choice the label, as `value`), and
    `KEY_released`, whether a verdict was released. An abstention has no score, so no mean counts it; the mean
    of `KEY_released` is the coverage. `fields` are those of `Fields`: of the inputs, the outputs and the
    reference outputs. Raises NoCertificate; the evaluator raises the errors of the cascade.

    >>> certified_evaluator("examples/pass-fail/trustescalate.toml")
    Traceback (most recent call last):
    ...
    trustescalate.errors.NoCertificate: examples/pass-fail/certificate.json: there is no certificate yet
    """
    opened = SharedCascade.of(cascade)
    opened.project.certificate()
    names = Fields(**fields)

    def certified(
        *, inputs: Any = None, outputs: Any = None, reference_outputs: Any = None
    ) -> list[dict[str, Any]]:
        verdict = opened.judge(names.item(opened, inputs, outputs, reference_outputs))
        shown = {"comment": verdict.explanation, "metadata": verdict.metadata}
        first = {"key": key, "score": verdict.value, **shown}
        if verdict.value is None and verdict.label is not None:
            first["value"] = verdict.label
        return [first, {"key": f"{key}_released", "score": verdict.label is not None, **shown}]

    return certified
