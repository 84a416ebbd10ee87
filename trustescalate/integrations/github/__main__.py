"""`python -m trustescalate.integrations.github check`, then `comment`: the steps of the action."""

import os
import sys
import traceback
from collections.abc import Sequence
from io import TextIOWrapper
from pathlib import Path

from trustescalate.errors import EXIT_INTERNAL, EXIT_USAGE
from trustescalate.integrations.github.commands import annotation, log
from trustescalate.integrations.github.comment import CommentError, PullRequest
from trustescalate.integrations.github.inputs import read_event

BOT = "github-actions[bot]"


def comment() -> int:
    """Write the comment that `check` left in COMMENT_FILE. Whatever fails here leaves the gate's outcome."""
    file, event = os.environ.get("COMMENT_FILE", ""), read_event(os.environ)
    if not file or event.number is None:
        return 0
    request = PullRequest(
        api=os.environ.get("GITHUB_API_URL") or "https://api.github.com",
        token=os.environ.get("GITHUB_TOKEN", ""),
        repository=os.environ.get("GITHUB_REPOSITORY", ""),
        number=event.number,
        author=os.environ.get("COMMENT_AUTHOR", "").strip() or BOT,
    )
    text = Path(file).read_text(encoding="utf-8")
    try:
        change = request.upsert(text.partition("\n")[0], text)
    except CommentError as error:
        needs = "it needs pull-requests: write; the step summary has the report"
        log(annotation("warning", f"no comment: {error}; {needs}"))
        return 0
    log(f"comment on pull request {event.number}: {change}")
    return 0


def main(words: Sequence[str]) -> int:
    """Run a step; gives its exit code. A bug is no breach: it ends with 70."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        if list(words) == ["check"]:
            from trustescalate.integrations.github.check import check

            return check()
        if list(words) == ["comment"]:
            return comment()
    except Exception:
        traceback.print_exc()
        return EXIT_INTERNAL
    sys.stderr.write("usage: python -m trustescalate.integrations.github check | comment\n")
    return EXIT_USAGE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
