"""Send each decision as an OpenTelemetry event `gen_ai.evaluation.result`, with the certificate's id.

Attributes: the GenAI semantic conventions, and `trustescalate.*` for the provenance. An event holds no prompt
and no response. Where it goes, and with which headers, is said by the OTEL_… variables of the environment.
"""

import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from threading import Thread
from time import monotonic, time_ns
from typing import Any, Generic, TypeVar

from opentelemetry._logs import SeverityNumber
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExportResult
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from trustescalate.integrations.shared import CertifiedVerdict
from trustescalate.project import Project
from trustescalate.records import Certificate, Decision, Item
from trustescalate.records.criteria import row_name
from trustescalate.records.failures import FAILED_VOTES

EVENT = "gen_ai.evaluation.result"
ABSTAINED = "abstained"
"""The label of an abstention; its event has no score."""
WAIT_S = 3.0
"""How long the end of a run waits for events that are not sent yet."""
QUEUE = 32_768
"""Events that wait to be sent, at most; OTEL_BLRP_MAX_QUEUE_SIZE and OTEL_BSP_MAX_QUEUE_SIZE change it."""
R = TypeVar("R")


class _Counting(Generic[R]):
    """An exporter that counts what its receiver accepted."""

    def __init__(self, exporter: Any, success: R) -> None:
        self._exporter, self._success = exporter, success
        self.accepted = 0

    def export(self, batch: Sequence[Any]) -> R:
        result: R = self._exporter.export(batch)
        self.accepted += len(batch) if result == self._success else 0
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return bool(self._exporter.force_flush(timeout_millis))


class EvaluationEvents:
    """Sends decisions in the background, from a bounded queue; nothing that fails here stops a run.

    A log event each, unless OTEL_LOGS_EXPORTER is "none"; with OTEL_TRACES_EXPORTER = "otlp" also a span
    each, for a receiver that takes traces alone. `name` is `gen_ai.evaluation.name`; the name of a criterion
    follows it after a dot. Pass `decided` to `Hooks`, and `close` at the end.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        resource = Resource.create(
            {} if os.environ.get("OTEL_SERVICE_NAME") else {SERVICE_NAME: "trustescalate"}
        )
        self._exporters: list[_Counting[Any]] = []
        self._providers: list[LoggerProvider | TracerProvider] = []
        self._logger = self._tracer = None
        self._emitted = 0
        if os.environ.get("OTEL_LOGS_EXPORTER", "otlp").strip() != "none":
            logs = LoggerProvider(resource, shutdown_on_exit=False)
            counted = self._counted(OTLPLogExporter(), LogRecordExportResult.SUCCESS)
            logs.add_log_record_processor(BatchLogRecordProcessor(counted, max_queue_size=_queue("BLRP")))
            self._providers.append(logs)
            self._logger = logs.get_logger("trustescalate")
        if os.environ.get("OTEL_TRACES_EXPORTER", "none").strip() == "otlp":
            spans = TracerProvider(resource=resource, shutdown_on_exit=False)
            counted = self._counted(OTLPSpanExporter(), SpanExportResult.SUCCESS)
            spans.add_span_processor(BatchSpanProcessor(counted, max_queue_size=_queue("BSP")))
            self._providers.append(spans)
            self._tracer = spans.get_tracer("trustescalate")

    def _counted(self, exporter: Any, success: Any) -> Any:
        self._exporters.append(_Counting(exporter, success))
        return self._exporters[-1]

    def decided(self, item: Item, decision: Decision, certificate: Certificate) -> None:
        """Queue the event of a decision, as a part of the trace that the item's meta names."""
        self._emitted += 1
        with suppress(Exception):  # what is not accepted is counted, and ends nothing
            self._emit(_context(item), evaluation_attributes(self.name, item, decision, certificate))

    def _emit(self, context: Context, attributes: dict[str, Any]) -> None:
        now = time_ns()
        if self._logger is not None:
            self._logger.emit(
                timestamp=now,
                context=context,
                severity_number=SeverityNumber.INFO,
                event_name=EVENT,
                attributes=attributes,
            )
        if self._tracer is not None:
            kind = {"openinference.span.kind": "EVALUATOR", "langfuse.observation.type": "evaluator"}
            span = self._tracer.start_span(
                f"{EVENT} {attributes['gen_ai.evaluation.name']}",
                context,
                attributes=attributes | kind,
                start_time=now,
            )
            span.end(now)

    def close(self, wait_s: float = WAIT_S) -> str:
        """Send what waits, for `wait_s` seconds at most. Returns a sentence about what was accepted."""
        closing = [Thread(target=provider.shutdown, daemon=True) for provider in self._providers]
        for thread in closing:
            thread.start()
        until = monotonic() + wait_s
        for thread in closing:
            thread.join(max(0.0, until - monotonic()))
        accepted = min((exporter.accepted for exporter in self._exporters), default=0)
        if not self._exporters:
            return "OpenTelemetry: OTEL_LOGS_EXPORTER and OTEL_TRACES_EXPORTER send nothing"
        if accepted < self._emitted:
            return (
                f"OpenTelemetry: {self._emitted - accepted:,} of {self._emitted:,} events were not accepted"
            )
        return f"OpenTelemetry: {accepted:,} events sent"


def evaluation_attributes(
    name: str, item: Item, decision: Decision, certificate: Certificate
) -> dict[str, Any]:
    """The attributes of a decision's event. An abstention has the label "abstained" and no score."""
    verdict = CertifiedVerdict(item, decision, certificate)
    row = row_name(item)
    _, failed, codes = decision.reason.partition(FAILED_VOTES)
    response = item.meta.get("response_id")
    given = {
        "gen_ai.evaluation.name": f"{name}.{row.criterion}" if row.criterion else name,
        "gen_ai.evaluation.score.value": verdict.value,
        "gen_ai.evaluation.score.label": ABSTAINED if verdict.label is None else verdict.label,
        "gen_ai.evaluation.explanation": verdict.explanation,
        "gen_ai.response.id": response if isinstance(response, str) else None,
        "error.type": codes.split(", ")[0] if failed and verdict.label is None else None,
        "trustescalate.certificate.id": certificate.id,
        "trustescalate.certificate.status": certificate.status,
        "trustescalate.certificate.alpha": certificate.alpha,
        "trustescalate.certificate.delta": certificate.delta,
        "trustescalate.certificate.claim": certificate.claim,
        "trustescalate.item.id": row.item_id,
        "trustescalate.judge": decision.judge,
        "trustescalate.judge.score": decision.score,
        "trustescalate.abstained": verdict.label is None,
        "trustescalate.reason": decision.reason,
    }
    return {key: _encodable(value) for key, value in given.items() if value is not None}


def _encodable(value: Any) -> Any:
    """A text without halves of surrogate pairs, one of which would cost its whole batch."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _context(item: Item) -> Context:
    """The trace context of an item: `trace_id` and `span_id` of its meta, in hexadecimal; else none."""
    trace, span = (str(item.meta.get(key, "")) for key in ("trace_id", "span_id"))
    if not re.fullmatch("[0-9a-fA-F]{32}", trace) or not re.fullmatch("[0-9a-fA-F]{16}", span):
        return Context()
    parent = SpanContext(
        int(trace, 16), int(span, 16), is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED)
    )
    return set_span_in_context(NonRecordingSpan(parent), Context())


def _queue(signal: str) -> int | None:
    return None if os.environ.get(f"OTEL_{signal}_MAX_QUEUE_SIZE") else QUEUE


@contextmanager
def sending(project: Project, name: str) -> Iterator[None]:
    """Send the decisions of a project's runs while this is open; at the end a notice says how many arrived.

    The SDK's own log is silent meanwhile: it would repeat that notice, and a header that it cannot parse.
    """
    log, hooks = logging.getLogger("opentelemetry"), project.hooks
    before = log.level
    log.setLevel(logging.CRITICAL + 1)
    events: EvaluationEvents | None = None
    try:
        events = EvaluationEvents(name)
        project.hooks = replace(hooks, decided=events.decided)
    except Exception as error:  # of a variable that the SDK cannot use
        hooks.notice(f"OpenTelemetry: nothing is sent: {type(error).__name__}")
    try:
        yield
    finally:
        if events is not None:
            hooks.notice(events.close())
        project.hooks = hooks
        log.setLevel(before)
