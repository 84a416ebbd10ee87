"""The dialect of chat completions: retry headers and parsing of answers."""

import json
import math
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trustescalate.judges.completions import Dialect, backoff, counted, parse_completion, retry_after
from trustescalate.judges.reply_parsing import read_verdict
from trustescalate.records import Message, Request, Vote
from trustescalate.records.jsonl import canonical

pytestmark = pytest.mark.slow
AB = ("A", "B")


# ── retry headers ──────────────────────────────────────────────────────────────────────────────────

DATE = "Wed, 21 Oct 2026 07:28:00 GMT"
LATER = "Wed, 21 Oct 2026 07:28:07 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "20", "retry-after": "1"}, 0.02),
        ({"retry-after": LATER, "date": DATE}, 7.0),
        ({"retry-after": DATE, "date": LATER}, 0.0),
        ({"retry-after": LATER}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"x-ratelimit-reset-requests": "1s"}, 1.0),
        ({"x-ratelimit-reset-requests": "6m0s"}, 360.0),
        ({"x-ratelimit-reset-tokens": "20ms"}, 0.02),
        ({"x-ratelimit-reset-tokens": "1h2m3.5s"}, 3723.5),
        ({"x-ratelimit-reset-tokens": "2d", "x-ratelimit-reset-requests": "1s"}, 1.0),
        (
            {
                "x-ratelimit-reset-tokens": "9s",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-requests": "1s",
                "x-ratelimit-remaining-requests": "3",
            },
            9.0,
        ),
        ({"x-ratelimit-reset-tokens": ""}, None),
        ({"x-ratelimit-reset-tokens": "later"}, None),
    ],
)
def test_every_way_to_say_when(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == (None if seconds is None else pytest.approx(seconds))


def test_without_a_word_the_wait_is_exponential_with_full_jitter() -> None:
    rng = random.Random(3)
    for attempt, most in ((1, 0.5), (2, 1.0), (3, 2.0), (7, 30.0), (2000, 30.0)):
        waits = [backoff(min(attempt, 900), {"retry-after": "0"}, rng) for _ in range(300)]
        assert 0 <= min(waits) < 0.1 * most
        assert 0.9 * most < max(waits) <= most


@given(
    st.dictionaries(
        st.sampled_from(["retry-after", "retry-after-ms", "date", "x-ratelimit-reset-tokens"]), st.text()
    )
)
def test_no_header_crashes_the_retry(headers: dict[str, str]) -> None:
    seconds = retry_after(headers)
    assert seconds is None or (seconds >= 0 and math.isfinite(seconds))


# ── answers ────────────────────────────────────────────────────────────────────────────────────────

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "choices",
                    "message",
                    "content",
                    "logprobs",
                    "top_logprobs",
                    "token",
                    "logprob",
                    "usage",
                    "text",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=25,
)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=50) | values.map(lambda v: json.dumps(v).encode()))
def test_every_body_is_parsed_or_rejected(content: bytes) -> None:
    reply = parse_completion(content)
    assert reply is None or read_verdict(reply, AB)


@settings(max_examples=200, deadline=None)
@given(values, values, values)
def test_every_choice_is_parsed(message: Any, logprobs: Any, usage: Any) -> None:
    choice = {"message": {"content": message, "refusal": usage}, "logprobs": {"content": [logprobs]}}
    reply = parse_completion(json.dumps({"choices": [choice], "usage": usage}).encode())
    assert reply is not None
    read_verdict(reply, AB)


def test_deep_json_is_no_completion() -> None:
    assert parse_completion(b"[" * 100_000) is None


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": None}, ""),
        ({"content": None, "reasoning_content": "A\nA"}, ""),
        ({"content": [{"type": "text", "text": "Verdict: "}, {"type": "text", "text": "A"}]}, "Verdict: A"),
        ({"content": "\x00A\x1b"}, "\x00A\x1b"),
        ({}, ""),
    ],
)
def test_shapes_of_a_message(message: dict[str, Any], text: str) -> None:
    choice = {"message": message, "finish_reason": "length"}
    reply = parse_completion(json.dumps({"choices": [choice]}).encode())
    assert reply is not None
    assert (reply.text, reply.finish, reply.tokens, reply.failure) == (text, "length", None, None)


def test_the_generated_token_is_among_its_alternatives() -> None:
    entry = {"token": "B", "logprob": -3.0, "top_logprobs": [{"token": "A", "logprob": -0.1}]}
    choice = {"message": {"content": "B"}, "logprobs": {"content": [entry, {"token": "."}]}}
    reply = parse_completion(json.dumps({"choices": [choice]}).encode())
    assert reply is not None
    assert reply.tokens is not None
    assert reply.tokens[0].top == (("A", -0.1), ("B", -3.0))
    assert reply.tokens[1].top == ()


def with_logprob(value: str) -> bytes:
    """A completion with a number as it is written in JSON."""
    token = f'{{"token": "A", "logprob": {value}, "top_logprobs": [{{"token": "B", "logprob": -1.0}}]}}'
    return (
        f'{{"choices": [{{"message": {{"content": "A"}}, "logprobs": {{"content": [{token}]}}}}]}}'.encode()
    )


@pytest.mark.parametrize("value", ["NaN", "Infinity", "0.5", "1e999", "9" * 400, "true"])
def test_a_number_that_is_no_log_probability_is_a_bad_reply_that_says_so(value: str) -> None:
    reply = parse_completion(with_logprob(value))
    assert reply is not None
    assert (reply.failure, reply.tokens) == ("bad_reply", None)
    assert "a log-probability is" in reply.text


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        ("-Infinity", -9999.0),
        ("-1e999", -9999.0),
        ("-1e300", -9999.0),
        ("1e-7", 0.0),
        ("0", 0.0),
        ("-2", -2.0),
    ],
)
def test_a_log_probability_at_the_end_of_its_range_is_kept(value: str, seen: float) -> None:
    reply = parse_completion(with_logprob(value))
    assert reply is not None
    assert reply.tokens is not None
    assert dict(reply.tokens[0].top)["A"] == seen
    canonical(Vote(0, "", {}, "A", "low_mass", tokens=reply.tokens))


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ('{"prompt_tokens": 300, "completion_tokens": 1, "total_tokens": 301}', (300, 1)),
        ('{"prompt_tokens": 300.0, "completion_tokens": "7"}', (300, 7)),
        ('{"prompt_tokens": 300, "completion_tokens": 1, "total_tokens": 1501}', (300, 1201)),
        ('{"prompt_tokens": 300, "completion_tokens": 1, '
         '"completion_tokens_details": {"reasoning_tokens": 9}}', (300, 10)),
        ('{"prompt_tokens": 300, "completion_tokens": 12, "total_tokens": 312, '
         '"completion_tokens_details": {"reasoning_tokens": 9}}', (300, 12)),
        ('{"completion_tokens": 1, "total_tokens": 301}', (300, 1)),
        ('null', (5, 1)),
        ('{}', (5, 1)),
        ('{"prompt_tokens": -300, "completion_tokens": NaN, "total_tokens": 1e999}', (5, 1)),
        ('{"prompt_tokens": 1e300, "completion_tokens": [1]}', (5, 1)),
        ('{"prompt_tokens": 300}', (300, 1)),
    ],
)  # fmt: skip
def test_tokens_are_counted_by_the_server_or_else_by_length(usage: str, tokens: tuple[int, int]) -> None:
    body = b'{"choices": [{"message": {"content": "A"}}], "usage": %s}' % usage.encode()
    reply = parse_completion(body)
    assert reply is not None
    asked = Request((Message("user", "x" * 20),), ("A", "B"), 16, 0.0, True)
    full, by_length = counted(reply, asked)
    assert (full.usage.input_tokens, full.usage.output_tokens) == tokens
    assert by_length == (reply.usage != full.usage)


def test_a_field_can_be_left_away_by_extra() -> None:
    asked = Request((Message("user", "x"),), ("A", "B"), 16, 0.0, True)
    sent = json.loads(Dialect().body("m", asked, {"temperature": False, "logprobs": "", "stream": False}))
    assert sent.keys() == {"model", "max_tokens", "stream", "messages"}
    assert "seed" not in json.loads(Dialect().body("m", replace(asked, logprobs=False), {"seed": False}))


@pytest.mark.parametrize(
    "reason",
    [
        "model_context_window_exceeded",
        "sensitive",
        "abort",
        "?",
        7,
    ],
)
def test_a_reply_that_was_broken_off_is_no_answer(reason: object) -> None:
    choice = {"message": {"content": "A"}, "finish_reason": reason}
    reply = parse_completion(json.dumps({"choices": [choice]}).encode())
    assert reply is not None
    assert (reply.text, reply.failure) == ("A", "truncated")
    assert read_verdict(reply, AB).failure == "truncated"


def test_a_filtered_choice_without_a_message_is_a_refusal_unless_another_answers() -> None:
    filtered = {"index": 0, "finish_reason": "content_filter", "message": None}
    answer = {"index": 1, "finish_reason": "stop", "message": {"content": "A"}}
    alone = parse_completion(json.dumps({"choices": [filtered]}).encode())
    both = parse_completion(json.dumps({"choices": [filtered, answer]}).encode())
    assert alone is not None
    assert both is not None
    assert (alone.failure, both.failure, both.text) == ("refused", None, "A")


@pytest.mark.parametrize("reason", ["error", "insufficient_system_resource", "network_error"])
def test_a_reply_that_failed_upstream_is_asked_again(reason: str) -> None:
    choice = {"message": {"content": "A"}, "finish_reason": reason}
    assert parse_completion(json.dumps({"choices": [choice]}).encode()) is None


@pytest.mark.parametrize(
    "reason", ["stop", "eos", "eos_token", "end_turn", "COMPLETE", "STOP", "stop_sequence", None, "null"]
)
def test_a_normal_end_has_many_names(reason: object) -> None:
    choice = {"message": {"content": "A"}, "finish_reason": reason}
    reply = parse_completion(json.dumps({"choices": [choice]}).encode())
    assert reply is not None
    assert read_verdict(reply, AB).probs == (1.0, 0.0)
