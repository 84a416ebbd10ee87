"""A statement is one for the package of in-toto, and its digests are those of the files."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import Parse
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1.statement_pb2 import Statement as StatementPb


def exported(folder: Path, to: Path) -> str:
    command = [sys.executable, "-m", "trustescalate", "export", "--as", "in_toto", "--to", str(to)]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return to.read_text("utf-8")


@pytest.mark.parametrize("name", ["graded", "pairs"])
def test_the_package_reads_and_validates_it(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    project: Any = request.getfixturevalue(name)
    text = exported(project.folder, tmp_path / "statement.json")
    statement = Statement.copy_from_pb(Parse(text, StatementPb()))
    statement.validate()
    assert statement.pb.subject[0].name == "certificate.json"
    for subject in statement.pb.subject:
        content = (project.folder / subject.name).read_bytes()
        assert dict(subject.digest) == {"sha256": hashlib.sha256(content).hexdigest()}
    run = json.loads(text)["predicate"]["run"]
    labels = list(project.labels.values())
    assert (run["decided"], run["abstained"]) == (len(labels), labels.count(None))


def test_the_package_refuses_one_without_digests(graded: Any, tmp_path: Path) -> None:
    written = json.loads(exported(graded.folder, tmp_path / "statement.json"))
    del written["subject"][0]["digest"]
    with pytest.raises(ValueError, match="digest"):
        Statement.copy_from_pb(Parse(json.dumps(written), StatementPb())).validate()
