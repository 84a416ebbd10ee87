"""A run out to another tool: the file that was asked for, and what belongs beside it.

What is said of an export (what was left out, what its reader must know) is part of the result.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from trustescalate.cascade.run_folder import load_run
from trustescalate.config import Config, OpenAIJudge
from trustescalate.data.dataset import load_dataset
from trustescalate.errors import NotMeasurable, UsageError
from trustescalate.judges.base import EnsembleJudge
from trustescalate.judges.completions import Dialect
from trustescalate.judges.exemplars import exemplars_of
from trustescalate.judges.registry import ensemble_judge
from trustescalate.records import Reply, Request, TaskKind
from trustescalate.records.jsonl import write_atomically
from trustescalate.report.export.base import Export, Row, Target, as_json, export_rows, lined
from trustescalate.report.export.registry import target

Only = Literal["all", "abstained", "released"]
BATCH = "openai_batch"
MOST_REQUESTS = 50_000
"""What the Batch API takes in one file."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote. `rows` were asked for; `left_out` says how many have no place there, and why."""

    run: str
    format: str
    files: tuple[str, ...]
    rows: int
    left_out: dict[str, int]
    notices: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return asdict(self)

    def lines(self) -> list[str]:
        """For a terminal."""
        said = [f"run:      {self.run}", f"format:   {self.format}", f"rows:     {self.rows:,}"]
        said += [f"left out: {count:,}: {why}" for why, count in self.left_out.items()]
        said += [f"notice:   {sentence}" for sentence in self.notices]
        return said + [f"written:  {path}" for path in self.files]


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
    """Write a recorded run, the latest one by default, in a format of `exporters.registry` or "openai_batch".

    `only`: all items, those that need a person, or those with a released verdict. `blind`: nothing that a
    judge said. `judge`: whom a batch asks; default: the last one of the configuration.
    Raises UsageError where a file exists, and where the format has no meaning for the task; then nothing is
    written. An incomplete run is exported with a notice.
    """
    run = load_run(config.folder, load_dataset(config), run_id)
    export = Export(run, export_rows(run, only, blind=blind), blind)
    if format_name == BATCH:
        written = _batch_target(config, judge, blind=blind)
    elif judge is not None:
        raise UsageError(f"{format_name} asks no judge", f"leave out --judge, or export as {BATCH}")
    else:
        written = target(format_name, export.task, blind=blind, others=(BATCH,))
    if len(run.decisions) < len(run.items):
        export.say(
            f"the run is not complete ({run.header.status}): {len(run.decisions):,} of {len(run.items):,} "
            "items are decided"
        )
    if not export.rows:
        raise NotMeasurable(
            f"no item of the run is {only}: there is nothing to export", "choose another --only"
        )
    _must_be_new(to)
    data = b"".join(written.write(export))
    beside = {to.with_name(to.name + end): content for end, content in export.beside.items()}
    for path in beside:
        _must_be_new(path)
    to.parent.mkdir(parents=True, exist_ok=True)
    for path, content in {**beside, to: data}.items():
        write_atomically(path, content)
    return Exported(
        run.header.id,
        format_name,
        tuple(map(str, (to, *beside))),
        len(export.rows),
        dict(export.left_out),
        tuple(export.notices),
    )


def _must_be_new(path: Path) -> None:
    if path.exists():
        raise UsageError(f"{path} is there already", "name a new file: --to FILE")


# ── requests for the next tier ───────────────────────────────────────────────────────────────────


def _batch_target(config: Config, name: str | None, *, blind: bool) -> Target:
    """The requests of one judge about items that abstained. Raises UsageError if it has no endpoint."""
    if blind:
        raise UsageError(f"{BATCH} is made for a judge", "leave out --blind")
    known = [table.name for table in config.judges]
    wanted = known[-1] if name is None else name
    if wanted not in known:
        raise UsageError(f"there is no judge {wanted!r}", f"there are {', '.join(known)}")
    table = config.judges[known.index(wanted)]
    if not isinstance(table, OpenAIJudge):
        raise UsageError(
            f"{wanted!r} is no model behind an OpenAI-compatible endpoint", "name another judge: --judge NAME"
        )

    def write(export: Export) -> Iterator[bytes]:
        data = load_dataset(config)
        shots = exemplars_of(config, data, export.run.header.certificate.roles["exemplars"])
        asked = _requests_of(config, table, shots, export)
        lines = list(lined(export.each(asked)))
        if len(lines) > MOST_REQUESTS:
            export.say(
                f"{len(lines):,} requests: the Batch API takes {MOST_REQUESTS:,} in one file, so split it"
            )
        export.say(
            f"for {wanted!r}; custom_id is the item's id, the number of the prompt, the order and the draw"
        )
        return iter(lines)

    return Target(BATCH, "Requests for a batch endpoint", write, tuple(TaskKind))


def _requests_of(config: Config, table: OpenAIJudge, shots: Sequence[Sequence[Any]], export: Export) -> Any:
    sealed = {seal.judge: seal.channel for seal in export.run.header.certificate.judges}
    channel = sealed.get(table.name) if table.channel == "auto" else table.channel
    judge: EnsembleJudge = ensemble_judge(config, table, shots, _nobody, channel=channel)
    dialect = Dialect()

    def write(row: Row) -> Iterator[bytes]:
        if row.decision is None or row.released is not None:
            return
        for member, order, request in judge.requests(row.item):
            yield as_json(
                {
                    "custom_id": f"{row.item.id}|{member}|{order}|{request.sample}",
                    "method": "POST",
                    "url": "/v1/chat/completions",
                    "body": json.loads(dialect.body(table.model, request, table.extra)),
                }
            )

    return write


async def _nobody(_: Request) -> Reply:
    raise AssertionError("an export asks nobody")
