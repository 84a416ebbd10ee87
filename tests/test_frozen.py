"""Files of earlier versions stay readable: each frozen certificate is one that `calibrate` wrote.

Where the format changes before the first release, `python tests/frozen/regenerate.py` renews the file.
"""

import json
import shutil
from pathlib import Path

import pytest

from trustescalate.calibration.files import must_follow, stored_certificate
from trustescalate.records import Certificate
from trustescalate.records.jsonl import decode, encode
from trustescalate.report.document import build_calibration
from trustescalate.report.markdown import render_markdown

FROZEN = sorted((Path(__file__).parent / "frozen").glob("certificate-*.json"))


@pytest.mark.parametrize("path", FROZEN, ids=lambda path: path.stem)
def test_a_frozen_certificate_stays_readable(path: Path, tmp_path: Path) -> None:
    certificate = decode(path.read_bytes(), Certificate)
    assert certificate.status == "certified"
    assert json.loads(encode(certificate)) == json.loads(path.read_bytes()), "a field is lost"
    assert "certificate" in render_markdown(build_calibration(certificate).page()).lower()
    shutil.copyfile(path, tmp_path / "certificate.json")
    assert stored_certificate(tmp_path) == certificate
    must_follow(path, certificate)
