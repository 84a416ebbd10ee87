"""Texts for GitHub: hostile ones are inert, long ones bounded, workflow commands escaped."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from tests.support.actions import ROOT, read_outputs
from tests.support.hostile_run import hostile_run
from trustescalate.config import GateTable, parse_config
from trustescalate.errors import NotMeasurable, UsageError
from trustescalate.integrations.github.commands import annotation, secret_values, write_outputs
from trustescalate.integrations.github.inputs import Event, read_event, read_inputs
from trustescalate.integrations.github.offline import UNUSED_KEY, must_be_recorded
from trustescalate.integrations.github.texts import (
    LONGEST_COMMENT,
    Outcome,
    annotations,
    comment,
    inert,
    summary,
)
from trustescalate.report.document import build
from trustescalate.report.gate import Verdict
from trustescalate.report.release import with_release
from trustescalate.report.sections import Check, Report

MARKER = "<!-- trustescalate gate 0123456789abcdef -->"
ATTACK = (
    "@octocat #12 GH-34 octo/repo#5 octo/repo@0123456789abcdef0123456789abcdef01234567 deadbeefcafe "
    "![x](http://evil.example/x.png) <img src=x> [x](//evil.example) https://evil.example www.evil.example "
    f"a@evil.example - [ ] task {MARKER} --> <details> `code` \n# heading\n\n- [x] done\n::error::forged"
)

TAGS = (
    *("p", "h2", "h3", "ul", "li", "strong", "em", "sub", "code", "blockquote"),
    *("table", "thead", "tbody", "tr", "th", "td"),
)


def report(question: str = ATTACK) -> Report:
    """A report in which every text is an attack, with the verdict of a gate."""
    built = build(hostile_run())
    checks = [Check(ATTACK, "fail", ATTACK, ATTACK, ATTACK) for _ in range(3)]
    stated = Check("what is checked", "pass", "stated", ATTACK, ATTACK)
    gated = with_release(built, Verdict("fail", (stated, *checks)), GateTable())
    return replace(gated, task=replace(built.task, question=question), claim=ATTACK, advice=ATTACK)


def outcome(given: Report) -> Outcome:
    verdict = Verdict("fail", tuple(Check(ATTACK, "fail", ATTACK, ATTACK, ATTACK) for _ in range(30)))
    return Outcome("fail", 1, verdict=verdict, report=given, folder=Path("runs/r1"))


def must_be_inert(text: str) -> None:
    """No mention, reference, link, image, element or task list that GitHub would make of it."""
    plain = text.replace("&#64;<!-- -->", "").replace("&#35;<!-- -->", "")
    assert set(re.findall(r"<[^>]*>", plain)) <= {"<code>", "</code>", "<sub>", "</sub>", "<!-- -->"}
    pieces = re.sub(r"&#\d+;", "&", re.sub(r"</?\w+>", " ", plain)).split("<!-- -->")
    assert not [
        piece for piece in pieces if re.search(r"[0-9a-f]{7}|[a-z]-\d|https?://|www\.\w", piece, re.I)
    ]
    assert not re.search(r"[@`\[\]]|(?<!&)#\w|!\[", plain)
    assert not re.search(r"^\s*[-*+] &#91;", text, re.MULTILINE)
    assert not re.search(r"^::", text, re.MULTILINE)
    page = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
    tags = set(re.findall(r"<(\w+)", page))
    assert tags <= set(TAGS)
    assert "heading" not in " ".join(re.findall(r"<h\d>(.*?)</h\d>", page))


def test_hostile_texts_are_inert_in_the_comment_and_the_summary() -> None:
    given = outcome(report())
    text = comment(given, MARKER, ATTACK, [], offline=True)
    first, _, rest = text.partition("\n")
    assert first == MARKER
    assert MARKER not in rest
    must_be_inert(rest)
    must_be_inert(summary(given, [], offline=True))
    failed = Outcome("error", 2, ATTACK, ATTACK)
    must_be_inert(comment(failed, MARKER, ATTACK, [], offline=False).partition("\n")[2])
    must_be_inert(summary(failed, [], offline=False))


@pytest.mark.parametrize("question", ["é" * 70_000, "🙂" * 40_000, "ok"])
def test_a_comment_is_bounded_and_keeps_its_marker_and_headline(question: str) -> None:
    given = outcome(report(question))
    text = comment(given, MARKER, "gate", [], offline=False)
    assert len(text.encode("utf-16-le")) // 2 <= LONGEST_COMMENT
    assert text.startswith(f"{MARKER}\n\n## ")
    assert ("*This is shortened: it was too long.*" in text) == (question != "ok")
    assert len(summary(given, [], offline=False).encode()) < 2**20


def test_a_comment_is_the_first_screen_and_holds_nothing_that_changes_by_itself() -> None:
    given = replace(report(), facts=("run r1", "75 items"), follow=("trustescalate gate r1",))
    text = comment(outcome(given), MARKER, "gate", [], offline=False)
    assert "<sub>75 items</sub>" in text
    assert "r1" not in text
    assert "### " not in text


def test_a_secret_in_a_text_is_replaced_as_it_is_and_as_escaped() -> None:
    secret = "sk_live_9876543210fedcba"
    failed = Outcome("error", 2, f"refused: {secret}", secret)
    for text in (
        comment(failed, MARKER, "g", [secret], offline=False),
        summary(failed, [secret], offline=False),
    ):
        assert text.count("***") == 2
        assert "9876543210" not in text.replace("<!-- -->", "")
    (line,) = annotations(failed, Path("x.toml"), Path(), [secret], fails=True)
    assert line == "::error title=Release gate%3A error::refused: *** (***)"


def test_inert_breaks_every_run_of_hexadecimal_digits() -> None:
    assert "<!-- -->" in inert("a" * 7, [])
    assert max(map(len, inert("0123456789abcdef" * 3, []).split("<!-- -->"))) == 6


# ── annotations ──────────────────────────────────────────────────────────────────────────────────


def test_an_annotation_is_one_command_whatever_it_quotes() -> None:
    text = annotation(
        "error", "50 %\r\n::set-output name=x::y\x1b[0m", title="a:b,c\n", file="x,y:z.toml", line=3
    )
    assert text == (
        "::error file=x%2Cy%3Az.toml,line=3,title=a%3Ab%2Cc⏎::50 %25%0A::set-output name=x::y␛[0m"
    )


def test_annotations_are_few_and_at_the_place_that_the_error_names(tmp_path: Path) -> None:
    config = tmp_path / "trustescalate.toml"
    config.write_text(
        "version = 1\n[other]\nmin_coverage = 1\n[gate]   # what CI checks\nmin_coverage=0.9\n", "utf-8"
    )
    (tmp_path / "items.jsonl").write_text("{}\n", "utf-8")
    checks = [
        Check("coverage", "fail", "0.9", "0.5", "too few"),
        Check("cost", "undecided", "1", "?", "no price"),
    ]
    given = Outcome("fail", 1, verdict=Verdict("fail", tuple(checks * 8)), report=report(), folder=tmp_path)
    lines = annotations(given, config, tmp_path, [], fails=True)
    assert len(lines) == 10
    assert lines[0] == (
        "::error file=trustescalate.toml,line=5,title=Release gate%3A coverage%3A fail::"
        "0.5, required: 0.9: too few"
    )
    assert lines[-1].startswith(
        "::warning file=trustescalate.toml,line=4,title=Release gate%3A cost%3A undecided"
    )
    where = f"2 problems in the data\n  {tmp_path}/items.jsonl:1: no id\n  {tmp_path}/items.jsonl:7: 5 %"
    lines = annotations(Outcome("error", 2, where), config, tmp_path, [], fails=True)
    assert lines == [
        "::error file=items.jsonl,line=1,title=Release gate%3A error::no id",
        "::error file=items.jsonl,line=7,title=Release gate%3A error::5 %25",
    ]
    (line,) = annotations(Outcome("undecided", 3, "x"), tmp_path / "no.toml", tmp_path, [], fails=False)
    assert line == "::warning title=Release gate%3A undecided::x"


# ── inputs and the event ─────────────────────────────────────────────────────────────────────────


def test_outputs_survive_values_that_look_like_outputs(tmp_path: Path) -> None:
    file = tmp_path / "out"
    write_outputs({"a": "1\nverdict=pass\nEOF", "b": 2}, {"GITHUB_OUTPUT": str(file)})
    assert read_outputs(file.read_text("utf-8")) == {"a": "1\nverdict=pass\nEOF", "b": "2"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"FAIL_ON": "breach"}, "input fail-on: 'breach' is no outcome"),
        ({"OFFLINE": "maybe"}, "input offline: 'maybe' is not one of auto, true, false"),
        ({"TRUST": "yes"}, "input trust"),
        ({"BUDGET_USD": "nan"}, "input budget-usd"),
        ({"BUDGET_CALLS": "1.5"}, "input budget-calls"),
    ],
)
def test_a_wrong_input_is_named(given: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        read_inputs({f"INPUT_{name}": value for name, value in given.items()})


def test_inputs_are_read_from_the_environment() -> None:
    given = read_inputs({"INPUT_SET": "a.b=1\n\n c.d=2 \n", "INPUT_BASELINE": "r1", "INPUT_FAIL_ON": "none"})
    assert given.overrides == ("a.b=1", "c.d=2", 'gate.baseline="r1"')
    assert given.fail_on == frozenset()
    assert given.marker != read_inputs({"INPUT_NAME": "other"}).marker


@pytest.mark.parametrize(
    ("head", "environment", "wanted"),
    [
        ({"repo": {"full_name": "Octo/Repo"}}, {}, Event(3, False, True)),
        ({"repo": {"full_name": "evil/repo"}}, {}, Event(3, True, False)),
        ({"repo": None}, {}, Event(3, True, False)),
        ({"repo": {"full_name": "octo/repo"}}, {"GITHUB_ACTOR": "dependabot[bot]"}, Event(3, True, False)),
        (
            {"repo": {"full_name": "evil/repo"}},
            {"GITHUB_EVENT_NAME": "pull_request_target"},
            Event(3, True, True),
        ),
    ],
)
def test_a_fork_is_known_by_its_repository(
    head: object, environment: dict[str, str], wanted: Event, tmp_path: Path
) -> None:
    file = tmp_path / "event.json"
    file.write_text(json.dumps({"pull_request": {"number": 3, "head": head}}), "utf-8")
    known = {"GITHUB_EVENT_PATH": str(file), "GITHUB_REPOSITORY": "octo/repo", **environment}
    assert read_event(known) == wanted
    assert read_event({}) == Event(None, False, True)


def test_variables_with_keys_are_known_even_where_the_file_is_wrong(tmp_path: Path) -> None:
    config = tmp_path / "x.toml"
    config.write_text(
        'nonsense = 1\n[[judges]]\napi_key_env = "A_KEY"\noptions = { token_env = "B" }\n', "utf-8"
    )
    known = {"A_KEY": "aaaaaaaaa", "B": "bbbbbbbbbb", "C": "cccccccc", "HF_TOKEN": "hf", "OTHER": "x"}
    assert secret_values(config, ["judges.1.api_key_env='C'"], known) == (
        "bbbbbbbbbb", "aaaaaaaaa", "cccccccc", "hf",
    )  # fmt: skip


# ── offline ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("backend", ["callable", "mock", "simulated", "local"])
def test_offline_refuses_judges_that_run_anything(backend: str, tmp_path: Path) -> None:
    keys = {
        "callable": {"function": "m:f", "version": "1"},
        "simulated": {"model": "M"},
        "local": {"model": "x/y"},
    }
    judge = {"name": "j", "backend": backend, **keys.get(backend, {})}
    config = parse_config({"version": 1, "judges": [judge]}, tmp_path / "trustescalate.toml")
    with pytest.raises(NotMeasurable, match=f"offline: judge 'j' \\(backend = '{backend}'\\)"):
        must_be_recorded(config, asking=True)
    must_be_recorded(config, asking=False)


def test_offline_endpoints_get_no_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TEAM_API_KEY", "secret-value")
    judge = {"name": "j", "backend": "openai", "model": "m", "api_key_env": "TEAM_API_KEY"}
    must_be_recorded(parse_config({"version": 1, "judges": [judge]}, tmp_path / "t.toml"), asking=True)
    assert os.environ["TEAM_API_KEY"] == UNUSED_KEY


def test_a_process_that_is_cut_off_reaches_nothing() -> None:
    script = """
import asyncio, os, socket, subprocess, urllib.request
from trustescalate.integrations.github.offline import cut_off, must_have_stayed_offline
from trustescalate.errors import NotMeasurable
server = socket.create_server(("127.0.0.1", 0))
address = server.getsockname()
cut_off()
must_have_stayed_offline()
async def opened():
    await asyncio.open_connection(*address)
tries = [lambda: socket.create_connection(address), lambda: asyncio.run(opened()),
         lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", address),
         lambda: socket.getaddrinfo("localhost", 80), lambda: os.system("true"),
         lambda: subprocess.run(["true"]), lambda: os.fork(),
         lambda: os.posix_spawn("/bin/true", ["true"], {}),
         lambda: urllib.request.urlopen(f"http://127.0.0.1:{address[1]}/")]
for number, attempt in enumerate(tries):
    try:
        attempt()
    except OSError as error:
        assert "offline: " in str(error), (number, error)
    else:
        raise SystemExit(f"{number} went through")
try:
    must_have_stayed_offline()
except NotMeasurable as error:
    print(error.message)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "offline: socket.getaddrinfo was attempted and refused\n")
