"""alpha chosen after looking, from the limits of a certificate: what may be claimed, and when nothing may."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import beta
from typer.testing import CliRunner

from tests.support.certificates import World
from tests.support.hostile import ALIVE, UNSAFE
from tests.support.projects import calibrate, write_project
from trustescalate.analysis.risk_band import band_section, read_band
from trustescalate.cli import app
from trustescalate.errors import NotMeasurable
from trustescalate.records import JudgeBinding
from trustescalate.report.terminal import section_lines

pytestmark = pytest.mark.slow


def test_the_answer_is_the_policy_of_most_coverage_within_alpha() -> None:
    made = World().certificate()
    alphas = (0.05, 0.2, 0.3, 0.5, 0.99)
    band = read_band(made, alphas)
    assert len(band.limits) == len(made.band)
    for limit, check in zip(band.limits, made.band, strict=True):
        test = made.tests[check.test]
        assert (limit.accepted, limit.errors, limit.upper) == (test.accepted, test.errors, check.upper)
        if test.errors < test.accepted:
            wanted = beta.ppf(1 - made.delta / 16, test.errors + 1, test.accepted - test.errors)
            assert limit.upper == pytest.approx(wanted)
    for answer in band.answers:
        within = [k for k, limit in enumerate(band.limits) if limit.upper <= answer.alpha]
        if answer.limit is None:
            assert within == []
        else:
            assert band.limits[answer.limit].accepted == max(band.limits[k].accepted for k in within)
    assert band.answers[0].limit is None
    assert band.answers[-1].limit is not None


def test_the_policy_of_the_certificate_is_marked_and_alphas_stand_beside_theirs() -> None:
    made = World().certificate()
    text = "\n".join(section_lines(band_section(read_band(made, (0.01, 0.5, 0.51)))))
    assert "At alpha 1 %: no policy has a limit of at most 1 %; nothing may be claimed." in text
    assert "alpha 0.5, alpha 0.51" in text
    assert "No run uses these thresholds" in text
    assert "No run uses" not in "\n".join(section_lines(band_section(read_band(made))))


def test_a_refusal_has_a_band_too() -> None:
    refused = World().certificate(alpha=0.05)
    assert refused.status == "none"
    assert any(answer.limit is not None for answer in read_band(refused, (0.5,)).answers)


def test_without_limits_nothing_is_said() -> None:
    with pytest.raises(NotMeasurable, match="no simultaneous limits") as refused:
        read_band(World(judges=("j", "k")).certificate(path="tierwise", alpha=0.3))
    assert 'there are none for path = "tierwise"' in refused.value.hint


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"claim": "batch"}, 'claim = "batch"'),
        ({"group_by": "meta.kind"}, "[groups] by"),
        ({"method": "clusters"}, 'cluster_test = "betting"'),
        ({"method": "betting"}, "annotators drawn at random"),
        ({}, "rows without labels"),
    ],
)
def test_what_has_no_limits_is_named(changed: dict[str, Any], named: str) -> None:
    with pytest.raises(NotMeasurable) as refused:
        read_band(replace(World().certificate(), band=(), **changed))
    assert named in refused.value.hint


def test_from_the_command_line(tmp_path: Path) -> None:
    config = write_project(tmp_path)
    calibrate(config)
    asked = ["report", "--config", str(config)]
    shown = CliRunner().invoke(app, [*asked, "--alpha", "0.3", "--alpha", "0.4"])
    assert shown.exit_code == 0, shown.output
    assert shown.stderr.count("At alpha") == 2
    assert shown.stdout == f"{tmp_path / 'report.html'}\n"
    assert (tmp_path / "report.md").read_text(encoding="utf-8").count("At alpha") == 2
    report = json.loads(CliRunner().invoke(app, [*asked, "--alpha", "0.3", "--json"]).stdout)
    (section,) = [each for each in report["sections"] if each["slug"] == "risk-limits"]
    assert "At alpha 30 %" in " ".join(section["text"])
    assert CliRunner().invoke(app, [*asked, "--alpha", "1.5"]).exit_code == 2
    new = str(write_project(tmp_path / "new"))
    assert CliRunner().invoke(app, ["report", "--alpha", "0.3", "--config", new]).exit_code == 3


def test_hostile_names_do_not_reach_the_terminal() -> None:
    made = World().certificate()
    named = replace(made, judges=tuple(JudgeBinding(name, "", "logprobs") for name in ALIVE))
    assert not UNSAFE.search("\n".join(section_lines(band_section(read_band(named, (0.5,))))))
