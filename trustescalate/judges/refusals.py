"""Read what a server says about a refused request: its sentence, its code, and the parameter that it names.

Errors are objects, lists, objects in texts, plain texts or pages; some come with HTTP 200. Nothing here is
trusted to have a shape, and what a server repeats of the request is not read.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic_core import from_json

LONGEST_SENTENCE = 300
"""Characters of a server's message that are shown and stored."""
LONGEST_TEXT = 4000
_ECHOES = frozenset(
    {"input", "inputs", "messages", "prompt", "body", "request", "url", "headers", "user_id", "id"}
    | {"request_id", "ctx", "help", "documentation_url", "content", "choices", "trace"}
)
"""Keys under which servers repeat the request, or tell nothing of the cause."""
_SENTENCES = ("message", "detail", "error", "msg", "description", "reason", "title", "errors")
_BAD_KEY = re.compile(r"api.?key.{0,20}(not valid|invalid|expired)|(invalid|incorrect).{0,10}api.?key", re.I)
_TAGS = re.compile(r"<(script|style)\b.*?</\1\s*>|<[^>]*>", re.I | re.S)


def error_of(content: bytes) -> dict[str, str]:
    """The `code`, `param` and `message` of an error, and all its `text`, as far as the body has them.

    >>> error_of(b'{"message": {"detail": [{"loc": ["body", "seed"], "msg": "not permitted"}]}}')
    {'param': 'body.seed', 'message': 'body.seed: not permitted', 'text': 'body.seed not permitted'}
    >>> error_of(b"<html><title>Sorry</title>Come back later</html>")
    {'message': 'Sorry Come back later'}
    """
    body = parsed(content)
    body = body[0] if isinstance(body, list) and body else body  # Gemini puts it in a list
    if isinstance(body, str) or body is None:
        page = body or content[: 4 * LONGEST_TEXT].decode("utf-8", "replace")
        message = " ".join(_TAGS.sub(" ", page).split())[:LONGEST_TEXT]
        return {"message": message} if message else {}
    if not isinstance(body, dict):
        return {}
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    inner = body.get("error") or (choice.get("error") if isinstance(choice, dict) else None) or body
    fields = inner if isinstance(inner, dict) else {"message": inner}
    message = sentence(fields)
    code = fields.get("code")
    code = code if isinstance(code, str) else fields.get("type") or fields.get("status")
    if _BAD_KEY.search(message):
        code = "invalid_api_key"  # Gemini calls it an invalid argument
    text = " ".join(_texts(body))[:LONGEST_TEXT]
    param = fields.get("param") if isinstance(fields.get("param"), str) else " ".join(_places(body))
    named = {"code": code, "param": param, "message": message, "text": text if text != message else ""}
    return {name: value for name, value in named.items() if isinstance(value, str) and value}


def sentence(value: Any, depth: int = 0) -> str:
    """The message in an error of any shape.

    >>> sentence({"message": '{"detail": [{"loc": ["body", "n"], "msg": "too large"}]}'})
    'body.n: too large'
    """
    if depth > 8:
        return ""
    if isinstance(value, str):
        inner = _in_text(value)
        return (sentence(inner, depth + 1) if inner is not None else "") or value[:LONGEST_TEXT]
    if isinstance(value, list):
        return "; ".join(filter(None, (sentence(part, depth + 1) for part in value[:10])))
    if not isinstance(value, Mapping):
        return ""
    main = next(filter(None, (sentence(value.get(name), depth + 1) for name in _SENTENCES)), "")
    place = ".".join(map(str, value["loc"])) if isinstance(value.get("loc"), list) else ""
    more = value.get("metadata")  # OpenRouter: the provider's own words
    raw = sentence(more.get("raw"), depth + 1) if isinstance(more, Mapping) else ""
    return ": ".join(filter(None, (place, main, raw)))


def status_within(content: bytes) -> int:
    """The HTTP status that an error in the body of a success would have had; 0 without an error.

    >>> status_within(b'{"error": {"code": 429, "message": "slow down"}}')
    429
    >>> status_within(b'{"choices": [{"message": {"content": ""}, "error": {"message": "upstream"}}]}')
    502
    >>> status_within(b'{"choices": [{"message": {"content": "A"}, "finish_reason": "stop"}], "error": null}')
    0
    """
    body = parsed(content)
    if body is None and content.lstrip().startswith((b"data:", b"event:", b":")):
        events = [line[5:] for line in content.splitlines() if line.startswith(b"data:")]
        body = next((event for event in map(parsed, events) if isinstance(event, dict)), None)
    body = body[0] if isinstance(body, list) and body else body
    if not isinstance(body, dict):
        return 0
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    error = body.get("error")
    if isinstance(choice, dict):
        error = choice.get("error") or error
        broken = choice.get("finish_reason") in UPSTREAM
        error = error or ({"code": "upstream"} if broken else None)
    elif not error and (body.get("object") == "error" or body.get("type") == "error"):
        error = body
    return _status(error) if error else 0


UPSTREAM = frozenset({"error", "network_error", "insufficient_system_resource"})
"""Finish reasons of a reply that a fault of the provider broke off."""

_STATUSES: tuple[tuple[int, re.Pattern[str]], ...] = tuple(
    (status, re.compile(pattern, re.I))
    for status, pattern in (
        (402, r"insufficient.?(quota|credit|balance|fund)|billing|payment.?required"),
        (429, r"rate.?limit|too.?many.?requests|resource.?exhausted|throttl"),
        (401, r"invalid.?api.?key|incorrect.?api.?key|authenticat|unauthori[sz]ed"),
        (403, r"permission.?denied|permission_error|forbidden"),
        (404, r"model.?not.?found|not_found"),
        (400, r"invalid.?request|invalid.?argument|bad.?request|validation|content.?filter|content.?policy"),
    )
)


def _status(error: Any) -> int:
    fields = error if isinstance(error, dict) else {"message": error}
    for name in ("code", "status", "status_code"):
        number = fields.get(name)
        number = int(number) if isinstance(number, str) and re.fullmatch(r"[45]\d\d", number) else number
        if isinstance(number, int) and 400 <= number < 600:
            return number
    kinds = [fields.get(name) for name in ("code", "type", "status")]
    text = " ".join([*(kind for kind in kinds if isinstance(kind, str)), sentence(fields)])
    return next((status for status, pattern in _STATUSES if pattern.search(text)), 502)


# ── parameters ─────────────────────────────────────────────────────────────────────────────────────

_NAMES: Mapping[str, str] = {
    "logprobs": r"(?:top_?)?log_?probs|log.?probabilities",
    "temperature": r"temperature",
    "seed": r"seed",
    "form": r"response_format|json_schema|structured.?outputs?",
    "limit": r"max_tokens|max_completion_tokens",
}
_REFUSING = re.compile(
    r"unsupported|\b(not|n't|no longer|cannot|never)\b|unrecogni[sz]ed|unknown|unexpected|disabled"
    r"|unavailable|deprecated|removed|obsolete|extra (inputs|fields)|additional propert|forbidden|invalid"
    r"|only|must|should"
    r"|out of range|too (large|small|high|low|many)|between|range|greater|less|more than|at (least|most)"
    r"|max|min(imum)?\b|exceed|strictly|positive|remove|omit|leave|[<>≤≥]",
    re.I,
)
_UNSUPPORTED = re.compile(
    r"unsupported|not (be )?(support|permit|allow|enabl|accept|available)|unrecogni[sz]ed|unknown|unexpected"
    r"|unavailable|disabled|deprecated|no longer|removed|extra (inputs|fields)|additional propert|forbidden"
    r"|(use|try) .{0,3}max_completion_tokens",
    re.I,
)
_VALIDATION = re.compile(
    r"validation.?error|unsupported|not (be )?(support|permit)|extra (inputs|fields)|additional propert", re.I
)
_LENGTH = re.compile(
    r"context.?(length|window|size)|(prompt|input|request|message)s?.{0,20}too (long|large)|too many tokens"
    r"|reduce the length|exceeds? .{0,30}\btokens\b",
    re.I,
)
POLICY = re.compile(r"content.?(filter|policy|management)|moderation|flagged", re.I)
_REPEATED_BODY = re.compile(r"""["']messages["']\s*:""")
NEAR = 100
"""Characters between a parameter's name and the words that refuse it."""
_LIMITS = re.compile(
    r"max|most|less|fewer|greater|exceed|between|range|only|up to|more than|limit|above|below|[<≤]", re.I
)
_COUNTS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def is_of_length(text: str) -> bool:
    """Whether a refusal is about the length of one request.

    >>> is_of_length("This model's maximum context length is 4096 tokens."), is_of_length("no seed")
    (True, False)
    """
    return _LENGTH.search(text) is not None


def refused_parameter(error: Mapping[str, str]) -> str:
    """The parameter that an error is about: a key of `_NAMES`, or an empty text.

    One that the error names by itself comes first, then the first that is quoted, then the first near a
    refusing word. Errors about the length or the contents of a request name none.

    >>> refused_parameter({"message": "temperature is deprecated for this model."})
    'temperature'
    >>> refused_parameter({"message": "Unknown name 'seed'. Known: temperature, logprobs"})
    'seed'
    >>> refused_parameter({"message": "Your prompt is too long, whatever its temperature"})
    ''
    """
    text = f"{error.get('message', '')} {error.get('text', '')}".strip()
    if POLICY.search(f"{error.get('code', '')} {text}") or is_of_length(text):
        return ""
    named = error.get("param", "")
    places: list[tuple[int, int, str]] = []
    for name, pattern in _NAMES.items():
        match = re.search(rf"(?<![\w-])(?:{pattern})(?![\w-])", named, re.I)
        if match is not None:
            places.append((0, match.start(), name))
        for match in re.finditer(rf"(?<![\w-])(?:{pattern})(?![\w-])", text, re.I):
            around = text[max(0, match.start() - NEAR) : match.end() + NEAR]
            if _REFUSING.search(around) and not _REPEATED_BODY.search(text):
                quoted = text[match.start() - 1 : match.start()] in ("'", '"', "`", ".")
                places.append((1 if quoted else 2, match.start(), name))
    return min(places)[2] if places else ""


def is_unsupported(error: Mapping[str, str]) -> bool:
    """Whether an error says that a parameter is not supported at all, and not only this value."""
    return _UNSUPPORTED.search(f"{error.get('message', '')} {error.get('text', '')}") is not None


def is_of_validation(error: Mapping[str, str]) -> bool:
    """Whether an error says that the request is wrong, whatever its status: some servers send 500 for it.

    >>> message = "1 validation error: {'loc': ('body', 'response_format', 'type'), 'msg': 'Input should be"
    >>> is_of_validation({"message": message}), is_of_validation({"message": "the seed node is down"})
    (True, False)
    """
    return _VALIDATION.search(f"{error.get('message', '')} {error.get('text', '')}") is not None


def allowed_count(error: Mapping[str, str], asked: int) -> int | None:
    """The largest count below `asked` that an error allows in figures or words; None where it names none.

    >>> [allowed_count({"message": m}, 20) for m in ("the maximum value is 5", "no more than five", "no")]
    [5, 5, None]
    >>> allowed_count({"message": "top_logprobs must be less than 6"}, 20)
    5
    """
    text = error.get("message", "")
    if not _LIMITS.search(text):
        return None
    strict = re.search(r"(?:less|fewer|smaller) than (\d+)\b(?! or equal)|below (\d+)|<\s*(\d+)", text, re.I)
    if strict is not None:
        counts = [int(number) - 1 for number in strict.groups() if number]
    else:
        counts = [int(number) for number in re.findall(r"(?<![\w.-])\d{1,4}(?!\w|\.\d)", text)]
        counts += [n for n, word in enumerate(_COUNTS, 1) if re.search(rf"\b{word}\b", text, re.I)]
    return max((count for count in counts if 0 < count < asked), default=None)


# ── shapes ─────────────────────────────────────────────────────────────────────────────────────────


def parsed(content: bytes | str) -> Any:
    """The JSON value of a body; None if it is none.

    >>> parsed(b'{"a": [NaN]}'), parsed('"half of a pair: \\ud83d"'), parsed(b"<html>")
    ({'a': [nan]}, 'half of a pair: \\ud83d', None)
    """
    try:
        return from_json(content)
    except (ValueError, TypeError):  # also of half a surrogate pair, which json takes, in twice the time
        pass
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _in_text(text: str) -> Any:
    """The JSON value that a text holds from its first bracket on."""
    start = min((at for at in (text.find("{"), text.find("[{")) if at >= 0), default=-1)
    value = parsed(text[start:]) if 0 <= start <= NEAR else None
    return value if isinstance(value, dict | list) else None


def _texts(value: Any, depth: int = 0) -> Iterator[str]:
    """All texts of an error but those that repeat the request."""
    if depth > 8:
        return
    if isinstance(value, str):
        inner = _in_text(value)
        if inner is None:
            yield value
        else:
            yield from _texts(inner, depth + 1)
    elif isinstance(value, list):
        for part in value[:20]:
            yield from _texts(part, depth + 1)
    elif isinstance(value, Mapping):
        for name, part in value.items():
            if name == "loc" and isinstance(part, list):
                yield ".".join(map(str, part))
            elif name not in _ECHOES:
                yield from _texts(part, depth + 1)


def _places(value: Any, depth: int = 0) -> Iterator[str]:
    """The parameters that parts of an error point to (`loc`, `field`, `parameter`)."""
    if depth > 8:
        return
    if isinstance(value, str):
        value = _in_text(value)
    if isinstance(value, list):
        for part in value[:20]:
            yield from _places(part, depth + 1)
    elif isinstance(value, Mapping):
        place = value.get("loc")
        if isinstance(place, list):
            yield ".".join(map(str, place))
        named = (value.get(name) for name in ("field", "parameter", "param"))
        yield from (name for name in named if isinstance(name, str))
        for name, part in value.items():
            if name not in _ECHOES and name != "loc":
                yield from _places(part, depth + 1)
