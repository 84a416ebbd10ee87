"""Tell a grader that could not be read from one that gave a verdict.

Tools log such a grader with a wrong answer and a sentence of their own. The sentences are known by their
first words: in the middle of a reason the same words are the grader's.
"""

import re

_WHOSE = r"(?:the )?(?:llm|ai)?[ -]?(?:grader|grading|judge|evaluator|evaluation|rubric)(?: llm| model)?"
_WHAT = r"(?:a |an |the |any )?(?:valid )?(?:grade|score|verdict|rating|decision|judge?ment)"
_CANNOT = r"(?:error:? )?(?:could not|couldn't|cannot|can't|unable to|failed to)"
_GRADER = r"(?:the )?(?:llm |ai |model )?(?:judge|grader|evaluator|scorer)"
_REPLY = r"(?:response|output|reply|grade|verdict|answer)"
_ERROR = r"(?:error:? )?(?:\w+\.)*"
SENTENCES = (
    ("none", rf"{_WHAT} (?:was )?not found|no {_WHAT} (?:was |could be )?found"),
    ("none", rf"no (?:output|grade|score|verdict)\W*$|{_CANNOT} (?:find|read|determine) {_WHAT}"),
    (
        "malformed",
        r"could not extract json|no (?:valid )?json (?:object )?(?:was )?found|json ?decode ?error",
    ),
    ("malformed", rf"{_CANNOT} (?:extract|parse|decode|load) (?:{_WHAT}|{_WHOSE}|(?:the )?json\b)"),
    ("malformed", rf"[\w-]+ produced (?:a )?malformed|{_WHOSE} \w+ (?:an )?(?:invalid|malformed|unparsable)"),
    (
        "malformed",
        r"(?:invalid|malformed) (?:judge|grader|llm|rubric) (?:resp|out|re)",
    ),
    (
        "malformed",
        r"expecting (?:value|property name)\b|"
        r"(?:llm[- ]proposed|model[- ]graded?)\b.* (?:malformed|not in json)",
    ),
    (
        "malformed",
        rf"model[- ]grader .*malformed|{_GRADER}(?:'s)? {_REPLY} (?:could not|did not|was not|is not)",
    ),
    ("malformed", r"(?:unpars\w+ (?:output|response|reply)|pars(?:e|ing) (?:error|failure))\W*(?:$|:)"),
    ("malformed", r"invalid option: ?\W?\w?\W*$"),
    (
        "none",
        rf"(?:{_CANNOT} get |got )?(?:an? )?(?:empty|(?:in)?valid|no|malformed) "
        rf"{_REPLY} (?:from|by) {_GRADER}",
    ),
    ("none", rf"(?:{_GRADER}|model) (?:returned|gave|produced) no (?:grade|verdict)"),
    (
        "none",
        rf"(?:{_GRADER}|(?:the )?model) did not (?:return|give|produce) "
        r"(?:an?y? )?(?:valid )?(?:grade|verdict)",
    ),
    ("none", r"n/a\W*$|(?:grading|scoring) (?:was )?skipped"),
    ("refused", r"content (?:filter|policy) (?:triggered|violation)\W*(?:$|:)"),
    ("rate_limited", r"error code: 429"),
    ("server_error", r"error code: \d{3}|max(?:imum)? retries exceeded|remote grading failed"),
    (
        "server_error",
        r"could not perform (?:\w+ )?grading|error (?:during|while) (?:grading|judging|scoring)",
    ),
    ("server_error", r"rubric evaluation error"),
    ("timeout", r"(?-i:(?:\w+\.)*[A-Z]\w*Timeout)\s*(?:$|[:(])"),
    ("rate_limited", rf"{_ERROR}(?:ratelimiterror|rate limit (?:exceeded|reached|error)|(?:http )?429\b)"),
    ("timeout", rf"{_ERROR}(?:(?:the )?(?:request|grader|judge) timed out|timeout(?: ?error)?(?:$|:))"),
    ("server_error", r"(?:[\w-]+ )?api (?:call |request )?error(?:\W*$|[:(]| \d|\. )|\$error\$"),
    ("server_error", rf"{_ERROR}(?:internal server error|service unavailable|connection error)"),
    ("server_error", rf"{_ERROR}(?:http )?(?:error )?5\d\d (?:error|internal|bad gateway|service)"),
    ("server_error", rf"{_ERROR}(?:api|internalserver|serviceunavailable|authentication)\w*error\b"),
    ("server_error", r"(?-i:(?:\w+\.)*(?:[A-Z]\w+Error|[A-Z]?\w*Exception))\s*(?:$|[:(])"),
    ("server_error", rf"{_WHOSE} (?:error|failed|crashed|unavailable)(?:$|[:.])"),
)
"""The failure of a vote, and how the sentences about it begin."""
FAILED_REASONS = ("format", "grader", "scorer", "parse", "error", "fail", "timeout", "unscored", "invalid")
"""Parts of the names of a machine-readable reason that says that there is no reading."""
_BEGINS = [(failure, re.compile(rf"\W{{0,3}}(?:{pattern})", re.IGNORECASE)) for failure, pattern in SENTENCES]


def why_unread(sentence: object) -> str | None:
    """The failure of a vote with this reason; None for the reason of a verdict.

    >>> why_unread("Grade not found in model output: GRID: C"), why_unread("Could not extract JSON from it")
    ('none', 'malformed')
    >>> why_unread("The answer says 'API error', which is right"), why_unread(None)
    (None, None)
    """
    if not isinstance(sentence, str) or not sentence:
        return None
    return next((failure for failure, pattern in _BEGINS if pattern.match(sentence)), None)


def why_failed(reason: object) -> str | None:
    """The failure of a vote with a machine-readable reason; None for a reason that concerns the answer.

    >>> why_failed("invalid_response_format"), why_failed("no_response"), why_failed("grader_failed")
    ('malformed', None, 'none')
    """
    if not isinstance(reason, str):
        return None
    word = reason.casefold()
    if not any(part in word for part in FAILED_REASONS):
        return None
    return "malformed" if "format" in word or "pars" in word or "invalid" in word else "none"
