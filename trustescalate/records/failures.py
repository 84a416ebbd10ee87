"""Group the failures of votes by what is to be done about them."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Literal

from trustescalate.records.judging import FAILURES

FailureKind = Literal["down", "rejected", "unreadable", "attacked"]

KINDS: Mapping[str, FailureKind] = {
    **dict.fromkeys(("timeout", "unreachable", "server_error", "rate_limited", "bad_reply"), "down"),
    **dict.fromkeys(("empty", "not_answered", "raised"), "down"),
    **dict.fromkeys(("refused", "bad_request"), "rejected"),
    **dict.fromkeys(
        ("none", "multiple", "conflict", "malformed", "no_confidence", "truncated"), "unreadable"
    ),
    **dict.fromkeys(("low_mass", "no_logprobs", "bad_return", "not_recorded"), "unreadable"),
    "echo": "attacked",
}
"""The kind of each code of `FAILURES`. "down": no answer came; "unreadable": an answer without a usable
verdict; "rejected": the item is too long or against a policy; "attacked": the verdict is a text that was to
be judged. `run --resume` asks votes of the kinds "down" and "unreadable" again."""


FAILED_VOTES = ", with failed votes: "
"""What stands between an abstention's reason and the codes of its failed votes."""


def is_down(failure: str | None) -> bool:
    """Whether a vote failed because no answer came: asked again, it may succeed.

    >>> is_down("timeout"), is_down("refused"), is_down(None)
    (True, False, False)
    """
    return failure is not None and KINDS.get(failure) == "down"


def may_be_answered(failure: str | None) -> bool:
    """Whether a vote failed in a way that another try may mend.

    >>> may_be_answered("timeout"), may_be_answered("none"), may_be_answered("refused")
    (True, True, False)
    """
    return failure is not None and KINDS.get(failure) in ("down", "unreadable")


def reason_in_words(reason: str) -> str:
    """Name the failures at the end of an abstention's reason in words, not by their codes.

    >>> reason_in_words("below threshold, with failed votes: none, refused")
    'below threshold, with failed votes: the reply holds no verdict; the model or a content filter refused'
    """
    head, mark, codes = reason.partition(FAILED_VOTES)
    return reason if not mark else f"{head}{mark}{'; '.join(map(failure_in_words, codes.split(', ')))}"


def failure_in_words(code: str) -> str:
    """Return what a code of `FAILURES` means; any other text as it is.

    >>> failure_in_words("none"), failure_in_words("")
    ('the reply holds no verdict', '')
    """
    return FAILURES.get(code, code)


def describe_kinds(failures: Iterable[str]) -> str:
    """Count failures by kind, with their codes.

    >>> describe_kinds(["timeout", "timeout", "none"])
    '2 down (timeout), 1 unreadable (none)'
    """
    counted = Counter(failures)
    by_kind: dict[str, Counter[str]] = {}
    for code, number in sorted(counted.items()):
        by_kind.setdefault(KINDS.get(code, "unreadable"), Counter())[code] = number
    ordered = sorted(by_kind.items(), key=lambda pair: -pair[1].total())
    return ", ".join(f"{codes.total():,} {kind} ({', '.join(codes)})" for kind, codes in ordered)
