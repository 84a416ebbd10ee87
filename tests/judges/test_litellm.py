"""The backend `litellm` without its package: configuration, prices, trust, keys and failures."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import cli
from tests.support.litellm_stand_in import use_stand_in
from tests.support.projects import write_project
from tests.support.servers import Canned, FaultServer
from trustescalate.config import Config, needs_trust, parse_config
from trustescalate.errors import ConfigError, ProviderError
from trustescalate.judges.litellm import LiteLLMBackend, find_key
from trustescalate.judges.provider_batches import batches_address
from trustescalate.records import Message, Reply, Request

SENTINEL = "sk-sentinel-0123456789abcdef"
LISTED = {
    "claude-x": {
        **{"litellm_provider": "anthropic", "input_cost_per_token": 1e-6, "output_cost_per_token": 5e-6},
        "cache_read_input_token_cost": 1e-7,
    },
    "vertex-only": {
        **{
            "litellm_provider": "vertex_ai-models",
            "input_cost_per_token": 1e-6,
            "output_cost_per_token": 1e-6,
        }
    },
    "anthropic/latest": {"alias_of": "claude-x"},
    "anthropic/broken": {
        "litellm_provider": "anthropic",
        "input_cost_per_token": "1",
        "output_cost_per_token": 1,
    },
}


def config(**fields: Any) -> Config:
    table = {"name": "j", "backend": "litellm", "model": "anthropic/claude-x", **fields}
    return parse_config({"version": 1, "judges": [table]}, Path("x.toml"))


@pytest.fixture
def listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of that name with a list of prices, which must not be imported."""
    package = tmp_path / "site" / "litellm"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise AssertionError('imported for a price')\n")
    (package / "model_prices_and_context_window_backup.json").write_text(json.dumps(LISTED))
    monkeypatch.delitem(sys.modules, "litellm", raising=False)
    monkeypatch.syspath_prepend(str(package.parent))
    return package


def asked(server: FaultServer, **given: Any) -> tuple[Reply, list[str]]:
    notices: list[str] = []
    settings = {"model": "openai/m", "base_url": server.url, "api_key_env": "JUDGE_KEY", **given}

    async def main() -> Reply:
        backend = LiteLLMBackend(notice=notices.append, **settings)
        try:
            return await backend.complete(Request((Message("user", "q"),), ("A", "B"), 16, 0.0, True))
        finally:
            await backend.close()

    return asyncio.run(main()), notices


# ── configuration ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": "claude-x"}, "match"),
        ({"model": "huggingface/https://example.org/m"}, "name it by base_url"),
        ({"model": "vertex_ai/m", "base_url": "http://localhost:1"}, "credentials would be sent there"),
        ({"extra": {"api_base": "http://example.org"}}, "extra.api_base is not a field of the request"),
        ({"extra": {"aws_bedrock_runtime_endpoint": "http://example.org"}}, "is not a field of the request"),
        ({"extra": {"aws_role_name": "os.environ/OPENAI_API_KEY"}}, "reads an environment variable"),
        ({"extra": {"aws_region_name": "x.example.org/"}}, "is no name of a name"),
        ({"extra": {"success_callback": ["langfuse"]}}, "is not a field of the request"),
        ({"extra": {"num_retries": 3}}, "is not a field of the request"),
        ({"extra": {"api_key": SENTINEL}}, "seems to be a secret"),
    ],
)
def test_what_would_make_another_connection_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(**fields)
    assert message in str(caught.value)
    assert SENTINEL not in str(caught.value)
    assert config(extra={"aws_region_name": "eu-west-1", "top_k": 5, "max_tokens": False})


def test_trust_names_other_hosts_providers_and_keys() -> None:
    named = {
        "none": config(),
        "known": config(api_key_env="ANTHROPIC_API_KEY"),
        "bedrock": config(model="bedrock/m"),
        "loopback": config(base_url="http://127.0.0.1:1"),
        "address": config(base_url="http://example.org"),
        "provider": config(model="novita/m"),
        "key": config(api_key_env="OPENAI_API_KEY"),
    }
    things = {name: [thing.what for thing in needs_trust(each)] for name, each in named.items()}
    assert [name for name, what in things.items() if not what] == ["none", "known", "bedrock", "loopback"]
    assert things["address"] == ["judge 'j': sends texts to http://example.org"]
    assert things["provider"] == ["judge 'j': sends texts to the provider 'novita' of LiteLLM"]
    assert "OPENAI_API_KEY, which is named like the key of another provider" in things["key"][0]


def test_the_price_list_is_read_without_the_package(listed: Path) -> None:
    price = config().judges[0].price
    assert (price.input, price.output, price.cached_input) == (1.0, 5.0, 0.1)
    assert str(price.source).startswith("LiteLLM ")
    assert config(model="anthropic/latest").judges[0].price.output == 5.0
    for unknown in ("anthropic/vertex-only", "anthropic/broken", "anthropic/none"):
        judge = config(model=unknown).judges[0]
        assert (judge.has_price, judge.price.source) == (False, None)
    stated = config(price={"input": 3.0}).judges[0].price
    assert (stated.input, stated.output, stated.source) == (3.0, 0.0, None)


def test_where_a_price_is_from_is_shown_and_not_fingerprinted(listed: Path, tmp_path: Path) -> None:
    judge = '[[judges]]\nname = "j"\nbackend = "litellm"\nmodel = "anthropic/claude-x"\n'
    path = write_project(tmp_path / "project", judge, labelled=30, unlabelled=4, pilot=0)
    rows = json.loads(cli("judges", "list", "--json", "--config", path).stdout)["judges"]
    assert rows[0]["price"].startswith("input 1, output 5, cached_input 0.1 (by LiteLLM ")
    planned = cli("calibrate", "--dry-run", "--config", path)
    assert "Price of j by LiteLLM " in planned.stdout
    assert "price unknown" not in planned.stdout
    priced = rows[0]["fingerprint"]
    path.write_text(path.read_text() + "price = { input = 9.0 }\n")
    rows = json.loads(cli("judges", "list", "--json", "--config", path).stdout)["judges"]
    assert rows[0]["price"] == "input 9"
    assert rows[0]["fingerprint"] == priced


def test_batches_are_offered_where_an_api_is_known(tmp_path: Path) -> None:
    judge = '[[judges]]\nname = "j"\nbackend = "litellm"\nmodel = "{}/m"\n'
    for provider, code in (("anthropic", 0), ("gemini", 0), ("openai", 0), ("bedrock", 2)):
        path = write_project(tmp_path / provider, judge.format(provider), labelled=30, unlabelled=4, pilot=0)
        result = cli("calibrate", "--batch", "--dry-run", "--config", path)
        assert result.exit_code == code, result.output
    assert "none with a Batch API" in result.stderr
    assert batches_address("gemini", None).endswith("/v1beta")
    assert batches_address("anthropic", "http://localhost:1/v1/messages") == "http://localhost:1"


# ── keys and failures ──────────────────────────────────────────────────────────────────────────────


def test_a_key_is_found_by_its_variable_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    with pytest.raises(ProviderError, match="ANTHROPIC_API_KEY is not set"):
        find_key("anthropic/m", None, None)
    monkeypatch.setenv("ANTHROPIC_API_KEY", SENTINEL)
    assert find_key("anthropic/m", None, None) == ("ANTHROPIC_API_KEY", SENTINEL)
    assert find_key("anthropic/m", "http://example.org", None)[1] != SENTINEL
    assert find_key("bedrock/m", None, None) == ("", "")


def test_without_the_package_the_hint_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "litellm", None)
    with pytest.raises(ProviderError) as caught:
        LiteLLMBackend(model="openai/m", base_url="http://127.0.0.1:9")
    assert caught.value.hint == "pip install 'trustescalate[litellm]'"


def test_errors_are_read_from_what_is_raised_and_show_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    use_stand_in(monkeypatch)
    monkeypatch.setenv("JUDGE_KEY", SENTINEL)
    monkeypatch.setenv("OTHER_SERVICE_TOKEN", "another-secret-42")
    error = {"error": {"message": f"no: {SENTINEL} another-secret-42"}}
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    with FaultServer(plan=lambda body, nth: Canned(429, error, {"retry-after": "7"})) as server:
        reply, notices = asked(server, attempts=2, sleep=sleep)
        assert server.stats.requests == 2
    assert reply.failure == "rate_limited"
    assert 7 <= waits[0] <= 7.7
    assert notices == [f"openai/m at {server.url}: a request failed (HTTP 429): no: *** ***"]
    with (
        FaultServer(plan=lambda body, nth: Canned(401, error)) as server,
        pytest.raises(ProviderError, match="the key is missing or refused") as caught,
    ):
        asked(server)
    assert caught.value.hint == "check the environment variable JUDGE_KEY"
    with FaultServer() as server, pytest.raises(ProviderError, match="does not support 'no_such_field'"):
        asked(server, extra={"no_such_field": 1})
    reply, _ = asked(server, attempts=1)
    assert reply.failure == "unreachable"
    with FaultServer() as server:
        reply, notices = asked(server)
    assert reply.failure is None
    assert reply.tokens is not None
    assert notices == []
