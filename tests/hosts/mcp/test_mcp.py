"""The MCP server with the client session of the package `mcp`, over stdio."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import ClientSession, StdioServerParameters, stdio_client
from mcp.types import CallToolResult

from tests.support.documents import ROOT
from tests.support.endpoints import CANARY
from tests.support.hosted import Certified
from tests.support.servers import Canned, FaultServer

PAGE = (ROOT / "docs/integrations/agents.md").read_text(encoding="utf-8")
SCRIPT = ROOT / "examples/integrations/mcp_client.py"


@asynccontextmanager
async def connected(folder: Path, *more: str, **environment: str) -> AsyncIterator[ClientSession]:
    """A session with a server that is started as the page says."""
    table = json.loads(re.findall(r"^```json\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[0])
    named = table["mcpServers"]["trustescalate"]
    assert named["command"] == "python"
    words = [*(str(folder) if word == "PROJECT" else word for word in named["args"]), *more]
    env = {"PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(folder.parent / "state"), **environment}
    server = StdioServerParameters(command=sys.executable, args=words, env=env)
    async with stdio_client(server) as streams, ClientSession(*streams) as session:
        await session.initialize()
        yield session


def serve(
    folder: Path, use: Callable[[ClientSession], Awaitable[Any]], *more: str, **environment: str
) -> Any:
    async def main() -> Any:
        async with connected(folder, *more, **environment) as session:
            return await use(session)

    return asyncio.run(asyncio.wait_for(main(), 120))


def body_of(result: CallToolResult) -> dict[str, Any]:
    """The JSON of a result: the same as text and as structured content."""
    (content,) = result.content
    body: dict[str, Any] = json.loads(content.text)  # type: ignore[union-attr]
    assert body == result.structured_content
    assert content.text.isascii()  # type: ignore[union-attr]
    return body


def printed(folder: Path, *words: str) -> Any:
    """What the command line prints, and its exit code."""
    command = [sys.executable, "-m", "trustescalate", *words, "--json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return json.loads(done.stdout), done.returncode


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project without a certificate."""
    return Path(shutil.copytree(ROOT / "examples/pass-fail", tmp_path / "project"))


def test_it_offers_four_tools_with_schemas_and_rules(project: Path) -> None:
    async def use(session: ClientSession) -> None:
        tools = {tool.name: tool for tool in (await session.list_tools()).tools}
        assert list(tools) == ["check", "plan", "calibrate", "gate"]
        assert set(tools["calibrate"].input_schema["properties"]) == {
            *("config", "accept", "budget_usd", "budget_calls"),
        }
        assert all(tool.description and tool.annotations for tool in tools.values())
        assert [name for name, tool in tools.items() if tool.annotations.read_only_hint] == ["check"]  # type: ignore[union-attr]
        assert session.initialize_result is not None
        assert "only 0 is a pass" in str(session.initialize_result.instructions)

    serve(project, use)


def test_each_result_is_that_of_the_command_line(graded: Certified, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(graded.folder, tmp_path / "project"))

    async def use(session: ClientSession) -> dict[str, dict[str, Any]]:
        names = ("check", "calibrate", "gate", "plan")
        results = await asyncio.gather(*(session.call_tool(name) for name in names))  # at the same time
        assert not any(result.is_error for result in results)
        return dict(zip(names, map(body_of, results), strict=True))

    given = serve(folder, use)
    for name, words in (
        ("check", ["check"]),
        ("calibrate", ["calibrate", "--dry-run"]),
        ("gate", ["gate"]),
        ("plan", ["plan", "--disagreement", "0.08"]),
    ):
        wanted, code = printed(folder, *words)
        body = given[name]["cost"] if name == "calibrate" else given[name]
        assert {key: body[key] for key in wanted} == wanted
        assert given[name]["exit_code"] == code
    assert given["gate"]["status"] == "pass"
    assert {None} < set(graded.labels.values()), "some abstained, which the gate counts as no pass"
    coverage = next(check for check in given["gate"]["checks"] if check["name"] == "coverage")
    released = sum(label is not None for label in graded.labels.values()) / len(graded.labels)
    assert coverage["observed"] == f"{100 * released:.1f} %"


def test_a_calibration_needs_the_code_of_its_cost(project: Path) -> None:
    async def use(session: ClientSession) -> None:
        stated = body_of(await session.call_tool("calibrate"))
        assert stated["cost"]["totals"][0]["calls"] == 500
        wrong = await session.call_tool("calibrate", {"accept": "yes"})
        assert wrong.is_error
        assert body_of(wrong)["exit_code"] == 2
        assert not (project / "certificate.json").exists()
        done = await session.call_tool("calibrate", {"accept": stated["accept"]})
        assert (done.is_error, body_of(done)["certificate"]["status"]) == (False, "certified")

    serve(project, use)
    assert json.loads((project / "certificate.json").read_text())["status"] == "certified"


def test_errors_are_tool_errors_and_never_a_pass(project: Path) -> None:
    async def use(session: ClientSession) -> None:
        for name, given, code in (
            ("gate", {}, 3),
            ("gate", {"config": "../trustescalate.toml"}, 2),
            ("check", {"config": "missing.toml"}, 2),
            ("plan", {"alpha": 3}, 2),
        ):
            result = await session.call_tool(name, given)
            assert (result.is_error, body_of(result)["exit_code"]) == (True, code)
        for name, given in (("plan", {"alpha": "high"}), ("run", {}), ("check", {"config": 3})):
            assert (await session.call_tool(name, given)).is_error

    serve(project, use)


def test_a_project_that_needs_trust_is_refused_with_the_list(project: Path) -> None:
    text = (project / "trustescalate.toml").read_text()
    moved = text.replace('votes = "votes/small.jsonl"', 'votes = "../small.jsonl"')
    (project / "trustescalate.toml").write_text(moved)
    shutil.copy(project / "votes/small.jsonl", project.parent / "small.jsonl")

    async def use(session: ClientSession) -> tuple[bool, dict[str, Any]]:
        result = await session.call_tool("check", {"trust": True})
        return bool(result.is_error), body_of(result)

    failed, body = serve(project, use)
    assert (failed, body["exit_code"]) == (True, 2)
    assert "judge 'small': votes = '../small.jsonl' leads out of the folder" in body["error"]
    assert serve(project, use, "--trust")[0] is False


def test_no_key_reaches_a_client(project: Path) -> None:
    config = project / "trustescalate.toml"
    echo = Canned(401, {"error": {"message": f"the key {CANARY} is wrong"}})
    with FaultServer(plan=lambda body, nth: echo) as server:
        judge = f'backend = "openai"\nmodel = "m"\nbase_url = "{server.url}"\napi_key_env = "JUDGE_API_KEY"'
        config.write_text(
            config.read_text().replace('backend = "replay"\nvotes = "votes/small.jsonl"', judge, 1)
        )

        async def use(session: ClientSession) -> CallToolResult:
            stated = body_of(await session.call_tool("calibrate"))
            return await session.call_tool("calibrate", {"accept": stated["accept"]})

        result = serve(project, use, JUDGE_API_KEY=CANARY)
    assert server.stats.requests > 0
    assert any(CANARY in value for value in server.stats.headers[0].values()), "the key was in use"
    assert (result.is_error, body_of(result)["exit_code"]) == (True, 3)
    assert CANARY not in result.model_dump_json()


def test_the_script_of_the_page_runs(graded: Certified, tmp_path: Path) -> None:
    assert SCRIPT.read_text(encoding="utf-8") in PAGE
    assert len(SCRIPT.read_text(encoding="utf-8").splitlines()) <= 20
    folder = shutil.copytree(graded.folder, tmp_path / "project")
    command = [sys.executable, str(SCRIPT), str(folder)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    shown = re.sub(r'"\w+"$', '"…"', done.stdout, flags=re.MULTILINE)
    assert f"```text\n{shown}```" in PAGE


def test_a_folder_that_is_missing_is_an_error(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "trustescalate.integrations.mcp", "--folder", str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, input="")
    assert done.returncode == 2
    assert "there is no folder" in done.stderr
