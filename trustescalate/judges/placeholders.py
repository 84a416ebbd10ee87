"""Recognize a placeholder that a judge copies where its own words belong."""

import re

_NAMED = (
    r"left out|omitted|reason(?:ing|s)?|verdict|label|explanation|confidence|probability|your [\w ]{1,40}"
)
_PLACEHOLDER = re.compile(rf"\.{{2,}}|…+|[<(\[{{](?:{_NAMED})[>)\]}}]", re.IGNORECASE)


def is_placeholder(text: str) -> bool:
    """Whether a value is a placeholder and nothing else.

    >>> [is_placeholder(text) for text in ("(left out)", "<reasoning>", "…", "{your reasoning}")]
    [True, True, True, True]
    >>> [is_placeholder(text) for text in ("", "<think>", "Response A is right ... so far.")]
    [False, False, False]
    """
    return _PLACEHOLDER.fullmatch(text.strip().strip("\"'*`").strip()) is not None


def copied_placeholder(reply: str) -> str:
    """The first placeholder that fills a line of a reply, or one of its values; "" without one.

    >>> copied_placeholder("(left out)\\n\\nVerdict 5a3f: A"), copied_placeholder('{"reasoning": "..."}')
    ('(left out)', '...')
    >>> copied_placeholder("Verdict 5a3f: A, (left out)"), copied_placeholder("It is right. Verdict: A")
    ('(left out)', '')
    """
    pieces = (piece for line in reply.splitlines() for piece in (line, *re.split(r'[,:"]', line)))
    return next((piece.strip() for piece in pieces if is_placeholder(piece)), "")
