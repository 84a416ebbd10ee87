"""What servers say about refused requests: parameters, limits, errors inside a success."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trustescalate.judges.completions import Answer, Dialect
from trustescalate.judges.refusals import error_of, is_of_length, refused_parameter, sentence, status_within

EXTRA = {"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}
LEARNT: list[tuple[Any, str, Any]] = [
    ({"error": {"message": "temperature is deprecated for this model."}}, "temperature", False),
    ({"error": {"message": "temperature: only 1 is allowed for this model"}}, "temperature", False),
    ({"error": {"message": "invalid temperature: must be in (0, 1]"}}, "temperature", False),
    ({"error": "`temperature` has to be strictly positive"}, "temperature", False),
    ({"message": "temperature must be > 0", "type": "x"}, "temperature", False),
    ({"error": {"message": "Invalid value", "param": "temperature"}}, "temperature", False),
    ("temperature is no longer accepted", "temperature", False),
    ("<html><body>Parameter <b>temperature</b> is not supported</body></html>", "temperature", False),
    ({"object": "error", "message": {"detail": [EXTRA]}}, "seed", False),
    ({"message": json.dumps({"detail": [EXTRA]})}, "seed", False),
    ({"detail": [EXTRA], "message": [EXTRA]}, "seed", False),
    ({"detail": [EXTRA | {"input": "temperature is not supported"}]}, "seed", False),
    ({"error": {"message": "bad", "details": [{"field": "seed"}]}}, "seed", False),
    ({"error": {"message": "Error", "metadata": {"raw": '{"message":"no such field: seed, invalid"}'}}},
     "seed", False),
    ([{"error": {"message": 'Unknown name "seed": Cannot find field.'}}], "seed", False),
    ({"message": "Unknown parameter 'seed'. Known: model, temperature, logprobs"}, "seed", False),
    ({"message": "response_format is unavailable now"}, "form", False),
    ({"error": {"message": "json_schema mode: this model does not support it"}}, "form", False),
    ({"message": "top_logprobs: the maximum value is 5"}, "alternatives", 5),
    ({"message": "top_logprobs should be less than or equal to 5"}, "alternatives", 5),
    ({"message": "top_logprobs must be less than 6"}, "alternatives", 5),
    ({"message": "no more than five top_logprobs, please"}, "alternatives", 5),
    ({"detail": [{"loc": ["body", "top_logprobs"], "msg": "Input should be less than or equal to 8"}]},
     "alternatives", 8),
    ({"message": "20 is greater than the maximum of 1 - 'logprobs'", "param": "logprobs"}, "alternatives", 1),
    ({"message": "top_logprobs must be between 0 and 5, got 20"}, "alternatives", 5),
    ({"message": "top_logprobs is too large"}, "alternatives", 5),
    ({"message": "logprobs is not supported with gpt-5"}, "alternatives", None),
    ({"message": "Extra inputs are not permitted: logprobs, top_logprobs"}, "alternatives", None),
    ({"error": {"message": "Unrecognized request argument supplied: max_tokens"}}, "limit",
     "max_completion_tokens"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "name", "value"), LEARNT)
def test_a_refused_parameter_is_learnt_from_an_error_of_any_shape(body: Any, name: str, value: Any) -> None:
    content = body if isinstance(body, str) else json.dumps(body)
    learnt, what = Dialect().without(Answer(400, {}, content.encode()).error)
    assert getattr(learnt, name) == value
    assert what
    others = {"limit", "alternatives", "temperature", "seed", "form"} - {name}
    assert all(getattr(learnt, other) == getattr(Dialect(), other) for other in others)


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 4096 tokens, and temperature must be lower",
        "prompt is too long: 300000 tokens > 200000 maximum; seed",
        "Please reduce the length of the messages; max_tokens is not supported above 16",
        "The response was filtered by our content policy: 'temperature' is not allowed",
        "max_tokens must be at least 32",
        "unknown model 'seedling'",
        "This model only support stream mode, please enable the stream parameter",
        "{'model': 'm', 'messages': [...], 'temperature': 0.0, 'seed': 1}: invalid role",
        "I like the temperature",
        "",
    ],
)
def test_nothing_is_learnt_from_other_errors(message: str) -> None:
    assert Dialect().without({"message": message}) == (Dialect(), "")


def test_an_endpoint_that_refuses_every_number_ends_without_log_probabilities() -> None:
    dialect, asked = Dialect(), []
    while dialect.alternatives is not None:
        asked.append(dialect.alternatives)
        dialect, _ = dialect.without({"message": "top_logprobs is too large"})
    assert asked == [20, 5, 1]


@pytest.mark.parametrize(
    ("body", "status", "failure"),
    [
        ({"error": {"message": "Provider returned error", "code": 429}}, 429, "rate_limited"),
        ({"error": {"message": "Rate limit exceeded", "code": "rate_limit_exceeded"}}, 429, "rate_limited"),
        ({"error": "upstream connect error"}, 502, "server_error"),
        ({"error": {"code": "503"}}, 503, "server_error"),
        ({"object": "error", "message": "bad", "type": "BadRequestError"}, 400, "bad_request"),
        ([{"error": {"code": 503, "status": "UNAVAILABLE"}}], 503, "server_error"),
        ({"error": {"type": "authentication_error", "message": "no"}}, 401, "bad_request"),
        ({"error": {"code": "content_filter", "message": "filtered"}}, 400, "refused"),
        ({"choices": [{"message": {"content": "A"}, "finish_reason": "error"}]}, 502, "server_error"),
        ({"choices": [{"message": {"content": "A"}, "error": {"code": 502}}]}, 502, "server_error"),
        ('data: {"error": {"code": 429}}\n\ndata: [DONE]\n', 429, "rate_limited"),
        ('data: {"choices": [{"delta": {}}]}\n\n', 0, "bad_reply"),
        (
            {"choices": [{"message": {"content": "A"}, "finish_reason": "stop"}], "error": None},
            0,
            "bad_reply",
        ),
        ("<html>", 0, "bad_reply"),
        ("[[", 0, "bad_reply"),
    ],
)
def test_an_error_inside_a_success_has_its_own_status(body: Any, status: int, failure: str) -> None:
    content = (body if isinstance(body, str) else json.dumps(body)).encode()
    assert status_within(content) == status
    assert Answer(status or 200, {}, content).failure == failure


def test_the_length_of_a_request_is_told_from_the_endpoint() -> None:
    assert is_of_length("exceeds the maximum of 4096 tokens") or is_of_length("context_length_exceeded")
    assert not is_of_length("stream mode only")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "error",
                    "message",
                    "detail",
                    "loc",
                    "msg",
                    "code",
                    "param",
                    "metadata",
                    "raw",
                    "choices",
                    "type",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(values)
def test_no_shape_of_an_error_crashes_its_reader(value: Any) -> None:
    for content in (json.dumps(value).encode(), json.dumps(json.dumps(value)).encode()):
        error = error_of(content)
        assert all(isinstance(part, str) for part in error.values())
        assert isinstance(refused_parameter(error), str)
        assert status_within(content) == 0 or 400 <= status_within(content) < 600
        Dialect().without(error)
    assert isinstance(sentence(value), str)
