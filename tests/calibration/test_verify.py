"""A certificate is believed only as far as it follows: from its counts, its votes, and the ledger."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.support.certificates import World
from tests.support.command_line import cli
from tests.support.projects import calibrate, edit, run, shuffled, write_project
from trustescalate.calibration.calibrate import CERTIFICATE_SCHEMA
from trustescalate.calibration.evidence import _protocol_of, must_rest_on_evidence
from trustescalate.calibration.files import read_certificate
from trustescalate.calibration.ledger import LEDGER
from trustescalate.calibration.verify import verify
from trustescalate.cascade.run import must_be_asked_for
from trustescalate.config import load_config
from trustescalate.data.dataset import load_dataset
from trustescalate.errors import NotMeasurable, TrustEscalateError
from trustescalate.project import Project
from trustescalate.records import Certificate
from trustescalate.records.jsonl import decode, encode
from trustescalate.report.document import build
from trustescalate.report.markdown import render_markdown
from trustescalate.stats.control import PROCEDURES
from trustescalate.stats.paths import PATHS

FREE = {"created"}
"""Fields of a certificate with its ledger that may say anything."""
FREE_ALONE = {
    *("created", "version", "seed", "protocol", "data_digest", "advice", "assumptions", "estimator", "task"),
    *("overall", "human_agreement", "annotator_agreement", "diagnostics", "judges", "contested_ties"),
    *("no_majority", "skipped", "attempt", "tests.cost", "tests.by_tier", "tests.thresholds"),
    *("label_policy", "roles", "reason", "clusters"),
}
"""Fields that a certificate by itself does not prove: a copy of them stands in the ledger, by digest.

`tests.thresholds` are those of tests that were not chosen; `task`, `estimator` and `judges` are compared with
the configuration before anything is asked.
"""


# ── what calibrate makes follows ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("path", "procedure"), [*product([*PATHS, "tierwise"], PROCEDURES)], ids=lambda name: name
)
def test_every_path_and_procedure_follows(path: str, procedure: str) -> None:
    world = World(judges=("j", "k"))
    certify, dev = world.ids[20:], world.ids[:20]
    roles = {
        "exemplars": (),
        "dev": tuple(dev),
        "holdout": (),
        "certify": tuple(certify),
        "pilot": tuple(dev),
    }
    for alpha, prefer, reference in product(
        (0.05, 0.3), ("coverage", "cost", "total"), ("majority", "annotator")
    ):
        if path == "tierwise" and reference == "annotator":
            continue
        price = 0.5 if prefer == "total" else None
        given = {"path": path, "procedure": procedure, "alpha": alpha, "prefer": prefer, "roles": roles}
        made = world.certificate(**given, reference=reference, abstention_price=price)
        assert verify(decode(encode(made), Certificate)) == (), (alpha, prefer, reference)


def test_the_frozen_certificate_follows() -> None:
    path = Path(__file__).parents[1] / "frozen" / "certificate-1.json"
    assert verify(decode(path.read_bytes(), Certificate)) == ()


# ── and what was edited does not ─────────────────────────────────────────────────────────────────

Change = Callable[[Certificate], Certificate]


def _typed_over(certificate: Certificate) -> Certificate:
    return replace(certificate, status="certified", reason="", chosen=0, thresholds=(0.5,))


EDITS: dict[str, tuple[Change, str]] = {
    "alpha": (lambda c: replace(c, alpha=0.5), "p_value: .* is not the p-value of"),
    "delta": (lambda c: replace(c, delta=0.01), "spend more than delta"),
    "no tests": (
        lambda c: replace(c, n=0, tests=(), chosen=None, thresholds=(0.5,), roles={**c.roles, "certify": ()}),
        "thresholds: .0.5. is not those of the chosen test, none",
    ),
    "thresholds": (
        lambda c: replace(c, thresholds=(0.51,)),
        r"thresholds: \(0.51\) is not those of the chosen test, \(0",
    ),
    "errors": (
        lambda c: replace(c, tests=(*c.tests[:-1], replace(c.tests[-1], errors=0))),
        r"tests.\d+.p_value: .* is not the p-value of",
    ),
    "p-value": (
        lambda c: replace(c, tests=(*c.tests[:-1], replace(c.tests[-1], p_value=0.0, rejected=True))),
        "is not the p-value of",
    ),
    "NaN": (lambda c: replace(c, coverage_lower=float("nan")), "coverage_lower: nan is not a finite number"),
    "rows": (lambda c: replace(c, n=c.n + 1), "n: 61 is not the rows of the claim among 60 tested, 60"),
    "role": (
        lambda c: replace(c, roles={**c.roles, "exemplars": c.roles["certify"][:1]}),
        "roles: 'i00' stands in exemplars and in certify",
    ),
    "coverage": (lambda c: replace(c, coverage_lower=0.99), "coverage_lower: 0.99 is not the limit of"),
    "status": (lambda c: replace(c, status="none", reason="so"), "status: none is not what its tests give"),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_is_named(name: str) -> None:
    change, sentence = EDITS[name]
    certificate = World().certificate()
    assert certificate.status == "certified"
    assert any(re.search(sentence, problem) for problem in verify(change(certificate)))


def test_a_refusal_typed_over_is_no_certificate() -> None:
    refusal = World().certificate(alpha=0.02)
    assert refusal.status == "none"
    assert verify(refusal) == ()
    problems = verify(_typed_over(refusal))
    assert "chosen: 0 is not the test that prefer = coverage takes, none" in problems


# ── every field of the file ──────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A certified project and one without a certificate, by status."""
    folder = tmp_path_factory.mktemp("mutated")
    made = {
        "certified": write_project(folder / "certified"),
        "none": write_project(folder / "none", alpha=0.05, change=shuffled),
    }
    assert {status: calibrate(config).status for status, config in made.items()} == {s: s for s in made}
    return made


Place = tuple[str | int, ...]


def _leaves(value: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Every leaf, and of a list its first two and its last items."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, (*place, key))
    elif isinstance(value, list) and value:
        for at in sorted({0, min(1, len(value) - 1), len(value) - 1}):
            yield from _leaves(value[at], (*place, at))
    else:
        yield place, value


GONE = object()


def _changes(value: Any) -> Iterator[Any]:
    yield from (GONE, None)
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int | float):
        yield from (value + 1, value * 1.01 + 0.001, 0)
    elif isinstance(value, str):
        yield from (value + "x", "")
    elif value is None:
        yield from (0, 1.0, "x")


def _changed(document: Any, place: Place, value: Any) -> Any:
    copy = json.loads(json.dumps(document))
    inner = copy
    for key in place[:-1]:
        inner = inner[key]
    if value is GONE:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return copy


def _pattern(place: Place) -> str:
    return ".".join(part for part in place if isinstance(part, str))


def _accepted(document: Any, look: Callable[[bytes], None]) -> dict[str, list[Any]]:
    """The fields that were changed to something else, and what passed as such, by the name of the field."""
    passed: dict[str, list[Any]] = {}
    original = decode(json.dumps(document).encode(), Certificate)
    for place, value in _leaves(document):
        for other in _changes(value):
            data = json.dumps(_changed(document, place, other)).encode()
            try:
                if decode(data, Certificate) == original:
                    continue
                look(data)
            except (TrustEscalateError, ValueError):
                continue
            passed.setdefault(_pattern(place), []).append(other)
    return passed


@pytest.mark.slow
@pytest.mark.parametrize("status", ["certified", "none"])
def test_no_field_can_be_changed(projects: dict[str, Path], status: str) -> None:
    config = load_config(projects[status])
    path = config.folder / "certificate.json"
    written = path.read_bytes()

    def read(data: bytes) -> None:
        path.write_bytes(data)
        read_certificate(config.folder)

    try:
        assert set(_accepted(json.loads(written), read)) == FREE
    finally:
        path.write_bytes(written)


@pytest.mark.slow
@pytest.mark.parametrize("status", ["certified", "none"])
def test_what_a_certificate_proves_by_itself(projects: dict[str, Path], status: str) -> None:
    written = (projects[status].parent / "certificate.json").read_bytes()

    def look(data: bytes) -> None:
        certificate = decode(data, Certificate)
        if verify(certificate) or certificate.schema != CERTIFICATE_SCHEMA:
            raise ValueError("it does not follow")

    passed = _accepted(json.loads(written), look)
    assert {
        name for name in passed if not any(name == f or name.startswith(f"{f}.") for f in FREE_ALONE)
    } == set()


# ── votes and labels ─────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def certified(projects: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of the certified project."""
    shutil.copytree(projects["certified"].parent, tmp_path / "project")
    return tmp_path / "project" / "trustescalate.toml"


def _must_rest(config: Path) -> None:
    given = load_config(config)
    must_be_asked_for(given, load_dataset(given), read_certificate(given.folder))


def test_items_and_labels_that_come_later_change_nothing(certified: Path) -> None:
    folder = certified.parent
    items = [json.loads(line) for line in (folder / "items.jsonl").read_text().splitlines()]
    notes = [json.loads(line) for line in (folder / "annotations.jsonl").read_text().splitlines()]
    labelled = {note["item_id"] for note in notes}
    fresh = next(item for item in items if item["id"] not in labelled)
    items += [{**item, "id": f"{item['id']} again"} for item in items[:30]]
    notes.append({"item_id": fresh["id"], "annotator": "new", "label": "A"})
    (folder / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    (folder / "annotations.jsonl").write_text("".join(json.dumps(note) + "\n" for note in notes))
    _must_rest(certified)


def test_the_same_calibration_is_made_again(certified: Path) -> None:
    _must_rest(certified)
    path = certified.parent / "certificate.json"
    document = json.loads(path.read_bytes())
    document["diagnostics"][0]["auroc"] = 0.99
    path.write_text(json.dumps(document))
    with pytest.raises(NotMeasurable, match=r"it is not the certificate that .* records"):
        _must_rest(certified)
    given = load_config(certified)
    with pytest.raises(NotMeasurable, match=r"diagnostics.0.auroc: 0.99 is not 0\.\d+, which its votes"):
        must_rest_on_evidence(given, load_dataset(given), decode(path.read_bytes(), Certificate))


@pytest.mark.parametrize("kept", [0, 1, None])
def test_a_certificate_needs_its_test_and_outcome_in_the_ledger(certified: Path, kept: int | None) -> None:
    ledger = certified.parent / LEDGER
    lines = ledger.read_bytes().splitlines(keepends=True)
    assert len(lines) == 2
    ledger.unlink()
    if kept is not None:
        ledger.write_bytes(b"".join(lines[:kept]))
    with pytest.raises(NotMeasurable, match=r"attempt: .*ledger.jsonl does not hold the (test|outcome)"):
        read_certificate(certified.parent)


def test_without_votes_the_ledger_tells_of_changed_labels(certified: Path) -> None:
    (certified.parent / "certificate.votes.jsonl").unlink()
    _must_rest(certified)
    path = certified.parent / "annotations.jsonl"
    certify = set(json.loads((certified.parent / "certificate.json").read_bytes())["roles"]["certify"])
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    row = next(row for row in rows if row["item_id"] in certify)
    row["label"] = "A" if row["label"] == "B" else "B"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(NotMeasurable, match=r"annotations.jsonl: not the labels of this certificate"):
        _must_rest(certified)


@pytest.mark.parametrize("file", ["certificate.votes.jsonl", "annotations.jsonl"])
def test_votes_and_labels_are_those_of_the_data_digest(certified: Path, file: str) -> None:
    path = certified.parent / file
    certify = set(json.loads((certified.parent / "certificate.json").read_bytes())["roles"]["certify"])
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    row = next(row for row in rows if row["item_id"] in certify)
    if "label" in row:
        row["label"] = "A" if row["label"] == "B" else "B"
    else:
        row["votes"][0]["probs"] = {"A": 0.5, "B": 0.4}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(NotMeasurable, match=f"{file}: not the .* of this certificate.* data_digest"):
        _must_rest(certified)


@pytest.mark.slow
@pytest.mark.parametrize(
    "guarantee",
    [
        'path = "pareto"\nclaim = "population"\n',
        'path = "tierwise"\n',
        'path = "hedged"\nreference = "annotator"\n',
        'claim = "expected"\n',
        'path = "common"\ninterim = [40, 60]\n',
        'path = "common"\ncluster_test = "betting"\nlargest_cluster = 3\n',
    ],
)
def test_every_kind_of_calibration_can_be_made_again(tmp_path: Path, guarantee: str) -> None:
    config = write_project(tmp_path, guarantee=guarantee, more="[roles]\ndev = 0.2\n")
    if "expected" in guarantee:
        edit(config, "delta = 0.2\npilot = 20\n", "")
    calibrate(config)
    given = load_config(config)
    data, certificate = load_dataset(given), read_certificate(given.folder)
    must_rest_on_evidence(given, data, certificate)
    assert _protocol_of(given, data, certificate) is not None
    (tmp_path / LEDGER).unlink()
    changed = replace(certificate, contested_ties=certificate.contested_ties + 1)
    (tmp_path / "certificate.json").write_bytes(encode(changed))
    with pytest.raises(NotMeasurable, match="contested_ties: 1 is not 0, which its votes and labels give"):
        must_rest_on_evidence(given, data, changed)


# ── the commands ─────────────────────────────────────────────────────────────────────────────────


def test_commands_refuse_what_does_not_follow(certified: Path) -> None:
    run(certified)
    assert cli("gate", "--config", certified).exit_code == 0
    edit(certified.parent / "certificate.json", '"alpha":0.3', '"alpha":0.4')
    edit(certified, "alpha = 0.3", "alpha = 0.4")
    for command in ("run", "gate", "report", "monitor", "export"):
        more = ("--as", "csv", "--to", certified.parent / "out.csv") if command == "export" else ()
        result = cli(command, "--config", certified, *more)
        assert result.exit_code == 3, (command, result.output)
        assert "errors at alpha = 0.4" in result.output, command


def test_a_certificate_without_its_votes_keeps_what_a_run_needs(certified: Path) -> None:
    (certified.parent / "certificate.votes.jsonl").unlink()
    shutil.rmtree(certified.parent / ".trustescalate")
    run(certified)
    assert Project.open(certified).gate()[0].status == "pass"


def test_the_digest_of_the_certificate_stands_wherever_it_is_used(certified: Path) -> None:
    mark = hashlib.sha256((certified.parent / "certificate.json").read_bytes()).hexdigest()
    made = run(certified)
    project = Project.open(certified)
    verdict, path = project.gate()
    assert verdict.certificate == mark
    assert json.loads(path.read_bytes())["certificate"] == mark
    junit = ElementTree.parse(path.parent / "junit.xml")
    assert [each.attrib for each in junit.iter("property")] == [{"name": "certificate", "value": mark}]
    assert mark in render_markdown(build(made).page())
