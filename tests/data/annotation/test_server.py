"""Who gets in, who gets nothing, and what is on the disk when an answer is acknowledged."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.projects import write_project
from trustescalate.analysis.queues import queue_calibration
from trustescalate.data.annotation.answers import AnswerFile, read_answers
from trustescalate.data.annotation.collect import collect_answers
from trustescalate.data.annotation.markdown import formatted
from trustescalate.data.annotation.queue import Queue, QueueHeader, QueueRow, open_queue, read_queue
from trustescalate.data.annotation.server import SECONDS
from trustescalate.data.annotation.session import AnnotationSession, clean_name, options
from trustescalate.project import Project
from trustescalate.records import Task, TaskKind, Turn
from trustescalate.records.progress import Hooks

pytestmark = pytest.mark.slow
Serve = Callable[[Path], tuple[str, "subprocess.Popen[str]"]]
ROWS = 5


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = write_project(tmp_path)
    queue_calibration(Project.open(path).config, Hooks(), ROWS)
    return path


class Client:
    """Plain requests, with whatever headers a test wants."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.host, self.port, self.path = str(parts.hostname), int(parts.port or 0), parts.path

    def ask(
        self, path: str, body: Any = None, method: str = "", headers: dict[str, str] | None = None
    ) -> tuple[int, bytes, http.client.HTTPMessage]:
        """`path` is under the token, or absolute."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=10)
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        kind = {} if body is None else {"Content-Type": "application/json"}
        way = method or ("GET" if body is None else "POST")
        place = path if path.startswith("/") else self.path + path
        connection.request(way, place, data, {**kind, **(headers or {})})
        reply = connection.getresponse()
        found = reply.status, reply.read(), reply.headers
        connection.close()
        return found

    def json(self, path: str, body: Any = None) -> Any:
        status, data, _ = self.ask(path, body)
        assert status == 200, data
        return json.loads(data)


ANSWER = {"annotator": "ann", "row": 0, "answer": "first", "seconds": 1.25}


# ── who gets in ──────────────────────────────────────────────────────────────────────────────────


def test_nobody_gets_anything_without_the_token_or_from_elsewhere(config: Path, serve: Serve) -> None:
    url, _ = serve(config)
    client = Client(url)
    assert client.host == "127.0.0.1"
    assert len(client.path.strip("/")) >= 32
    wrong = "/" + "x" * (len(client.path) - 2) + "/"
    own = f"127.0.0.1:{client.port}"
    refused: list[tuple[str, Any, dict[str, str]]] = [
        ("/", None, {}),
        ("/page.js", None, {}),
        ("/api/task", None, {}),
        (wrong, None, {}),
        (wrong + "api/row/0", None, {}),
        (client.path[:-2] + "/", None, {}),
        (wrong + "api/answer", ANSWER, {}),
        ("/api/answer", ANSWER, {}),
        ("", None, {"Host": "evil.example"}),
        ("", None, {"Host": f"evil.example:{client.port}"}),
        ("", None, {"Host": "127.0.0.1"}),
        ("", None, {"Host": f"127.0.0.1:{client.port + 1}"}),
        ("", None, {"Host": ""}),
        ("api/answer", ANSWER, {"Host": f"evil.example:{client.port}"}),
        ("api/answer", ANSWER, {"Origin": "https://evil.example"}),
        ("api/answer", ANSWER, {"Origin": "null"}),
        ("api/answer", ANSWER, {"Sec-Fetch-Site": "cross-site"}),
        ("api/answer", ANSWER, {"Content-Type": "text/plain"}),
        ("api/row/0", None, {"Sec-Fetch-Site": "same-site"}),
    ]
    for path, body, headers in refused:
        status, data, sent = client.ask(path, body, headers=headers)
        assert (status, data) == (404, b""), (path, headers)
        assert "Access-Control-Allow-Origin" not in sent
    assert client.ask("api/answer", ANSWER, "OPTIONS")[:2] == (405, b"")
    assert client.json("api/task")["people"] == [], "a refused request was answered"
    assert client.ask("", headers={"Host": own})[0] == 200
    assert client.ask("", headers={"Host": f"localhost:{client.port}"})[0] == 200


def test_it_listens_on_the_loopback_interface_alone(config: Path, serve: Serve) -> None:
    client = Client(serve(config)[0])
    listening = Path("/proc/net/tcp")
    if not listening.exists():
        pytest.skip("no /proc/net/tcp here")
    ours = [line.split() for line in listening.read_text().splitlines()[1:]]
    places = {row[1] for row in ours if row[1].endswith(f":{client.port:04X}") and row[3] == "0A"}
    assert places == {f"0100007F:{client.port:04X}"}


def test_the_page_loads_nothing_and_runs_nothing_but_its_own_script(config: Path, serve: Serve) -> None:
    client = Client(serve(config)[0])
    status, page, headers = client.ask("")
    assert status == 200
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert b'<script type="module" src="page.js"></script>' in page
    assert page.count(b"<script") == 1
    assert b"style=" not in page
    assert b"http://" not in page
    assert b"https://" not in page
    assert (headers["Cache-Control"], headers["Referrer-Policy"]) == ("no-store", "no-referrer")
    assert "aiohttp" not in headers["Server"]
    scripts = ("page.js", "texts.js", "diff.js")
    for name, kind in (*((name, "text/javascript") for name in scripts), ("page.css", "text/css")):
        _, data, sent = client.ask(name)
        assert sent["Content-Type"].startswith(kind)
        for risk in (b"innerHTML", b"outerHTML", b"insertAdjacent", b"document.write", b"eval(", b"http"):
            assert risk not in data, (name, risk)
    for name in ("server.py", "..", "%2e%2e/", "page.html", "api/", "api/row/-1"):
        assert client.ask(name)[:2] == (404, b"")


# ── what is kept ─────────────────────────────────────────────────────────────────────────────────


def test_what_was_acknowledged_survives_a_kill(config: Path, serve: Serve) -> None:
    url, process = serve(config)
    client = Client(url)
    assert client.json("api/answer", ANSWER) == {"done": 1}
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=10)
    again = Client(serve(config)[0])
    assert again.path != client.path, "the token is an old one"
    assert again.json("api/start", {"annotator": " ann "}) == {"annotator": "ann", "answers": {"0": "first"}}
    (kept,) = read_answers(open_queue(Project.open(config).config).folder / "answers.jsonl")
    assert (kept.annotator, kept.answer, kept.seconds) == ("ann", "first", 1.2)


def test_people_change_their_minds_and_see_nobody_elses(config: Path, serve: Serve) -> None:
    client = Client(serve(config)[0])
    for who, row, said in (("ann", 0, "first"), ("ann", 1, "tie"), ("bob", 0, "second"), ("ann", 0, "skip")):
        client.json("api/answer", {**ANSWER, "annotator": who, "row": row, "answer": said})
    assert client.json("api/start", {"annotator": "ann"})["answers"] == {"1": "tie", "0": "skip"}
    assert client.json("api/undo", {"annotator": "ann"}) == {"row": 0, "done": 1}
    assert client.json("api/undo", {"annotator": "ann"}) == {"row": 1, "done": 0}
    assert client.json("api/undo", {"annotator": "ann"}) == {"row": None, "done": 0}
    assert client.json("api/start", {"annotator": "bob"})["answers"] == {"0": "second"}
    assert client.json("api/agreement", {"annotator": "bob"}) == {"pairs": [], "alpha": None}
    assert client.json("api/task")["people"] == [{"name": "bob", "done": 1}]


def test_a_skip_keeps_its_reason_and_a_draft_is_no_answer(config: Path) -> None:
    queue = open_queue(Project.open(config).config)
    with AnswerFile(queue.folder) as file:
        session = AnnotationSession(queue, file)
        session.answer("ann", 0, "skip", 1.0, " too\u202e long\n")
        session.draft("ann", 1, "half a rea")
    with AnswerFile(queue.folder) as file:
        session = AnnotationSession(queue, file)
        started = session.start("ann")
        assert (started["answers"], started["reasons"]) == ({"0": "skip"}, {"0": "too long"})
        assert started["draft"] == {"row": 1, "text": "half a rea"}
        assert "draft" not in session.start("bob")
        session.answer("ann", 1, "first", 1.0)
        assert "draft" not in session.start("ann")
    collected = collect_answers(Project.open(config).config)
    assert collected.skip_reasons == {"another reason": 1}
    assert "skipped: another reason (1)" in collected.lines()
    rows = [json.loads(line) for line in (config.parent / "annotations.jsonl").read_text().splitlines()]
    assert [row["reason"] for row in rows if "reason" in row] == ["too long"]


def test_a_running_figure_tells_no_single_label(tmp_path: Path) -> None:
    """In steps of ten items, over first labels: neither one answer nor a changed one moves it."""
    rows = [QueueRow(f"x{n}", "", "?", ("a",), None) for n in range(25)]
    with AnswerFile(tmp_path) as file:
        session = AnnotationSession(made(Task(TaskKind.BINARY, "Fine?", ("pass", "fail")), *rows), file)
        for n in range(25):
            assert "agreement" not in session.answer("ann", n, "pass", None)
        figures = [session.answer("bob", n, "pass" if n % 2 else "fail", None) for n in range(21)]
        assert [each.get("agreement", {}).get("compared") for each in figures] == (
            [None] * 9 + [10] * 10 + [20] * 2
        )
        assert figures[-1]["agreement"] == {"agreed": 10, "compared": 20}
        for n in range(20):
            changed = session.answer("bob", n, "pass", None)
        assert changed["agreement"] == {"agreed": 10, "compared": 20}
        assert session.undo("bob")["agreement"] == {"agreed": 10, "compared": 20}
    with AnswerFile(tmp_path) as file:
        again = AnnotationSession(made(Task(TaskKind.BINARY, "Fine?", ("pass", "fail")), *rows), file)
        assert again.start("bob")["agreement"] == {"agreed": 10, "compared": 20}


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        ("[a]: http://x 'hidden words'\n\n*text*", False),
        ("| a | b |\n|---|---|\n| 1 | 2 | hidden |", True),
        ("> " * 200 + "deep\n\n**b**", True),
        ("*a* &lt;b&gt;", False),
        ("```info words\ncode\n```", False),
        ("*a*" * 40_000, True),
        ("*a " * 2000 + "a*" * 2000, True),
    ],
)
def test_formatting_hides_no_word(text: str, lost: bool) -> None:
    tree = formatted(text)
    assert (tree is None) == lost
    if tree is not None:
        shown = json.dumps(tree)
        assert all(word in shown for word in re.findall("[a-z]+", text))


def test_agreement_is_shown_to_those_who_are_done(config: Path, serve: Serve) -> None:
    client = Client(serve(config)[0])
    for who, said in (("ann", "first"), ("bob", "second")):
        for row in range(ROWS):
            body = {**ANSWER, "annotator": who, "row": row, "answer": said if row else "tie"}
            client.json("api/answer", body)
        found = client.json("api/agreement", {"annotator": who})
    pair = {"first": "ann", "second": "bob", "agreed": 1, "compared": ROWS}
    assert found["pairs"] == [pair]
    assert found["alpha"] < 0.2
    client.json("api/undo", {"annotator": "bob"})
    assert client.json("api/agreement", {"annotator": "bob"})["pairs"] == []


IMPOSSIBLE: list[tuple[str, Any]] = [
    ("api/answer", {**ANSWER, "row": ROWS}),
    ("api/answer", {**ANSWER, "row": -1}),
    ("api/answer", {**ANSWER, "row": True}),
    ("api/answer", {**ANSWER, "row": "0"}),
    ("api/answer", {**ANSWER, "answer": "A"}),
    ("api/answer", {**ANSWER, "annotator": "  "}),
    ("api/answer", {**ANSWER, "annotator": "x" * 81}),
    ("api/answer", {**ANSWER, "more": 1}),
    ("api/answer", {"annotator": "ann"}),
    ("api/answer", [1]),
    ("api/answer", b"{"),
    ("api/answer", b"[" * 15_000),
    ("api/answer", b"\xff\xfe"),
    ("api/start", {"annotator": 7}),
    ("api/answer", {**ANSWER, "reason": "I cannot decide"}),
    ("api/answer", {**ANSWER, "answer": "skip", "reason": " "}),
    ("api/answer", {**ANSWER, "answer": "skip", "reason": "x" * 201}),
    ("api/answer", {**ANSWER, "answer": "skip", "reason": 7}),
    ("api/draft", {"annotator": "ann", "row": ROWS, "text": "x"}),
    ("api/draft", {"annotator": "ann", "row": 0, "text": "x" * 201}),
    ("api/draft", {"annotator": "ann", "row": 0}),
    ("api/undo", {}),
    ("api/row/99", None),
]


def test_what_cannot_be_is_refused_and_nothing_is_written(config: Path, serve: Serve) -> None:
    client = Client(serve(config)[0])
    for path, body in IMPOSSIBLE:
        status, data, _ = client.ask(path, body)
        assert status == 400, (path, body)
        assert json.loads(data)["error"]
    assert (open_queue(Project.open(config).config).folder / "answers.jsonl").read_bytes() == b""


def test_a_body_that_is_too_long_is_refused(config: Path, serve: Serve) -> None:
    client = Client(serve(config)[0])
    assert client.ask("api/answer", {**ANSWER, "annotator": "x" * 20_000})[:2] == (413, b"")


def test_half_open_connections_keep_nobody_out(config: Path, serve: Serve) -> None:
    url, process = serve(config)
    client, opened = Client(url), []
    half = [
        b"",
        b"GET / HT",
        b"GET / HTTP/1.1\r\nHost: x\r\n",
        f"POST {client.path}api/start HTTP/1.1\r\n".encode(),
    ]
    late = (
        f"POST {client.path}api/start HTTP/1.1\r\nHost: {client.host}:{client.port}\r\n"
        "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    )
    for number in range(300):
        opened.append(socket.create_connection((client.host, client.port), 5))
        opened[-1].sendall([*half, late.encode()][number % 5])
    began = time.monotonic()
    for _ in range(3):
        assert client.json("api/task")["rows"]
    assert client.json("api/start", {"annotator": "ann"})
    assert time.monotonic() - began < 5
    opened[-1].settimeout(3 * SECONDS)
    assert b" 408 " in opened[-1].recv(100), "a body that does not come is not waited for"
    opened[-3].settimeout(3 * SECONDS)
    assert opened[-3].recv(100) == b"", "nor is a head"
    for each in opened:
        each.close()
    assert client.json("api/task")["rows"]
    process.send_signal(signal.SIGINT)
    assert "Traceback" not in (log := process.communicate(timeout=10)[1]), log[-600:]


BAD = {
    "garbage": b"\x00\xff\xfe garbage \r\n\r\n",
    "one line": b"hello\r\n\r\n",
    "TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(200)),
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/9.9": b"GET / HTTP/9.9\r\n\r\n",
    "huge header": b"GET / HTTP/1.1\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
    "huge target": b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n",
    "many headers": b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 40_000 + b"\r\n",
    "length is no number": b"POST / HTTP/1.1\r\nContent-Length: many\r\n\r\n",
    "length below 0": b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "length and chunks": b"POST / HTTP/1.1\r\nContent-Length: 1\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "bad chunks": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "NUL in a header": b"GET / HTTP/1.1\r\nX: \x00\r\n\r\n",
    "bad target": b"GET http://[/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "asterisk": b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    "connect": b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
    "upgrade": b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    "expectation": b"POST / HTTP/1.1\r\nHost: x\r\nExpect: gold\r\nContent-Length: 1\r\n\r\na",
}


def test_a_bad_request_is_refused_without_a_traceback(config: Path, serve: Serve) -> None:
    url, process = serve(config)
    client = Client(url)
    for name, sent in BAD.items():
        with socket.create_connection((client.host, client.port), 5) as connection:
            connection.settimeout(2 * SECONDS)
            with contextlib.suppress(ConnectionError):
                connection.sendall(sent)
                reply = connection.recv(65536)
                assert reply == b"" or reply[8:13] in (b" 400 ", b" 404 ", b" 417 "), (
                    name,
                    reply,
                )
                assert b"Traceback" not in reply, name
    late = f"POST {client.path}api/start HTTP/1.1\r\nHost: {client.host}:{client.port}\r\n"
    for rest in ("Content-Length: 5\r\n\r\n{}", "Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n"):
        with socket.create_connection((client.host, client.port), 5) as connection:
            connection.sendall(f"{late}Content-Type: application/json\r\n{rest}".encode())
    assert client.json("api/task")["rows"]
    process.send_signal(signal.SIGINT)
    assert "Traceback" not in (log := process.communicate(timeout=10)[1]), log[-600:]


def test_one_queue_has_one_server_and_ctrl_c_ends_it(config: Path, serve: Serve) -> None:
    _, first = serve(config)
    url, second = serve(config)
    assert url == ""
    _, error = second.communicate(timeout=20)
    assert second.returncode == 2
    assert "served already" in error
    first.send_signal(signal.SIGINT)
    _, error = first.communicate(timeout=20)
    assert first.returncode == 0
    assert "every answer is kept; next: `trustescalate label import" in error


# ── what is shown ────────────────────────────────────────────────────────────────────────────────


def test_a_row_is_texts_and_nothing_else(config: Path, serve: Serve) -> None:
    client = Client(serve(config)[0])
    queue = open_queue(Project.open(config).config)
    for place, row in enumerate(queue.asked):
        shown = client.json(f"api/row/{place}")
        assert shown.keys() == {"row", "prompt", "responses", "reference"}
        assert [turn["text"] for said in shown["responses"] for turn in said] == list(row.responses)
        assert row.item_id not in json.dumps(shown)


GRADES = tuple(map(str, range(20)))


def made(task: Task, *rows: QueueRow) -> Queue:
    return Queue(QueueHeader(1, "q", "sample", task, 0, ""), rows, Path())


def test_turns_are_shown_as_turns(tmp_path: Path) -> None:
    turns = (Turn("assistant", "Hello."), Turn("user", "And now?"), Turn("assistant", "Bye."))
    row = QueueRow("x", "", (Turn("user", "Hi"),), (turns,), "ref")
    with AnswerFile(tmp_path) as file:
        session = AnnotationSession(made(Task(TaskKind.BINARY, "Fine?", ("pass", "fail")), row), file)
        shown = session.row(0)
    assert shown["prompt"] == [{"role": "user", "text": "Hi"}]
    assert [turn["role"] for turn in shown["responses"][0]] == ["assistant", "user", "assistant"]
    assert shown["reference"] == [{"role": "", "text": "ref"}]


def test_an_empty_response_is_shown_as_one(tmp_path: Path) -> None:
    row = QueueRow("x", "", "Hi?", ("", " \n"), None)
    with AnswerFile(tmp_path) as file:
        shown = AnnotationSession(made(Task(TaskKind.PAIRWISE, "Better?", ("A", "B")), row), file).row(0)
    assert shown["responses"] == [[{"role": "", "text": "(empty response)"}]] * 2


@pytest.mark.parametrize(
    ("task", "keys"),
    [
        (Task(TaskKind.PAIRWISE, "?", ("A", "B"), "drop"), [["1", "a"], ["2", "b"], ["0", "t"], ["s"]]),
        (Task(TaskKind.BINARY, "?", ("pass", "fail")), [["1", "p"], ["2", "f"], ["s"]]),
        (Task(TaskKind.RATING, "?", ("0", "1", "2")), [["0"], ["1"], ["2"], ["s"]]),
        (Task(TaskKind.CHOICE, "?", ("safe", "unsafe", "x")), [["1"], ["2"], ["3", "x"], ["s"]]),
        (Task(TaskKind.RATING, "?", GRADES[1:11]), [*([str(n)] for n in range(1, 10)), ["0"], ["s"]]),
        (Task(TaskKind.RATING, "?", GRADES[9:13]), [["9"], [], [], [], ["s"]]),
    ],
)  # fmt: skip
def test_no_key_has_two_meanings(task: Task, keys: list[list[str]]) -> None:
    found = [each["keys"] for each in options(made(task))]
    assert found == keys
    flat = [key for own in found for key in own]
    assert len(set(flat)) == len(flat)
    assert "u" not in flat


def test_many_labels_that_begin_alike_keep_their_keys_apart() -> None:
    labels = (*(f"label {n}" for n in range(20)), "7 wonders", "ünder")
    flat = [key for each in options(made(Task(TaskKind.CHOICE, "?", labels))) for key in each["keys"]]
    assert len(set(flat)) == len(flat)


@pytest.mark.parametrize(
    ("given", "kept"),
    [("ann", "ann"), (" a\tb\n", "a b"), ("Zoe\u0308", "Zoë"), ("x\u202ey", "x y"), ("a\ud800b", "a b")],
)
def test_a_name_is_kept_clean(given: str, kept: str) -> None:
    assert clean_name(given) == kept


def test_a_second_process_reads_the_same_queue(config: Path) -> None:
    queue = open_queue(Project.open(config).config)
    assert read_queue(queue.folder) == queue
    assert os.listdir(queue.folder) == ["queue.jsonl"]
