"""Files of batch results: bounded lines, and answers that are none."""

import json
from pathlib import Path
from typing import Any

import pytest

from trustescalate.errors import UsageError
from trustescalate.judges import batch_api
from trustescalate.judges.batch_api import bounded_lines, read_lines
from trustescalate.judges.batch_files import _read_ticket


def line(body: Any, status: Any = 200, key: str = "k") -> bytes:
    return json.dumps({"custom_id": key, "response": {"status_code": status, "body": body}}).encode()


def said(text: str, **more: Any) -> dict[str, Any]:
    return {"choices": [{"message": {"content": text}, "finish_reason": "stop", **more}]}


NAN = {"content": [{"token": "A", "logprob": float("nan")}]}


@pytest.mark.parametrize(
    ("body", "failure", "again"),
    [
        (said("A"), None, False),
        (said("A", logprobs=NAN), "bad_reply", False),
        (said(""), "empty", False),
        (said("", error={"code": 502, "message": "upstream"}), "server_error", True),
        ({"error": {"code": 429, "message": "slow down"}}, "rate_limited", True),
        ({"error": {"code": 400, "message": "no"}}, "bad_request", False),
        ("<html>", "server_error", True),
        (None, "server_error", True),
    ],
)
def test_a_line_that_is_no_answer_is_a_failure(body: Any, failure: str | None, again: bool) -> None:
    (outcome,) = read_lines([line(body)])
    assert (outcome.reply.failure, outcome.again) == (failure, again)


def test_a_line_keeps_the_model_that_answered() -> None:
    body = {"choices": [{"message": {"content": "A"}}], "model": "m-1", "system_fingerprint": "fp_1"}
    (outcome,) = read_lines([line(body)])
    assert outcome.reply.served == "m-1 fp_1"


def test_a_line_above_the_limit_is_a_bad_reply_and_the_next_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_api, "MOST_LINE", 1000)
    path = tmp_path / "results"
    path.write_bytes(b"\n".join([line(said("A" * 5000)), line(said("A"), key="l"), b"x" * 2500, b"{", b"7"]))
    lines = list(bounded_lines(path))
    assert max(map(len, lines)) <= 1001
    assert [(each.key, each.reply.failure) for each in read_lines(lines)] == [("k", "bad_reply"), ("l", None)]


def test_a_record_of_a_batch_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ab.json"
    path.write_bytes(b'{"name": 5')
    with pytest.raises(UsageError, match=r"ab\.json: not the record of a batch") as caught:
        _read_ticket(path)
    assert "remove it" in caught.value.hint
