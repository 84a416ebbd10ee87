"""The plugin in pytest itself: outcomes of abstentions, properties, the gate, and runs that do not use it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.documents import ROOT
from tests.support.hosted import certified_example
from trustescalate import Run

pytest_plugins = ["pytester"]
PLUGIN = "trustescalate.integrations.pytest_plugin"
OPTIONS = ["-p", PLUGIN, "-W", "error", "--strict-markers", "--strict-config"]
JUDGE = """
import pytest

@pytest.mark.parametrize(("item_id", "prompt", "response"), {three!r})
def test_output(certified_cascade, item_id, prompt, response):
    verdict = certified_cascade(prompt, response, item_id=item_id)
    assert verdict.label == "pass", verdict.explanation
"""


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    return certified_example(tmp_path_factory.mktemp("plugin") / "project")


@pytest.fixture
def three(certified: tuple[Path, Run]) -> list[tuple[str, object, object]]:
    """An item that passes, one that fails and one that is abstained on: id, prompt and response."""
    labels = {row.label: row.item_id for row in certified[1].decisions}
    items = {item.id: item for item in certified[1].items}
    chosen = (items[labels[label]] for label in ("pass", "fail", None))
    return [(item.id, item.prompt, item.responses[0]) for item in chosen]


@pytest.fixture(autouse=True)
def only_this_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


EXPECTED = {
    (): {"passed": 1, "failed": 2},
    ("--trustescalate-abstained=skip",): {"passed": 1, "failed": 1, "skipped": 1},
    ("--trustescalate-abstained=xfail",): {"passed": 1, "failed": 1, "xfailed": 1},
    ("--trustescalate-abstained=xfail", "--runxfail"): {"passed": 1, "failed": 2},
}


@pytest.mark.parametrize("options", EXPECTED, ids=" ".join)
def test_an_abstention_ends_a_test_as_the_option_says(
    options: tuple[str, ...],
    pytester: pytest.Pytester,
    certified: tuple[Path, Run],
    three: list[tuple[str, object, object]],
) -> None:
    config = certified[0]
    pytester.makepyfile(JUDGE.format(three=three))
    result = pytester.runpytest_inprocess(*OPTIONS, f"--trustescalate-config={config}", "-ra", *options)
    result.assert_outcomes(**EXPECTED[options])
    result.stdout.fnmatch_lines_random(
        [
            "*Abstained (*human review is needed; certificate *",
            "trustescalate: 3 outputs judged, 2 released, 1 abstained (human review is needed)",
        ]
    )


def test_the_junit_report_names_the_certificate_and_who_decided(
    pytester: pytest.Pytester, certified: tuple[Path, Run], three: list[tuple[str, object, object]]
) -> None:
    from xml.etree import ElementTree

    config = certified[0]
    pytester.makepyfile(JUDGE.format(three=three))
    pytester.makeini(f"[pytest]\ntrustescalate_config = {config}\ntrustescalate_abstained = skip")
    pytester.runpytest_inprocess(*OPTIONS, "--junitxml=report.xml")
    cases = ElementTree.parse(pytester.path / "report.xml").iter("testcase")
    seen = [{each.attrib["name"]: each.attrib["value"] for each in case.iter("property")} for case in cases]
    decisions = {row.item_id: row for row in certified[1].decisions}
    for (item_id, _, _), properties in zip(three, seen, strict=True):
        decision = decisions[item_id]
        assert properties["trustescalate.item_id"] == item_id
        assert len(properties["trustescalate.certificate"]) == 16
        assert properties.get("trustescalate.label") == decision.label
        assert properties.get("trustescalate.judge") == decision.judge
        assert properties["trustescalate.abstained"] == str(decision.label is None).lower()
    assert float(seen[0]["trustescalate.score"]) == decisions[three[0][0]].score
    assert "trustescalate.score" not in seen[2]


def test_a_marker_comes_before_the_option_and_a_caught_abstention_is_no_pass(
    pytester: pytest.Pytester, certified: tuple[Path, Run], three: list[tuple[str, object, object]]
) -> None:
    config = certified[0]
    pytester.makepyfile(
        f"""
import pytest
from trustescalate import Item

ITEM = Item({three[2][0]!r}, {three[2][1]!r}, ({three[2][2]!r},))
pytestmark = pytest.mark.trustescalate(config={str(config)!r}, abstained="xfail")

def test_module(certified_cascade):
    certified_cascade.judge(ITEM)

@pytest.mark.trustescalate(abstained="skip")
def test_closest(certified_cascade):
    certified_cascade.judge(ITEM)

@pytest.mark.trustescalate(abstained="fail")
def test_caught(certified_cascade):
    try:
        certified_cascade.judge(ITEM)
    except BaseException:
        pass

@pytest.mark.trustescalate(abstained="pass")
def test_unknown_outcome(certified_cascade):
    certified_cascade.judge(ITEM)

@pytest.mark.trustescalate(abstain="skip")
def test_unknown_argument(certified_cascade):
    certified_cascade.judge(ITEM)

@pytest.fixture(scope="module")
def judged(certified_cascade):
    return certified_cascade.judge(ITEM)

def test_in_a_fixture(judged):
    pass

@pytest.mark.trustescalate(config="missing.toml")
def test_missing(certified_cascade):
    certified_cascade("2 + 2?", "4")
"""
    )
    result = pytester.runpytest_inprocess(*OPTIONS, "--trustescalate-abstained=fail", "-ra")
    result.assert_outcomes(xfailed=2, skipped=1, failed=4)
    result.stdout.fnmatch_lines_random(
        [
            "SKIPPED * test_a_marker*.py:*: Abstained (*",
            "FAILED *::test_caught*",
            "*use one of fail, skip, xfail",
            "*unknown argument of the marker trustescalate",
            "*ConfigError: *missing.toml*",
        ]
    )


GATE = """
def test_gate(trustescalate_run, assert_gate):
    assert len(trustescalate_run.decisions) == {count}
    assert_gate(trustescalate_run)
"""


@pytest.mark.parametrize(
    ("gate", "passed", "sentence"),
    [
        ("min_coverage = 0.5", True, "1 passed"),
        ("min_coverage = 0.99", False, "fail: coverage: too many items need human review; observed: *"),
        (
            "min_agreement = 0.99",
            False,
            "undecided: agreement with human labels: the certificate guarantees*",
        ),
    ],
)
def test_the_gate_fails_with_its_own_sentences_and_undecided_is_no_pass(
    gate: str, passed: bool, sentence: str, pytester: pytest.Pytester, certified: tuple[Path, Run]
) -> None:
    source, run = certified
    folder = shutil.copytree(source.parent, pytester.path / "project")
    text = source.read_text("utf-8")
    head, _, _ = text.partition("[gate]")
    (folder / "trustescalate.toml").write_text(f"{head}[gate]\n{gate}\n", "utf-8")
    pytester.makepyfile(GATE.format(count=len(run.decisions)))
    result = pytester.runpytest_inprocess(
        *OPTIONS, "--trustescalate-config=project/trustescalate.toml", "--trustescalate-abstained=skip"
    )
    result.assert_outcomes(passed=int(passed), failed=int(not passed))
    result.stdout.fnmatch_lines([f"*{sentence}*"])


def test_without_a_certificate_or_a_run_there_is_no_pass(pytester: pytest.Pytester) -> None:
    shutil.copytree(ROOT / "examples" / "pass-fail", pytester.path / "project")
    pytester.makeini("[pytest]\ntrustescalate_config = project/trustescalate.toml")
    pytester.makepyfile(
        "def test_judge(certified_cascade): certified_cascade('2 + 2?', '4')\n"
        "def test_run(trustescalate_run): pass\n"
        "def test_gate(assert_gate): assert_gate()\n"
    )
    result = pytester.runpytest_inprocess(*OPTIONS, "--trustescalate-abstained=skip")
    result.assert_outcomes(failed=2, errors=1)
    result.stdout.fnmatch_lines(["*NoCertificate: *there is no certificate yet", "*hint: *calibrate*"])


def test_a_run_of_pytest_that_does_not_use_the_plugin_imports_nothing_of_it(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile("import pytest\n@pytest.mark.skip\ndef test_skipped(): pass\ndef test_other(): pass")
    code = (
        "import sys, pytest; code = pytest.main(sys.argv[1:]); "
        "print(*sorted(name for name in sys.modules if name.startswith('trustescalate'))); sys.exit(code)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, *OPTIONS, "-q"],
        cwd=pytester.path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.splitlines()[-1].split() == [
        "trustescalate",
        "trustescalate.errors",
        "trustescalate.integrations",
        "trustescalate.integrations.pytest_plugin",
    ]
    assert "outputs judged" not in result.stdout
    outcome = pytester.runpytest_inprocess(*OPTIONS, "-o", "trustescalate_abstained=maybe")
    outcome.stderr.fnmatch_lines(["*trustescalate_abstained = maybe: use one of fail, skip, xfail"])


def test_pytest_does_not_warn_where_the_package_is_imported_first(
    pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What pytest does with each package of an installed plugin; here a warning is an error."""
    from _pytest.assertion.rewrite import AssertionRewritingHook

    assert "trustescalate" in sys.modules
    AssertionRewritingHook(pytestconfig).mark_rewrite("trustescalate")
    monkeypatch.setitem(sys.modules, "imported_before", ModuleType("imported_before"))
    with pytest.raises(pytest.PytestAssertRewriteWarning):
        AssertionRewritingHook(pytestconfig).mark_rewrite("imported_before")
