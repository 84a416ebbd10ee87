"""The plugin where pytest loads it by its entry point: decisions, outcomes, the gate, and its cost."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "examples" / "integrations" / "pytest_outputs.py"
NAME = "trustescalate"


def run_pytest(folder: Path, *options: str, python: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *python, "-m", "pytest", "-W", "error", "-p", "no:cacheprovider", *options],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture
def script(graded: Any) -> Path:
    """The example, in the folder of a project with the outputs of its run."""
    keys = ("id", "prompt")
    rows = [{key: item[key] for key in keys} | {"response": item["responses"][0]} for item in graded.items]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (graded.folder / "outputs.jsonl").write_text(lines, "utf-8")
    text = SCRIPT.read_text("utf-8")
    assert len(text.splitlines()) <= 20
    (graded.folder / SCRIPT.name).write_text(text, "utf-8")
    return Path(SCRIPT.name)


@pytest.mark.parametrize(
    ("outcome", "element"), [("fail", "failure"), ("skip", "skipped"), ("xfail", "skipped")]
)
def test_each_test_has_the_decision_of_the_command_line(
    outcome: str, element: str, graded: Any, script: Path
) -> None:
    done = run_pytest(
        graded.folder, str(script), "--junitxml=report.xml", f"--trustescalate-abstained={outcome}", "-ra"
    )
    labels = list(graded.labels.values())
    abstained, failed = labels.count(None), labels.count("fail")
    counts = dict(re.findall(r"(\d+) (\w+)", done.stdout.splitlines()[-1]))
    seen = {word: int(number) for number, word in counts.items()}
    expected = {"passed": labels.count("pass") + 1, "failed": failed}  # one test of the gate
    word = {"fail": "failed", "skip": "skipped", "xfail": "xfailed"}[outcome]
    expected[word] = expected.get(word, 0) + abstained
    assert {key: seen.get(key) for key in expected} == expected
    assert done.returncode == 1
    assert f"trustescalate: {len(labels)} outputs judged, {len(labels) - abstained} released" in done.stdout
    assert "Abstained (" in done.stdout  # pytest shows equal reasons of skipped tests once
    assert abstained > 0
    decided: dict[str, str | None] = {}
    for case in ElementTree.parse(graded.folder / "report.xml").iter("testcase"):
        properties = {each.attrib["name"]: each.attrib["value"] for each in case.iter("property")}
        item_id = properties.get(f"{NAME}.item_id")
        if item_id is None:
            assert properties[f"{NAME}.gate"] == "pass"
            continue
        decided[item_id] = properties.get(f"{NAME}.label")
        assert properties.get(f"{NAME}.judge") == graded.decisions[item_id].get("judge")
        if decided[item_id] is None:
            assert properties[f"{NAME}.abstained"] == "true"
            assert case.find(element) is not None
    assert decided == graded.labels


def test_pairs_from_many_threads(pairs: Any) -> None:
    (pairs.folder / "test_pairs.py").write_text(
        """
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

def test_pairs(certified_cascade, record_property):
    def judge(row):
        a, b = row["responses"]
        try:
            verdict = certified_cascade(row["prompt"], a, baseline=b, item_id=row["id"], meta=row.get("meta"))
        except BaseException:
            return row["id"], None
        return row["id"], verdict.label
    rows = [json.loads(line) for line in next(Path("runs").glob("*/items.jsonl")).read_text().splitlines()]
    with ThreadPoolExecutor(16) as pool:
        Path("seen.json").write_text(json.dumps(dict(pool.map(judge, rows))))
""",
        "utf-8",
    )
    done = run_pytest(pairs.folder, "test_pairs.py")
    assert "1 failed" in done.stdout  # the abstentions that the test caught
    assert "Abstained (" in done.stdout
    assert json.loads((pairs.folder / "seen.json").read_text("utf-8")) == pairs.labels


def test_the_gate_and_a_missing_certificate(graded: Any, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(ROOT / "examples" / "pass-fail", tmp_path / "project")
    (tmp_path / "test_it.py").write_text(
        "def test_judge(certified_cascade): certified_cascade('2 + 2?', '4')\n"
        "def test_gate(assert_gate): assert_gate()\n"
        "def test_run(trustescalate_run): pass\n",
        "utf-8",
    )
    done = run_pytest(
        tmp_path, "--trustescalate-config=project/trustescalate.toml", "--trustescalate-abstained=skip"
    )
    assert "2 failed, 1 error" in done.stdout
    assert "there is no certificate yet" in done.stdout


def test_a_run_of_pytest_without_the_plugin_is_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text("def test_other(): pass\n", "utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers --strict-config\n", "utf-8")
    done = run_pytest(tmp_path, "--co", "-q", python=("-X", "importtime"))
    assert done.returncode == 0
    imported = set(re.findall(r"\|\s+([\w.]+)$", done.stderr, re.MULTILINE))
    assert not imported & {
        "numpy",
        "scipy",
        "pydantic",
        "openai",
        "typer",
        "trustescalate.integrations.shared",
    }
    plugin = "trustescalate.integrations.pytest_plugin"
    code = f"import pytest, time\nstart = time.time()\nimport {plugin}\nprint(time.time() - start)"
    seconds = float(subprocess.check_output([sys.executable, "-c", code], text=True))
    assert seconds < 0.5  # about 5 ms on a machine that does nothing else
    for option in ("no:trustescalate", "no:terminal", "no:junitxml"):
        assert run_pytest(tmp_path, "-p", option).returncode == 0, option
    assert run_pytest(tmp_path, "-p", "no:trustescalate", "--trustescalate-abstained=skip").returncode == 4
