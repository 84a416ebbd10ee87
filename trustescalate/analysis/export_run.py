"""Export a run to the format of another tool, with the files that belong to it and notices for its reader."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from trustescalate.analysis.export_document import DOCUMENTS, Subject, document_subject
from trustescalate.calibration.evidence import must_rest_on_evidence
from trustescalate.calibration.files import read_certificate
from trustescalate.cascade.run_folder import load_run
from trustescalate.config import Config, OpenAIJudge
from trustescalate.data.dataset import Dataset, load_dataset
from trustescalate.errors import NoCertificate, NotMeasurable, UsageError
from trustescalate.judges.base import EnsembleJudge, no_model
from trustescalate.judges.completions import Dialect
from trustescalate.judges.exemplars import exemplars_of
from trustescalate.judges.registry import ensemble_judge
from trustescalate.records import Run, Task, TaskKind
from trustescalate.records.criteria import ask_several, count_in_words, row_name
from trustescalate.records.jsonl import write_atomically
from trustescalate.report.export.base import Export, Row, Target, as_json, export_rows, lined
from trustescalate.report.export.registry import target

Only = Literal["all", "abstained", "released"]
BATCH = "openai_batch"
MOST_REQUESTS = 50_000
"""The limit of the Batch API per file."""


@dataclass(frozen=True, slots=True)
class Exported:
    """A finished export: `rows` requested, and counts by reason of those `left_out`.

    `run` is None for a document about a certificate, `rows` for any document. `requests` is the number of
    lines of a batch; None for other formats.
    """

    run: str | None
    format: str
    files: tuple[str, ...]
    rows: int | None
    left_out: dict[str, int]
    notices: tuple[str, ...]
    requests: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return asdict(self)

    def lines(self) -> list[str]:
        """For a terminal."""
        text = [f"run:      {self.run or 'none: about the certificate'}", f"format:   {self.format}"]
        if self.requests is not None:
            text.append(f"requests: {self.requests:,}")
        elif self.rows is not None:
            text.append(f"rows:     {self.rows:,}")
        text += [f"left out: {count:,}: {why}" for why, count in self.left_out.items()]
        text += [f"notice:   {sentence}" for sentence in self.notices]
        return text + [f"written:  {path}" for path in self.files]


def export_run(
    config: Config,
    run_id: str | None,
    format_name: str,
    to: Path,
    *,
    only: Only = "all",
    blind: bool = False,
    judge: str | None = None,
) -> Exported:
    """Write a recorded run, the latest by default, in a format of `TARGETS`, `DOCUMENTS` or "openai_batch".

    `only` selects all items, abstentions or released verdicts. `blind` leaves out verdicts and scores.
    `judge` names the judge of a batch, by default the last one. An incomplete run is exported with a notice.
    Raises UsageError if a file exists or the format does not support the task; then nothing is written.
    A document (`DOCUMENTS`) is about the whole run, or about the certificate where there is no run.
    """
    data = load_dataset(config)
    if format_name in DOCUMENTS:
        if only != "all" or blind or judge is not None:
            hint = "leave out --only, --blind and --judge"
            raise UsageError(f"{format_name} is about a run as a whole", hint)
        return _export_document(document_subject(config, data, run_id), format_name, to)
    run = load_run(config.folder, data, run_id)
    with suppress(NoCertificate):
        read_certificate(config.folder)
    must_rest_on_evidence(config, data, run.header.certificate)
    export = Export(run, export_rows(run, only, blind=blind), blind, _criteria_of(run, config))
    if format_name == BATCH:
        written = _batch_target(config, data, judge, blind=blind)
    elif judge is not None:
        raise UsageError(f"{format_name} has no judge", f"leave out --judge, or export as {BATCH}")
    else:
        written = target(
            format_name, export.task, blind=blind, several=bool(export.criteria), others=(BATCH, *DOCUMENTS)
        )
    if written.suffix and to.suffix.lower() != written.suffix:
        raise UsageError(f"{to}: {format_name} is read from a {written.suffix} file", "choose another --to")
    if sentence := _incomplete(run):
        export.say(sentence)
    if run.uncertified:
        export.say("uncertified: nothing is released, and judges' verdicts are marked so")
    if not export.rows:
        hint = "choose another --only"
        if run.uncertified:
            hint = "an uncertified run releases and abstains on nothing: leave out --only"
        raise NotMeasurable(f"no item of the run is {only}", hint)
    _must_be_new(to)
    beside: dict[Path, bytes] = {}
    count = 0

    def lines() -> Iterator[bytes]:
        nonlocal count
        for line in written.write(export):
            count += 1
            yield line
        for end, content in export.beside.items():
            path = to / end if written.inside else to.with_name(to.name + end)
            _must_be_new(path)
            beside[path] = content

    write_atomically(to / written.inside, lines())
    for path, content in beside.items():
        write_atomically(path, content)
    return Exported(
        run.header.id,
        format_name,
        tuple(map(str, (to, *beside))),
        len(export.rows),
        dict(export.left_out),
        tuple(export.notices),
        count if format_name == BATCH else None,
    )


def _incomplete(run: Run) -> str:
    if len(run.decisions) >= len(run.items):
        return ""
    decided = f"{len(run.decisions):,} of {count_in_words(run.items)} are decided"
    return f"the run is not complete ({run.header.status}): {decided}"


def _export_document(subject: Subject, format_name: str, to: Path) -> Exported:
    content = DOCUMENTS[format_name](subject)
    _must_be_new(to)
    write_atomically(to, content)
    run = subject.run
    notices = () if run is None else tuple(filter(None, [_incomplete(run)]))
    return Exported(None if run is None else run.header.id, format_name, (str(to),), None, {}, notices)


def _criteria_of(run: Run, config: Config) -> Mapping[str, Task]:
    """The question and the labels of each criterion of a run; empty where an item has one verdict."""
    if not ask_several(run.items):
        return {}
    known = config.criterion_tasks()
    names = dict.fromkeys(name for item in run.items if (name := row_name(item).criterion))
    if unknown := [name for name in names if name not in known]:
        why = f"run {run.header.id} judged criterion {unknown[0]!r}, which [[criteria]] do not have any more"
        raise UsageError(why, "bring it back, or export another run")
    return {name: known[name] for name in names}


def _must_be_new(path: Path) -> None:
    if path.exists():
        raise UsageError(f"{path} exists already", "name a new file: --to FILE")


def _batch_target(config: Config, data: Dataset, name: str | None, *, blind: bool) -> Target:
    """Return the requests of one judge on abstained items. Raises UsageError if it has no endpoint."""
    if blind:
        raise UsageError(f"{BATCH} writes requests to a judge", "leave out --blind")
    known = [table.name for table in config.judges]
    wanted = known[-1] if name is None else name
    if wanted not in known:
        raise UsageError(f"there is no judge {wanted!r}", f"there are {', '.join(known)}")
    table = config.judges[known.index(wanted)]
    if not isinstance(table, OpenAIJudge):
        raise UsageError(f"{wanted!r} has no OpenAI-compatible endpoint", "name another judge: --judge NAME")

    def write(export: Export) -> Iterator[bytes]:
        shots = exemplars_of(config, data, export.run.header.certificate.roles["exemplars"])
        asked = _requests_of(config, table, shots, export)
        lines = list(lined(export.each(asked)))
        if len(lines) > MOST_REQUESTS:
            export.say(f"{len(lines):,} requests: split the file, the limit is {MOST_REQUESTS:,} per file")
        export.say(f"for {wanted!r}; custom_id holds item id, prompt number, order and sample number")
        return iter(lines)

    return Target(BATCH, "Requests for a batch endpoint", write, tuple(TaskKind))


def _requests_of(config: Config, table: OpenAIJudge, shots: Sequence[Sequence[Any]], export: Export) -> Any:
    channels = {seal.judge: seal.channel for seal in export.run.header.certificate.judges}
    channel = channels.get(table.name) if table.channel == "auto" else table.channel
    judge: EnsembleJudge = ensemble_judge(config, table, shots, no_model, channel=channel)
    dialect = Dialect()

    asked_for: set[str] = set()

    def write(row: Row) -> Iterator[bytes]:
        item_id = row_name(row.item).item_id  # of several criteria: one request asks all of them
        if row.decision is None or row.released is not None or item_id in asked_for:
            return
        asked_for.add(item_id)
        for member, order, request in judge.requests(row.item):
            yield as_json(
                {
                    "custom_id": f"{item_id}|{member}|{order}|{request.sample}",
                    "method": "POST",
                    "url": "/v1/chat/completions",
                    "body": json.loads(dialect.body(table.model, request, table.extra)),
                }
            )

    return write
