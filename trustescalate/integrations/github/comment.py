"""Keep one comment on a pull request: found by a hidden marker, updated in place, only when it changed."""

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage
from typing import IO, Any, Literal
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from trustescalate.report.text import one_line

ATTEMPTS = 3
MOST_PAGES = 30
"""Of 100 comments each; a pull request has at most 2,500."""
MOST_BYTES = 64 * 2**20
TIMEOUT = 30.0
LONGEST_WAIT = 30.0
RETRIED = (429, 500, 502, 503, 504)
Change = Literal["created", "updated", "unchanged"]


class CommentError(Exception):
    """The comment could not be written; the gate's outcome stands."""


class _Busy(Exception):
    """A request that may succeed later, after `wait` seconds."""

    def __init__(self, why: str, wait: float | None = None) -> None:
        super().__init__(why)
        self.wait = wait


class _NoRedirect(HTTPRedirectHandler):
    """A redirect could take the token to another host."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        """Follow none."""


@dataclass(frozen=True, slots=True)
class PullRequest:
    """A pull request at an API of GitHub. `author` is the login whose comments are this action's."""

    api: str
    token: str
    repository: str
    number: int
    author: str
    sleep: Callable[[float], None] = time.sleep

    def upsert(self, marker: str, body: str) -> Change:
        """Create the comment that begins with `marker`, or update it where its text differs.

        Raises CommentError; a server that is busy is asked three times. Each attempt looks for the comment
        first, so that one that was written before its answer was lost is not written twice.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._upsert(marker, body)
            except _Busy as busy:
                if attempt == ATTEMPTS:
                    raise CommentError(f"{busy}; asked {ATTEMPTS} times") from None
                self.sleep(min(LONGEST_WAIT, busy.wait or 2.0 ** (attempt - 1)))
        raise AssertionError

    def _upsert(self, marker: str, body: str) -> Change:
        repository = quote(self.repository, safe="/")
        own = next((row for row in self._comments(repository) if self._is_own(row, marker)), None)
        if own is None:
            self._send("POST", f"/repos/{repository}/issues/{self.number}/comments", {"body": body})
            return "created"
        if _normal(own["body"]) == _normal(body):
            return "unchanged"
        self._send("PATCH", f"/repos/{repository}/issues/comments/{int(own['id'])}", {"body": body})
        return "updated"

    def _comments(self, repository: str) -> Iterator[dict[str, Any]]:
        for page in range(1, MOST_PAGES + 1):
            path = f"/repos/{repository}/issues/{self.number}/comments?per_page=100&page={page}"
            rows, link = self._send("GET", path)
            if not isinstance(rows, list):
                raise CommentError("GitHub's answer is no list of comments")
            yield from (row for row in rows if isinstance(row, dict))
            if len(rows) < 100 and 'rel="next"' not in link:
                return

    def _is_own(self, row: dict[str, Any], marker: str) -> bool:
        """Whether this action wrote a comment: a marker alone can be copied by anyone."""
        user, body = row.get("user"), row.get("body")
        if not isinstance(user, dict) or not isinstance(body, str) or not isinstance(row.get("id"), int):
            return False
        is_bot = user.get("type") == "Bot"
        return (
            user.get("login") == self.author
            and is_bot == self.author.endswith("[bot]")
            and (body.lstrip().startswith(marker))
        )

    def _send(self, method: str, path: str, content: dict[str, str] | None = None) -> tuple[Any, str]:
        address = self.api.rstrip("/") + path
        if urlsplit(address).scheme not in ("http", "https"):
            raise CommentError("GITHUB_API_URL is no http or https address")
        headers = {
            "Accept": "application/vnd.github+json",
            "Authorization": f"Bearer {self.token}",
            "User-Agent": "trustescalate",
            "X-GitHub-Api-Version": "2022-11-28",
            "Content-Type": "application/json",
        }
        data = None if content is None else json.dumps(content).encode()
        request = Request(address, data=data, headers=headers, method=method)
        try:
            with build_opener(_NoRedirect()).open(request, timeout=TIMEOUT) as answer:
                read = answer.read(MOST_BYTES + 1)
                link = str(answer.headers.get("Link", ""))
        except HTTPError as error:
            with error:
                raise self._refused(error) from None
        except (URLError, OSError, HTTPException) as error:
            reason = getattr(error, "reason", None) or type(error).__name__
            raise _Busy(f"GitHub cannot be reached ({self._shown(str(reason))})") from None
        if len(read) > MOST_BYTES:
            raise CommentError("GitHub's answer is too long")
        try:
            return json.loads(read), link
        except ValueError:
            raise _Busy("GitHub's answer is no JSON") from None

    def _refused(self, error: HTTPError) -> Exception:
        message = ""
        try:
            given = json.loads(error.read(100_000))
            message = self._shown(str(given["message"]))
        except (ValueError, KeyError, TypeError, OSError, HTTPException):
            pass
        why = f"GitHub answered {error.code}" + (f" ({message})" if message else "")
        wait = error.headers.get("Retry-After", "")
        if error.code in RETRIED or (error.code == 403 and wait):
            return _Busy(why, float(wait) if re.fullmatch(r"\d{1,4}", wait) else None)
        return CommentError(why)

    def _shown(self, text: str) -> str:
        plain = text.replace(self.token, "***") if self.token else text
        return one_line(plain)[:200]


def _normal(text: str) -> str:
    """A text as GitHub may store it."""
    return text.replace("\r\n", "\n").strip()
