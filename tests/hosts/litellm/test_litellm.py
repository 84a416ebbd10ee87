"""The backend `litellm` with the real package: replies, failures, keys, prices and no request beside ours."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.projects import write_project
from tests.support.provider_server import SIZES, ProviderServer, reply_in_form
from tests.support.servers import Canned
from trustescalate.config import parse_config
from trustescalate.config.providers import listed_price
from trustescalate.errors import ProviderError
from trustescalate.judges.litellm import LiteLLMBackend
from trustescalate.project import Project
from trustescalate.records import Message, Reply, Request, Run

SENTINEL = "sk-sentinel-0123456789abcdef"
SECRET_TEXT = "a private prompt 8c1f"
ROOT = Path(__file__).parents[3]
MODELS = {
    "anthropic": ("anthropic/{}", ""),
    "gemini": ("gemini/{}", ""),
    "openai": ("openai/{}", "/v1"),
    "bedrock": ("bedrock/converse/{}", ""),
}
NAMES = {("gemini", size): name for name, size in SIZES.items()}
EXTRA = {"bedrock": {"aws_region_name": "eu-west-1"}}


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One key, and no address beside this machine: any other connection is an error."""
    for name in list(os.environ):
        if name.endswith(("_API_KEY", "_TOKEN")) or name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("JUDGE_KEY", SENTINEL)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    looked_up: list[str] = []
    resolve = socket.getaddrinfo

    def loopback_only(host: Any, *more: Any, **given: Any) -> Any:
        if host not in ("127.0.0.1", "localhost", None):
            looked_up.append(str(host))
            raise OSError(f"{host} is not this machine")
        return resolve(host, *more, **given)

    monkeypatch.setattr(socket, "getaddrinfo", loopback_only)
    yield
    assert looked_up == []


def asked(
    server: ProviderServer | str, provider: str = "anthropic", *, requests: int = 1, **given: Any
) -> tuple[list[Reply], list[str]]:
    notices: list[str] = []
    model, path = MODELS[provider]
    root = server if isinstance(server, str) else server.root
    settings: dict[str, Any] = {
        **{"model": model.format("XS"), "base_url": f"{root}{path}", "api_key_env": "JUDGE_KEY"},
        **{"extra": EXTRA.get(provider, {}), "give_up_after": 30.0, "notice": notices.append, **given},
    }
    messages = (Message("system", "Which is longer?"), Message("user", SECRET_TEXT))

    async def main() -> list[Reply]:
        backend = LiteLLMBackend(**settings)
        try:
            each = [Request(messages, ("A", "B"), 16, 0.0, True, sample) for sample in range(requests)]
            return list(await asyncio.gather(*map(backend.complete, each)))
        finally:
            await backend.close()

    return asyncio.run(main()), notices


def project(folder: Path, server: ProviderServer, backend: str, provider: str, **more: str) -> Path:
    model, path = MODELS[provider]
    judges = ""
    for name, size in (("small", "XS"), ("large", "M")):
        fields = {
            **{"name": name, "backend": backend, "channel": "samples"},
            **{"model": model.format(NAMES.get((provider, size), size)) if backend == "litellm" else size},
            **{"base_url": f"{server.root}{path}", "api_key_env": "JUDGE_KEY", **more},
        }
        judges += "[[judges]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in fields.items())
        judges += "price = { input = 1.0, output = 2.0 }\n"
        if provider in EXTRA:
            judges += 'extra = { aws_region_name = "eu-west-1" }\n'
    more_settings = {
        "guarantee": 'path = "common"\nprocedure = "bonferroni"',
        "ensemble": "samples = 1\nswap = false",
    }
    return write_project(folder, judges, labelled=30, unlabelled=10, alpha=0.85, pilot=0, **more_settings)


def certified_run(config: Path) -> Run:
    asyncio.run(Project.open(config).calibrate())
    return asyncio.run(Project.open(config).run())


def verdicts(run: Run) -> list[tuple[str, Any, Any]]:
    return [(row.item_id, row.label, row.judge) for row in run.decisions]


# ── decisions ──────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run of `backend = "openai"`."""
    with pytest.MonkeyPatch.context() as patch, ProviderServer() as server:
        patch.setenv("JUDGE_KEY", SENTINEL)
        run = certified_run(project(tmp_path_factory.mktemp("plain"), server, "openai", "openai"))
    assert len(run.decisions) == 10
    assert any(row.label is not None for row in run.decisions)
    return run


@pytest.mark.parametrize("provider", MODELS)
def test_decisions_are_those_of_the_backend_openai_with_the_same_replies(
    provider: str, plain: Run, tmp_path: Path
) -> None:
    with ProviderServer() as server:
        run = certified_run(project(tmp_path, server, "litellm", provider))
    assert verdicts(run) == verdicts(plain)
    assert run.judgments[0].usage.input_tokens > 0
    if provider == "anthropic":
        assert {row.served for row in run.judgments} <= {("XS-served",), ("M-served",)}


def test_the_modes_that_write_more_are_read_alike() -> None:
    text = '{"reasoning": "longer", "verdict": "A"}'
    with ProviderServer(lambda path, chat, nth: Canned(200, reply_in_form(path, chat, text))) as server:
        for provider, (model, path) in MODELS.items():

            async def main(model: str = model, path: str = path, provider: str = provider) -> Reply:
                backend = LiteLLMBackend(
                    model=model.format("XS"), base_url=server.root + path, api_key_env="JUDGE_KEY",
                    extra=EXTRA.get(provider),
                )  # fmt: skip
                try:
                    turn = (Message("user", "q"),)
                    return await backend.complete(Request(turn, ("A", "B"), 99, 0.0, False, 0, "structured"))
                finally:
                    await backend.close()

            reply = asyncio.run(main())
            assert (json.loads(reply.text)["verdict"], reply.failure) == ("A", None), provider


def test_log_probabilities_come_through() -> None:
    top = [{"token": "A", "logprob": -0.1, "bytes": [65]}, {"token": "B", "logprob": -2.5, "bytes": [66]}]

    def plan(path: str, chat: Any, nth: int) -> Canned:
        body = reply_in_form(path, chat, "A")
        body["choices"][0]["logprobs"] = {"content": [{**top[0], "top_logprobs": top}]}
        return Canned(200, body)

    with ProviderServer(plan) as server:
        (reply,), notices = asked(server, "openai")
    assert reply.tokens is not None
    assert dict(reply.tokens[0].top) == {"A": -0.1, "B": -2.5}
    assert notices == []


def test_what_the_provider_does_not_take_is_said_once_and_not_dropped_in_silence() -> None:
    with ProviderServer() as server:
        (reply, *_), notices = asked(server, requests=3)
        assert (reply.text, reply.failure, reply.tokens) == ("A", None, None) or reply.text == "B"
        assert [notice for notice in notices if "gives no log-probabilities" in notice] == notices
        assert len(notices) == 1
        with pytest.raises(ProviderError, match="does not support 'presence_penalty'") as caught:
            asked(server, extra={"presence_penalty": 0.5})
    assert caught.value.hint == "leave it out of extra"


def test_the_example_calibrates_and_runs(tmp_path: Path) -> None:
    config = write_project(tmp_path, "", labelled=24, unlabelled=6)
    config.write_text((ROOT / "examples" / "integrations" / "litellm.toml").read_text())
    with ProviderServer() as server:
        sets = [f"judges.{name}.base_url={server.root}" for name in ("small", "large")]
        sets += ["ensemble.samples=1", "ensemble.annotators=2", "ensemble.shots=2", "guarantee.alpha=0.85"]
        words = [word for each in (*sets, "guarantee.pilot=0") for word in ("--set", each)]
        outputs = []
        for command in ("calibrate", "run"):
            done = subprocess.run(
                [sys.executable, "-m", "trustescalate", command, *words],
                cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True,
                text=True, check=False,
            )  # fmt: skip
            outputs.append(done.stdout + done.stderr)
            assert done.returncode == 0, outputs
    (header,) = (json.loads(path.read_text()) for path in tmp_path.glob("runs/*/run.json"))
    small, large = header["config"]["judges"]
    assert small["price"]["source"].startswith("LiteLLM ")
    assert (small["price"]["input"], large["price"]["source"]) == (0.1, None)
    (tmp_path / "output.txt").write_text("\n".join(outputs))


# ── failures ───────────────────────────────────────────────────────────────────────────────────────

ERROR = {"type": "error", "error": {"type": "x", "message": f"sorry, {SENTINEL}: {SECRET_TEXT[:0]}no"}}


@pytest.mark.parametrize("provider", MODELS)
@pytest.mark.parametrize(
    ("canned", "failure", "calls"),
    [
        (Canned(429, ERROR, {"retry-after": "0.02"}), "rate_limited", 2),
        (Canned(500, ERROR), "server_error", 2),
        (Canned(503, ERROR), "server_error", 2),
        (Canned(400, ERROR), "bad_request", 1),
        (Canned(200, '{"id": "m", "type": "message", "conte'), "bad_reply", 2),
        (Canned(200, "<html>hello</html>"), "bad_reply", 2),
    ],
    ids=["429", "500", "503", "400", "cut body", "page"],
)
def test_a_failure_is_a_value_after_our_own_attempts(
    provider: str, canned: Canned, failure: str, calls: int, capfd: pytest.CaptureFixture[str]
) -> None:
    with ProviderServer(lambda path, chat, nth: canned) as server:
        (reply,), notices = asked(server, provider, attempts=2)
    assert (reply.failure, len(server.asked)) == (failure, calls)
    assert SENTINEL not in f"{reply}{notices}{capfd.readouterr()}"
    assert SECRET_TEXT not in f"{reply.text}{notices}"


@pytest.mark.parametrize("provider", MODELS)
def test_retry_after_is_waited_for_and_no_second_layer_retries(provider: str) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    def plan(path: str, chat: Any, nth: int) -> Canned | None:
        return Canned(429, ERROR, {"retry-after": "7"}) if nth <= 2 else None

    with ProviderServer(plan) as server:
        (reply,), _ = asked(server, provider, sleep=sleep)
    assert reply.failure is None
    assert len(server.asked) == 3
    assert all(7 <= wait <= 7.7 for wait in waits)
    assert len(waits) == 2


@pytest.mark.parametrize(
    ("provider", "ending"),
    [("anthropic", "refusal"), ("openai", "content_filter"), ("gemini", "SAFETY")],
)
def test_a_refusal_and_a_cut_reply_are_named(provider: str, ending: str) -> None:
    cut = {"anthropic": "max_tokens", "openai": "length", "gemini": "MAX_TOKENS"}[provider]
    with ProviderServer(lambda path, chat, nth: Canned(200, reply_in_form(path, chat, "", ending))) as server:
        assert asked(server, provider)[0][0].failure == "refused"
    with ProviderServer(lambda path, chat, nth: Canned(200, reply_in_form(path, chat, "I", cut))) as server:
        assert asked(server, provider)[0][0].finish == "length"


@pytest.mark.parametrize("provider", MODELS)
def test_errors_that_doom_every_request_are_named_with_a_hint(provider: str) -> None:
    expected = {
        401: ("the key is missing or refused", "check the environment variable JUDGE_KEY"),
        404: ("no such model or address", "check model ="),
        307: ("the address was moved", "follow no redirect"),
    }
    for status, (message, hint) in expected.items():
        with ProviderServer() as other:
            headers = {"location": f"{other.root}/v1/messages"} if status == 307 else {}
            canned = Canned(status, ERROR, headers)
            with ProviderServer(lambda *_, canned=canned: canned) as server:
                with pytest.raises(ProviderError, match=message) as caught:
                    asked(server, provider)
                assert len(server.asked) == 1
            assert other.asked == [], "texts and keys follow no redirection"
        assert hint in caught.value.hint
        assert SENTINEL not in f"{caught.value.message}{caught.value.hint}"


def test_without_a_key_or_a_provider_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ProviderError, match="ANTHROPIC_API_KEY is not set"):
        LiteLLMBackend(model="anthropic/m")
    monkeypatch.delenv("JUDGE_KEY")
    with pytest.raises(ProviderError, match="JUDGE_KEY is not set"):
        LiteLLMBackend(model="anthropic/m", api_key_env="JUDGE_KEY")
    with pytest.raises(ProviderError, match="knows no provider 'antropic'") as caught:
        LiteLLMBackend(model="antropic/m")
    assert caught.value.hint == "did you mean 'anthropic'?"


def test_a_key_of_the_environment_goes_to_its_provider_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """With another address and no api_key_env, LiteLLM would send the provider's key there."""
    for name in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY", "AWS_BEARER_TOKEN_BEDROCK"):
        monkeypatch.setenv(name, SENTINEL)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA0123456789")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SENTINEL)
    with ProviderServer() as server:
        for provider in MODELS:
            (reply,), _ = asked(server, provider, api_key_env=None)
            assert reply.failure is None
    assert SENTINEL not in json.dumps([dict(each) for each in server.headers])
    assert "AKIA0123456789" not in json.dumps([dict(each) for each in server.headers])


def test_nothing_listens() -> None:
    (reply,), notices = asked("http://127.0.0.1:9", attempts=1)
    assert reply.failure == "unreachable"
    assert "nothing listens at http://127.0.0.1:9" in notices[-1]


def test_concurrency_is_ours() -> None:
    with ProviderServer() as server:
        replies, _ = asked(server, requests=40, concurrency=3)
    assert len(replies) == 40
    assert server.peak <= 3


# ── what LiteLLM does by itself ────────────────────────────────────────────────────────────────────


QUIET = """
import asyncio, os, socket, sys
looked = []
def refused(*given, **more):
    looked.append(given[:1])
    raise OSError("no network here")
socket.getaddrinfo = refused
from trustescalate.config.providers import listed_price
price = listed_price("anthropic/claude-haiku-4-5")
assert price["input"] == 1.0 and price["output"] == 5.0 and price["source"].startswith("LiteLLM 1."), price
assert "litellm" not in sys.modules, "the price is read without the package"
from trustescalate.judges.litellm import load
litellm = load()
assert "LEAKED" not in os.environ, "a .env file of the working folder is not read"
assert litellm.telemetry is False and litellm.drop_params is False and litellm.callbacks == []
assert litellm.success_callback == [] and litellm.failure_callback == []
import time; time.sleep(1)
print("looked up:", looked)
"""


def test_its_import_sends_nothing_and_reads_no_env_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("LEAKED=1\nANTHROPIC_API_BASE=http://example.invalid\n")
    result = subprocess.run(
        [sys.executable, "-c", QUIET],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "LITELLM_LOG": "DEBUG", "LITELLM_DROP_PARAMS": "True"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == "looked up: []\n"


def test_debug_logs_are_off(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    import litellm

    litellm._turn_on_debug()
    with ProviderServer(lambda path, chat, nth: Canned(500, ERROR) if nth < 2 else None) as server:
        asked(server, attempts=2)
    output = f"{capfd.readouterr()}{caplog.text}"
    assert SENTINEL not in output
    assert SECRET_TEXT not in output


# ── prices ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("model", "price"),
    [
        ("openai/gpt-4o-mini", (0.15, 0.6, 0.075)),
        ("gemini/gemini-2.5-flash", (0.3, 2.5, 0.03)),
        ("vertex_ai/gemini-2.5-flash", (0.3, 2.5, 0.03)),
        ("azure/gpt-4o", (2.5, 10.0, 1.25)),
        ("bedrock/converse/us.anthropic.claude-haiku-4-5-20251001-v1:0", (1.1, 5.5, 0.11)),
        ("anthropic/no-such-model", None),
    ],
)
def test_a_listed_price(model: str, price: tuple[float, ...] | None) -> None:
    listed = listed_price(model)
    if price is None:
        assert listed is None
    else:
        assert listed is not None
        assert (listed["input"], listed["output"], listed["cached_input"]) == price


def test_its_own_tokenizer_counts_no_price_of_ours(tmp_path: Path) -> None:
    """The price of a run is the one that its header records, and stays that."""
    table = {"name": "j", "backend": "litellm", "model": "anthropic/claude-haiku-4-5"}
    (judge,) = parse_config({"version": 1, "judges": [table]}, tmp_path / "x.toml").judges
    assert judge.has_price
    assert (judge.price.input, judge.price.output) == (1.0, 5.0)
    assert str(judge.price.source).startswith("LiteLLM 1.")
    stated = {**table, "price": {"input": 3.0}}
    (judge,) = parse_config({"version": 1, "judges": [stated]}, tmp_path / "x.toml").judges
    assert (judge.price.input, judge.price.output, judge.price.source) == (3.0, 0.0, None)


# ── what every backend keeps ───────────────────────────────────────────────────────────────────────


def test_the_contract_of_every_backend_holds_with_the_real_package(pytestconfig: pytest.Config) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-o", "filterwarnings=default", "-p", "no:cacheprovider",
         str(ROOT / "tests" / "judges" / "test_contract.py"), "-k", "litellm"],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-2000:]
    assert "6 passed" in result.stdout
