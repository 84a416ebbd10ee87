"""What differs from the certified judges is named by key; an address may be stated to be the same model's."""

import json
import shutil
from pathlib import Path

import pytest

from tests.support.endpoints import judges
from tests.support.endpoints import simulated as simulated_endpoint
from tests.support.projects import calibrate, edit, run, simulated, write_project
from tests.support.servers import FaultServer
from trustescalate.config import parse_config, verdict_keys
from trustescalate.errors import CertificateMismatch, ConfigError
from trustescalate.judges.fingerprints import judge_inputs
from trustescalate.judges.registry import fingerprint
from trustescalate.judges.templates import shipped
from trustescalate.project import Project
from trustescalate.report.document import build

JUDGES = simulated("small", "XS") + simulated("large", "M", max_tokens="100", prompt='"prompts/large.txt"')


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("named")
    (folder / "prompts").mkdir()
    (folder / "prompts" / "large.txt").write_text(shipped("direct"))
    config = write_project(folder, JUDGES)
    calibrate(config)
    return config


@pytest.fixture
def config(certified: Path, tmp_path: Path) -> Path:
    shutil.copytree(certified.parent, tmp_path / "project")
    return tmp_path / "project" / certified.name


def _refusal(config: Path) -> str:
    with pytest.raises(CertificateMismatch) as caught:
        run(config)
    return caught.value.message


def test_a_key_is_named_with_both_values(config: Path) -> None:
    edit(config, "max_tokens = 100", "max_tokens = 101")
    assert _refusal(config).endswith("fingerprint of large: judges.large.max_tokens: 100 → 101")


def test_a_prompt_file_is_named(config: Path) -> None:
    edit(config.parent / "prompts" / "large.txt", "Answer with exactly one", "Answer with one")
    assert _refusal(config).endswith("fingerprint of large: prompt file prompts/large.txt changed")


def test_exemplars_are_named(config: Path) -> None:
    exemplars = json.loads((config.parent / "certificate.json").read_bytes())["roles"]["exemplars"]
    path = config.parent / "items.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        if row["id"] == exemplars[0]:
            row["responses"] = [text + " so" for text in row["responses"]]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert f"fingerprint of small: exemplars changed: {exemplars[0]}" in _refusal(config)


def test_other_settings_are_named(config: Path) -> None:
    edit(config, "shots = 2\n", "shots = 2\nswap = false\n")
    assert _refusal(config).endswith("fingerprint of small: judges.small.swap: true → false")


def test_gate_names_the_key_that_was_changed(config: Path) -> None:
    run(config)
    edit(config, "max_tokens = 100", "max_tokens = 101")
    verdict, _ = Project.open(config).gate()
    seen = next(check.observed for check in verdict.checks if check.name == "run is current")
    assert seen.startswith("judges.large.max_tokens: 100 → 101 was changed after this run")


def test_the_inputs_hold_no_text(config: Path) -> None:
    written = json.loads((config.parent / "certificate.json").read_bytes())["judges"][1]["inputs"]
    assert written["max_tokens"] == "100"
    assert written["prompt"] == "prompts/large.txt"
    assert max(map(len, written.values())) <= 200


# ── the same model at another address ────────────────────────────────────────────────────────────

HERE, THERE, OTHER = "http://localhost:8000/v1", "http://vllm:8000/v1", "http://vllm:8001/v1"


def _openai(**more: object) -> dict[str, object]:
    table = {"name": "large", "backend": "openai", "model": "m", **more}
    return {"version": 1, "ensemble": {"shots": 0}, "judges": [table]}


def test_an_address_counts_unless_it_is_stated_to_be_the_same_model(
    tmp_path: Path,
) -> None:
    tables = (_openai(base_url=HERE), _openai(base_url=THERE), _openai(base_url=THERE, same_model_as=HERE))
    configs = [parse_config(table, tmp_path / "trustescalate.toml") for table in tables]
    here, there, same = (fingerprint(config, config.judges[0], [()]) for config in configs)  # type: ignore[arg-type]
    assert here == same != there
    inputs = [judge_inputs(config, [()])["large"] for config in configs]
    assert inputs[0] == inputs[2] != inputs[1]
    keys = [verdict_keys(config.model_dump(mode="json")) for config in configs]
    assert keys[0] == keys[2] != keys[1]


def test_a_list_of_one_address_is_that_address_and_the_order_of_several_means_nothing(tmp_path: Path) -> None:
    lists = ([HERE], [HERE, THERE], [THERE, HERE])
    tables = [_openai(base_url=HERE), *(_openai(base_url=urls) for urls in lists)]
    tables.append(_openai(base_url=[THERE, HERE, OTHER], same_model_as=[THERE, HERE]))
    configs = [parse_config(table, tmp_path / "trustescalate.toml") for table in tables]
    marks = [fingerprint(config, config.judges[0], [()]) for config in configs]  # type: ignore[arg-type]
    assert marks[0] == marks[1] != marks[2]
    assert marks[2] == marks[3] == marks[4]
    keys = [verdict_keys(config.model_dump(mode="json")) for config in configs]
    assert keys[0] == keys[1] != keys[2]
    assert keys[2] == keys[3] == keys[4]
    inputs = [judge_inputs(config, [()])["large"] for config in configs]
    assert inputs[2] == inputs[3] == inputs[4]
    assert inputs[2]["base_url"] == f'["{HERE}", "{THERE}"]'


def test_what_is_stated_is_an_address(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="same_model_as: must start with http"):
        parse_config(_openai(base_url=THERE, same_model_as="the other"), tmp_path / "trustescalate.toml")


def test_a_run_at_another_address_is_certified_and_says_so(tmp_path: Path) -> None:
    with FaultServer(simulated_endpoint) as first:
        config = write_project(tmp_path, judges(first), alpha=0.4, min_agreement=0.6, unlabelled=4)
        calibrate(config)
        address = first.url
    with FaultServer(simulated_endpoint) as second:
        text = config.read_text().replace(address, second.url)
        config.write_text(text)
        refusal = _refusal(config)
        assert refusal.endswith(f"judges.small.base_url: {address} → {second.url}")
        stated = f'base_url = "{second.url}"\nsame_model_as = "{address}"\n'
        config.write_text(text.replace(f'base_url = "{second.url}"\n', stated))
        made = run(config)
    report = build(made).sections[-1]
    assert report.slug == "provenance"
    assert f"{second.url}, stated to be the model at {address}" in repr(report)


# ── what is committed ────────────────────────────────────────────────────────────────────────────


def test_the_cache_ignores_itself_in_git(certified: Path) -> None:
    assert (certified.parent / ".trustescalate" / ".gitignore").read_text() == "*\n"
