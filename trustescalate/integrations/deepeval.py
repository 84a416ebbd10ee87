"""DeepEval: judge test cases with a certified cascade, as a metric."""

import json
from pathlib import Path
from typing import Any

from deepeval.metrics import BaseMetric
from deepeval.test_case import LLMTestCase

from trustescalate.errors import UsageError
from trustescalate.integrations.shared import CertifiedVerdict, SharedCascade, passing_value
from trustescalate.records import Item, TaskKind


class CertifiedMetric(BaseMetric):  # type: ignore[misc]
    """Score a test case by the certified verdict: `score` is its value, `confidence` the judge's score.

    An abstention sets `error`, in which case DeepEval has neither a score nor a pass. `actual_output` is the
    response; `expected_output` is the reference, or for a pairwise task the baseline's response; `name` is
    the item's id and `metadata` its meta. `threshold` is the value from which a verdict passes: 0.5 by
    default, and required for a rating. Raises the errors of `SharedCascade` and NoCertificate.

    >>> CertifiedMetric("examples/pass-fail/trustescalate.toml")
    Traceback (most recent call last):
    ...
    trustescalate.errors.NoCertificate: examples/pass-fail/certificate.json: there is no certificate yet
    """

    score: float | None
    confidence: float | None
    reason: str | None
    error: str | None
    verbose_logs: str | None

    def __init__(
        self,
        cascade: SharedCascade | str | Path = "trustescalate.toml",
        threshold: float | None = None,
        name: str = "Certified cascade",
    ) -> None:
        self.cascade = SharedCascade.of(cascade)
        self.threshold = passing_value(self.cascade.task, threshold)
        self.name = name
        # DeepEval's cache compares it: a verdict of another certificate is not read back.
        self.evaluation_model = f"certificate {self.cascade.project.certificate().id}"

    @property
    def __name__(self) -> str:
        """The name in DeepEval's results."""
        return self.name

    def measure(self, test_case: LLMTestCase, *_args: Any, **_kwargs: Any) -> float | None:
        """Judge a test case and return its score; None for an abstention. Raises the errors of the judges."""
        self._clear()
        return self._record(self.cascade.judge(self._item(test_case)))

    async def a_measure(self, test_case: LLMTestCase, *_args: Any, **_kwargs: Any) -> float | None:
        """Judge a test case without blocking the event loop."""
        self._clear()
        return self._record(await self.cascade.judge_async(self._item(test_case)))

    def is_successful(self) -> bool:
        """Whether the verdict reaches the threshold; never where there is none."""
        self.success = self.error is None and self.score is not None and self.score >= self.threshold
        return self.success

    def _clear(self) -> None:
        self.score = self.reason = self.confidence = self.error = self.verbose_logs = None
        self.success = False

    def _record(self, verdict: CertifiedVerdict) -> float | None:
        self.score, self.reason = verdict.value, verdict.explanation
        self.confidence = verdict.decision.score
        self.verbose_logs = json.dumps(verdict.metadata, indent=2)
        if verdict.label is None:
            self.error = verdict.explanation
        self.is_successful()
        return self.score

    def _item(self, case: LLMTestCase) -> Item:
        if case.actual_output is None:
            raise UsageError("the test case has no actual_output", "give the response to judge")
        pair = self.cascade.task.kind is TaskKind.PAIRWISE
        context = case.retrieval_context or case.context or ()
        return self.cascade.item(
            case.input,
            case.actual_output,
            baseline=case.expected_output if pair else None,
            reference=None if pair else case.expected_output,
            context=[passage if isinstance(passage, str) else passage.context for passage in context],
            item_id=case.name,
            meta=case.metadata,
        )
