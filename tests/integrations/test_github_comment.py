"""One comment on a pull request, against an API on this machine: created, updated, left alone, refused."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.actions import BOT, Comments
from trustescalate.integrations.github.__main__ import comment
from trustescalate.integrations.github.comment import CommentError, PullRequest

MARKER = "<!-- trustescalate gate 0123456789abcdef -->"
BODY = f"{MARKER}\n\n## ✅ Release gate: pass"


@pytest.fixture
def api() -> Iterator[Comments]:
    with Comments() as comments:
        yield comments


class Naps:
    def __init__(self) -> None:
        self.slept: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)


def request(api: Comments, sleep: Any = None, **more: Any) -> PullRequest:
    given = {
        "token": "ghs_0123456789",
        "repository": "octo/repo",
        "number": 7,
        "author": BOT["login"],
        **more,
    }
    return PullRequest(api=api.url, sleep=sleep or Naps(), **given)


def test_the_comment_is_created_then_updated_in_place_then_left_alone(api: Comments) -> None:
    api.add("Looks good to me.", {"login": "ann", "type": "User"})
    assert request(api).upsert(MARKER, BODY) == "created"
    assert request(api).upsert(MARKER, BODY + "\n\nmore") == "updated"
    assert request(api).upsert(MARKER, BODY + "\r\n\r\nmore\n") == "unchanged"
    assert api.written == ["POST", "PATCH"]
    assert [row["body"] for row in api.rows] == ["Looks good to me.", BODY + "\n\nmore"]


def test_a_marker_that_somebody_else_wrote_is_not_taken(api: Comments) -> None:
    for user in (
        {"login": "mallory", "type": "User"},
        {"login": "other[bot]", "type": "Bot"},
        {"login": BOT["login"], "type": "User"},
    ):
        api.add(BODY, user)
    api.add(f"> quoted: {MARKER}")
    api.add("<!-- trustescalate gate fedcba9876543210 -->\n\nof another gate")
    before = [row["body"] for row in api.rows]
    assert request(api).upsert(MARKER, BODY) == "created"
    assert [row["body"] for row in api.rows] == [*before, BODY]
    api.add(BODY, {"login": "ann", "type": "User"})
    assert request(api, author="ann").upsert(MARKER, BODY) == "unchanged"


def test_the_comment_is_found_on_a_later_page(api: Comments) -> None:
    for number in range(205):
        api.add(f"comment {number}", {"login": "ann", "type": "User"})
    api.add(BODY)
    assert request(api).upsert(MARKER, BODY) == "unchanged"
    assert [path.rpartition("=")[2] for _, path in api.asked] == ["1", "2", "3"]


@pytest.mark.parametrize("status", [401, 403, 404, 422, 307])
def test_a_refusal_is_final_and_the_token_stays_here(api: Comments, status: int) -> None:
    api.refuse = lambda method, n: status if method == "POST" else None
    with pytest.raises(CommentError, match=f"GitHub answered {status}"):
        request(api).upsert(MARKER, BODY)
    assert api.written == ["POST"]


def test_a_busy_server_is_asked_three_times(api: Comments) -> None:
    naps = Naps()
    api.refuse = lambda method, n: 502
    with pytest.raises(CommentError, match=r"502 .*; asked 3 times"):
        request(api, naps).upsert(MARKER, BODY)
    assert [method for method, _ in api.asked] == ["GET"] * 3
    assert naps.slept == [1.0, 2.0]


def test_a_comment_whose_answer_was_lost_is_not_written_twice(api: Comments) -> None:
    api.lose = True
    api.refuse = lambda method, n: 500 if method == "POST" else None
    assert request(api).upsert(MARKER, BODY) == "unchanged"
    assert len(api.rows) == 1


def test_a_comment_that_fails_leaves_the_outcome(
    api: Comments, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.md").write_text(BODY, "utf-8")
    (tmp_path / "e.json").write_text('{"pull_request": {"number": 7}}', "utf-8")
    token = "ghs_secret-0123456789"
    for name, value in {
        "COMMENT_FILE": tmp_path / "c.md",
        "GITHUB_EVENT_PATH": tmp_path / "e.json",
        "GITHUB_API_URL": api.url,
        "GITHUB_TOKEN": token,
        "GITHUB_REPOSITORY": "octo/repo",
    }.items():
        monkeypatch.setenv(name, str(value))
    api.refuse = lambda method, n: 403
    assert comment() == 0
    shown = capsys.readouterr().out
    assert shown.startswith(
        "::warning::no comment: GitHub answered 403 (Resource not accessible by integration)"
    )
    assert token not in shown
    monkeypatch.setenv("GITHUB_API_URL", "file:///etc")
    assert comment() == 0
    assert "is no http or https address" in capsys.readouterr().out
