"""The models that answered: recorded, compared between calibration and run, and pinned."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.decision_server import decide, simulated_pair
from tests.support.endpoints import simulated
from tests.support.projects import calibrate, edit, run, write_project
from tests.support.servers import Body, Canned, FaultServer, completion
from trustescalate.calibration.files import CERTIFICATE_VOTES
from trustescalate.calibration.served_models import compare_served, must_be_served, served_at
from trustescalate.errors import CertificateMismatch
from trustescalate.judges.cache import Cache
from trustescalate.judges.recall import RecallingJudge
from trustescalate.judges.replay import ReplayJudge
from trustescalate.project import Project
from trustescalate.records import Certificate, Item, Judgment, Run, Vote
from trustescalate.records.jsonl import encode, read_rows
from trustescalate.records.progress import Hooks
from trustescalate.records.votes import all_votes
from trustescalate.report.document import build
from trustescalate.report.markdown import render_markdown

FAST = "annotators = 1\nshots = 0"


class Endpoint:
    """A server of chat and decision models whose served models may be exchanged."""

    def __init__(self) -> None:
        self.version, self.fingerprint = "2026-01", "fp_1"
        self.server = FaultServer(answer=simulated, plan=self._plan)

    def _plan(self, body: Body, nth: int) -> Canned:
        if "questions" in body:
            return Canned(200, decide(body, simulated_pair, model=f"{body['model']}-{self.version}"))
        named = {"model": f"{body['model']}-{self.version}", "system_fingerprint": self.fingerprint}
        return Canned(200, {**completion(body, simulated(body)), **named})

    def judges(self, *names: str) -> str:
        """One judge for each model: D is a decision model, the others chat."""
        return "".join(
            f'[[judges]]\nname = "{name}"\nbackend = "{"decisions" if name == "D" else "openai"}"\n'
            f'model = "{name}"\nbase_url = "{self.server.url}"\nprice = {{ input = {price} }}\n'
            for name, price in zip(names, (0.1, 1.0, 10.0), strict=False)
        )


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    endpoint = Endpoint()
    with endpoint.server:
        yield endpoint


def project(folder: Path, judges: str, guarantee: str = 'path = "common"', **settings: Any) -> Path:
    config = write_project(folder, judges, guarantee=guarantee, **settings)
    edit(config, "annotators = 2\nshots = 2", FAST)
    return config


def noted(config: Path, **given: Any) -> tuple[Run, list[str]]:
    """A run, and what was said."""
    notices: list[str] = []
    opened = Project.open(config, Hooks(notice=notices.append))
    return asyncio.run(opened.run(**given)), notices


def by_judge(run: Run) -> dict[str, set[str]]:
    seen: dict[str, set[str]] = {}
    for row in run.judgments:
        seen.setdefault(row.judge, set()).update(row.served)
    return seen


def test_a_decision_model_is_the_first_of_three_tiers_under_one_guarantee(
    tmp_path: Path, endpoint: Endpoint
) -> None:
    config = project(tmp_path, endpoint.judges("D", "S", "M"))
    certificate = calibrate(config)
    asked = [body for body in endpoint.server.stats.bodies if "questions" in body]
    assert certificate.status == "certified"
    assert [seal.served for seal in certificate.judges] == [
        *(("D-2026-01",), ("S-2026-01 fp_1",), ("M-2026-01 fp_1",))
    ]
    items = {row.record.item_id for row in read_rows(tmp_path / CERTIFICATE_VOTES, Judgment).rows}
    assert len(asked) == len(items), "one call an item, both orders in it"
    first = certificate.diagnostics[0]
    assert (first.votes, first.failures) == (2 * certificate.n, {})
    done = run(config)
    assert done.header.status == "complete"
    ended = {decision.judge for decision in done.decisions if decision.label is not None}
    assert len(ended) >= 2, ended
    assert {row.judge for row in done.judgments} == {"D", "S", "M"}
    assert by_judge(done)["D"] == {"D-2026-01"}
    assert "D-2026-01 (" in render_markdown(build(done).page())
    before = len(endpoint.server.stats.bodies)
    endpoint.version = "2026-02"
    assert calibrate(config) == certificate, "all from the cache, with what served it"
    assert len(endpoint.server.stats.bodies) == before
    # The model of a decision judge is always pinned.
    with pytest.raises(
        CertificateMismatch, match="by D-2026-02, and the items of the calibration by D-2026-01"
    ):
        run(config, items=others(tmp_path, "other"))
    # What a certificate says of served models is computed again from its votes.
    first, *rest = certificate.judges
    forged = replace(certificate, judges=(replace(first, served=("D-2026-02",)), *rest))
    (tmp_path / "certificate.json").write_bytes(encode(forged) + b"\n")
    with pytest.raises(CertificateMismatch):
        run(config)


def test_a_change_is_said_and_reported(tmp_path: Path, endpoint: Endpoint) -> None:
    config = project(tmp_path, endpoint.judges("XS", "M"))
    certificate = calibrate(config)
    assert noted(config)[1] == []
    endpoint.fingerprint = "fp_2"
    later, notices = noted(config, items=others(tmp_path, "other"))
    (served, *_) = compare_served(certificate, later.judgments)
    assert served.changed
    assert served.before == ("XS-2026-01 fp_1",)
    assert set(served.now) == {"XS-2026-01 fp_2"}
    assert served.sentence in notices
    assert f"{served.sentence}." in build(later).banners
    page = render_markdown(build(later).page())
    assert "Served models and system fingerprints" in page
    assert "XS-2026-01 fp" in page.partition("Served models")[2]
    assert Project.open(config).gate(later.header.id)[0].status == "pass"
    config.write_text(config.read_text().replace("[guarantee]\n", "[guarantee]\npin_served_model = true\n"))
    verdict, _ = Project.open(config).gate(later.header.id)
    (current,) = (check for check in verdict.checks if check.name == "run is current")
    assert (verdict.status, verdict.exit_code) == ("undecided", 3)
    assert "by XS-2026-01 fp_2, and the items of the calibration by XS-2026-01 fp_1" in current.message
    with pytest.raises(CertificateMismatch, match="by XS-2026-01 fp_2"):
        run(config, resume=later.header.id)


def others(folder: Path, name: str) -> Path:
    """The unlabelled items under other ids and prompts, so that no reply is in the cache."""
    rows = [json.loads(line) for line in (folder / "items.jsonl").read_text().splitlines()][-20:]
    path = folder / f"{name}.jsonl"
    changed = [{**row, "id": f"{name}-{row['id']}", "prompt": f"{row['prompt']} ({name})"} for row in rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in changed))
    return path


def test_a_pinned_model_that_changed_stops_the_run(tmp_path: Path, endpoint: Endpoint) -> None:
    config = project(tmp_path, endpoint.judges("XS", "M"), 'path = "common"\npin_served_model = true')
    calibrate(config)
    assert run(config).header.status == "complete"
    endpoint.version = "2026-02"
    with pytest.raises(CertificateMismatch, match=r"by XS-2026-02 fp_1, and .* by XS-2026-01 fp_1") as caught:
        run(config, items=others(tmp_path, "other"))
    assert caught.value.exit_code == 3
    assert "cache.sqlite" in caught.value.hint
    (stopped,) = (path for path in tmp_path.glob("runs/*/run.json") if b'"stopped"' in path.read_bytes())
    assert (stopped.parent / "judgments.jsonl").read_bytes() == b"", "nothing of another model is kept"
    endpoint.version = "2026-01"
    assert "run --resume latest" in caught.value.hint
    resumed = run(config, resume=stopped.parent.name)  # nothing of the other model stays in the cache
    assert resumed.header.status == "complete"
    assert by_judge(resumed)["XS"] == {"XS-2026-01 fp_1"}


def test_a_recorded_vote_keeps_what_served_it(tmp_path: Path) -> None:
    item = Item("q1", "Hi?", ("a", "b"))
    judge = ReplayJudge("small", [judgment("q1", "m 1")])
    assert asyncio.run(judge.judge(item, all_votes)).served == ("m 1",)
    cache = Cache(tmp_path / "cache.sqlite")
    recalling = RecallingJudge(judge, cache, None, ("A", "B"))
    for _ in range(2):  # asked, and from the cache
        assert asyncio.run(recalling.judge(item, all_votes)).served == ("m 1",)
    cache.close()


# ── by hand ──────────────────────────────────────────────────────────────────────────────────────


def judgment(item: str, *served: str, failure: str | None = None) -> Judgment:
    vote = Vote(0, "", {} if failure else {"A": 1.0}, failure=failure)
    return Judgment(item, "small", "print", (vote,), 1, served)


def certificate_of(*served: str) -> Certificate:
    from tests.support.certificates import World

    base = World().certificate()
    return replace(base, judges=(replace(base.judges[0], judge="small", served=served),))


@pytest.mark.parametrize(
    ("before", "now", "changed"),
    [
        (("m 1", "m 2"), ("m 1",), False),
        (("m 1",), ("m 1", "m 2"), True),
        (("m 1",), ("",), True),
        ((), ("m 1",), False),
        ((), ("m 1", "m 2"), True),
        (("", "m 1"), ("",), False),
    ],
)
def test_a_change_is_a_model_that_the_calibration_has_not_seen(
    before: tuple[str, ...], now: tuple[str, ...], changed: bool
) -> None:
    rows = [judgment(f"q{place}", *filter(None, [name])) for place, name in enumerate(now)]
    (served,) = compare_served(certificate_of(*before), rows)
    assert served.changed == changed
    assert sum(served.now.values()) == len(now)


def test_failed_votes_say_nothing_of_a_model() -> None:
    lost = judgment("q1", failure="timeout")
    must_be_served(certificate_of("m 1"), [lost], {"small"})
    assert compare_served(certificate_of(), [lost]) == ()
    assert served_at([lost, judgment("q2")]) == ()
    assert served_at([judgment("q2"), judgment("q3", "m 1")]) == ("", "m 1")


def test_a_certificate_of_nothing_binds_no_model() -> None:
    nothing = replace(certificate_of("m 1"), status="none")
    must_be_served(nothing, [judgment("q1", "m 2")], {"small"})


def test_an_older_certificate_fits_until_a_model_is_pinned() -> None:
    row = judgment("q1", "m 1")
    must_be_served(certificate_of(), [row], ())
    with pytest.raises(
        CertificateMismatch, match="by m 1, and the items of the calibration by a model that is"
    ):
        must_be_served(certificate_of(), [row], {"small"})
    with pytest.raises(CertificateMismatch, match="by a model that is not named, and the items"):
        must_be_served(certificate_of("m 1"), [judgment("q1")], {"small"})
