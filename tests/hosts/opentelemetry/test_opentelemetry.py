"""Events at a receiver of OTLP over HTTP: what arrives, what never does, and what a bad receiver costs."""

import base64
import gzip
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as gen_ai

from trustescalate import Certificate, Decision, Hooks, Item
from trustescalate.integrations.opentelemetry import EvaluationEvents, evaluation_attributes
from trustescalate.integrations.shared import SharedCascade

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "examples" / "integrations" / "opentelemetry_events.py"
SECRET = "pk-lf-1:sk-lf-very-secret"


class Receiver(ThreadingHTTPServer):
    """Keeps what is posted; `status` and `delay_s` make it a bad one."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.posts: list[tuple[str, Mapping[str, str], bytes]] = []
        self.status, self.delay_s = 200, 0.0

    @property
    def environment(self) -> dict[str, str]:
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.server_port}"}

    @property
    def events(self) -> list[Any]:
        """The log records of all posts."""
        posts = [
            ExportLogsServiceRequest.FromString(body) for path, _, body in self.posts if path == "/v1/logs"
        ]
        return [
            record
            for post in posts
            for resource in post.resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        ]

    @property
    def spans(self) -> list[Any]:
        """The spans of all posts."""
        posts = [
            ExportTraceServiceRequest.FromString(body) for path, _, body in self.posts if path == "/v1/traces"
        ]
        return [
            span
            for post in posts
            for resource in post.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        time.sleep(self.server.delay_s)
        self.server.posts.append((self.path, dict(self.headers), body))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def attributes(record: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in record.attributes}


def by_item(records: list[Any]) -> dict[str, dict[str, Any]]:
    return {given["trustescalate.item.id"]: given for given in map(attributes, records)}


def run(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "trustescalate", "run", *words],
        cwd=folder,
        env={**os.environ, **environment},
        check=False,
        capture_output=True,
        text=True,
    )


def decisions(folder: Path) -> dict[str, Any]:
    latest = max((folder / "runs").glob("*/decisions.jsonl"), key=lambda path: path.stat().st_mtime)
    rows = map(json.loads, latest.read_text("utf-8").splitlines())
    return {row["item_id"]: row.get("label") for row in rows}


@pytest.fixture
def folder(graded: Any, tmp_path: Path) -> Path:
    return Path(shutil.copytree(graded.folder, tmp_path / "project"))


def test_every_decision_arrives_and_no_text(graded: Any, folder: Path, receiver: Receiver) -> None:
    done = run(folder, "--otel", "correctness", **receiver.environment)
    assert done.returncode == 0
    assert f"note: OpenTelemetry: {len(graded.items)} events sent" in done.stderr
    assert {record.event_name for record in receiver.events} == {"gen_ai.evaluation.result"}
    events = by_item(receiver.events)
    labels = {name: given[gen_ai.GEN_AI_EVALUATION_SCORE_LABEL] for name, given in events.items()}
    assert labels == {name: label or "abstained" for name, label in graded.labels.items()}
    assert len(receiver.events) == len(labels) > 30
    for name, label in graded.labels.items():
        value = events[name].get(gen_ai.GEN_AI_EVALUATION_SCORE_VALUE)
        assert value == {"pass": 1.0, "fail": 0.0, None: None}[label]
        assert events[name]["trustescalate.abstained"] is (label is None)
        assert events[name][gen_ai.GEN_AI_EVALUATION_NAME] == "correctness"
    abstained = next(given for name, given in events.items() if graded.labels[name] is None)
    assert abstained[gen_ai.GEN_AI_EVALUATION_EXPLANATION].startswith("Abstained (")
    with SharedCascade(graded.config) as cascade:
        assert {given["trustescalate.certificate.id"] for given in events.values()} == {
            cascade.certificate().id
        }
    sent = b"".join(body for _, _, body in receiver.posts)
    for item in graded.items:
        assert item["prompt"].encode() not in sent
        assert len(item["responses"][0]) < 12 or item["responses"][0].encode() not in sent


def test_nothing_is_sent_without_the_option(folder: Path, receiver: Receiver) -> None:
    done = run(folder, **receiver.environment, OTEL_TRACES_EXPORTER="otlp", OTEL_LOGS_EXPORTER="otlp")
    assert (done.returncode, receiver.posts) == (0, [])
    assert "OpenTelemetry" not in done.stderr


def test_an_event_belongs_to_the_trace_of_its_item(graded: Any, folder: Path, receiver: Receiver) -> None:
    trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    traced, other = dict(graded.items[0]), dict(graded.items[1])
    traced["meta"] = {"trace_id": trace, "span_id": span, "response_id": "chatcmpl-1"}
    other["meta"] = {"trace_id": "tr-not-hexadecimal", "span_id": 7}
    path = folder / "traced.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in (traced, other)), "utf-8")
    environment = {**receiver.environment, "OTEL_TRACES_EXPORTER": "otlp"}
    assert run(folder, "--otel", "x", "--items", str(path), **environment).returncode == 0
    with_parent, without = receiver.events
    assert (with_parent.trace_id.hex(), with_parent.span_id.hex()) == (trace, span)
    assert attributes(with_parent)["gen_ai.response.id"] == "chatcmpl-1"
    assert (without.trace_id, without.span_id) == (b"", b"")
    child, root = receiver.spans
    assert (child.trace_id.hex(), child.parent_span_id.hex()) == (trace, span)
    assert root.parent_span_id == b""


def test_a_receiver_of_traces_alone_gets_spans_and_a_key(
    graded: Any, folder: Path, receiver: Receiver
) -> None:
    """As Langfuse and Phoenix are: OTLP over HTTP at /v1/traces, a key in a header of the environment."""
    header = "Authorization=Basic%20" + base64.b64encode(SECRET.encode()).decode()
    environment = {
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_HEADERS": header,
    }
    done = run(folder, "--otel", "correctness", **receiver.environment, **environment)
    assert done.returncode == 0
    assert {path for path, _, _ in receiver.posts} == {"/v1/traces"}
    spans = by_item(receiver.spans)
    assert {name: given[gen_ai.GEN_AI_EVALUATION_SCORE_LABEL] for name, given in spans.items()} == {
        name: label or "abstained" for name, label in graded.labels.items()
    }
    assert {given["openinference.span.kind"] for given in spans.values()} == {"EVALUATOR"}
    key = header.removeprefix("Authorization=Basic%20")
    sent = {name.casefold(): value for name, value in receiver.posts[0][1].items()}
    assert sent["authorization"] == f"Basic {key}"
    written = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    assert key not in done.stdout + done.stderr
    assert not any(key.encode() in content for content in written)


@pytest.mark.parametrize("bad", ["refused", "status", "slow"])
def test_a_bad_receiver_neither_fails_nor_holds_up_a_run(
    bad: str, graded: Any, folder: Path, receiver: Receiver
) -> None:
    environment = {**receiver.environment, "OTEL_EXPORTER_OTLP_HEADERS": f"no header, {SECRET}"}
    if bad == "refused":
        environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:9"
    receiver.status, receiver.delay_s = (
        (503, 0.0) if bad == "status" else (200, 20.0 if bad == "slow" else 0.0)
    )
    began = time.monotonic()
    plain = run(folder)
    usual = time.monotonic() - began
    done = run(folder, "--otel", "correctness", **environment)
    assert time.monotonic() - began - usual < 2 * usual + 10
    assert (done.returncode, plain.returncode) == (0, 0)
    assert decisions(folder) == graded.labels
    count = len(graded.items)
    assert f"note: OpenTelemetry: {count} of {count} events were not accepted" in done.stderr
    assert "sk-lf" not in done.stdout + done.stderr


def test_a_variable_that_the_sdk_cannot_use_fails_no_run(
    graded: Any, folder: Path, receiver: Receiver
) -> None:
    done = run(folder, "--otel", "x", **receiver.environment, OTEL_BLRP_MAX_QUEUE_SIZE="-1")
    assert (done.returncode, decisions(folder)) == (0, graded.labels)
    assert "note: OpenTelemetry: nothing is sent: ValueError" in done.stderr


def test_without_a_certificate_there_is_an_error_and_no_event(folder: Path, receiver: Receiver) -> None:
    (folder / "certificate.json").unlink()
    done = run(folder, "--otel", "correctness", **receiver.environment)
    assert (done.returncode, receiver.events) == (3, [])
    assert "there is no certificate yet" in done.stderr
    refused = run(folder, "--otel", "correctness", "--uncertified", **receiver.environment)
    assert (refused.returncode, receiver.events) == (2, [])


def test_many_items_at_once_inside_a_program(
    pairs: Any, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in receiver.environment.items():
        monkeypatch.setenv(name, value)
    events = EvaluationEvents("preference")
    items = [Item(row["id"], row["prompt"], tuple(row["responses"])) for row in pairs.items]
    with (
        SharedCascade(pairs.config, hooks=Hooks(decided=events.decided)) as cascade,
        ThreadPoolExecutor(8) as pool,
    ):
        list(pool.map(cascade.judge, items))
    assert events.close() == f"OpenTelemetry: {len(items)} events sent"
    labels = {
        name: given["gen_ai.evaluation.score.label"] for name, given in by_item(receiver.events).items()
    }
    assert labels == {name: label or "abstained" for name, label in pairs.labels.items()}


def test_a_name_that_is_no_text_costs_no_other_event(
    graded: Any, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in receiver.environment.items():
        monkeypatch.setenv(name, value)
    events = EvaluationEvents("x")
    with SharedCascade(graded.config) as cascade:
        certificate: Certificate = cascade.certificate()
    failed = "below threshold, with failed votes: timeout, none"
    events.decided(Item("\ud800", "?", ("x",)), Decision("\ud800", None, None, None, failed, ()), certificate)
    events.decided(
        Item("q", "?", ("x",)), Decision("q", "unknown", "small", 0.9, "accepted", ()), certificate
    )
    events.decided(
        Item("r", "?", ("x",)), Decision("r", None, None, None, "below threshold", ()), certificate
    )
    assert events.close() == "OpenTelemetry: 1 of 3 events were not accepted"
    first, last = map(attributes, receiver.events)
    assert (first["trustescalate.item.id"], first["error.type"]) == ("?", "timeout")
    assert "error.type" not in last


def test_the_script_of_the_page(graded: Any, folder: Path, receiver: Receiver) -> None:
    assert len(SCRIPT.read_text("utf-8").splitlines()) <= 20
    done = subprocess.run(
        [sys.executable, str(SCRIPT)],
        cwd=folder,
        input="".join(json.dumps(row) + "\n" for row in graded.items),
        env={**os.environ, **receiver.environment},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.stdout == f"OpenTelemetry: {len(graded.items)} events sent\n", done.stderr
    labels = {
        name: given["gen_ai.evaluation.score.label"] for name, given in by_item(receiver.events).items()
    }
    assert labels == {name: label or "abstained" for name, label in graded.labels.items()}


def test_a_criterion_follows_the_name(graded: Any) -> None:
    with SharedCascade(graded.config) as cascade:
        certificate = cascade.certificate()
    item = Item("q#clarity", "?", ("x",), meta={"criterion": "clarity"})
    given = evaluation_attributes("quality", item, Decision(item.id, None, None, None, "x", ()), certificate)
    assert (given["gen_ai.evaluation.name"], given["trustescalate.item.id"]) == ("quality.clarity", "q")
