"""List all formats and recognise files. A new format is a module with a `Format` and a row here."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from trustescalate.data.importers import columns
from trustescalate.data.importers.alpaca_eval import ALPACA_EVAL
from trustescalate.data.importers.arena_hard import ARENA_HARD
from trustescalate.data.importers.argilla import ARGILLA
from trustescalate.data.importers.base import Files, Format
from trustescalate.data.importers.chatbot_arena import ARENA_BATTLES, ARENA_CONVERSATIONS, ARENA_KAGGLE
from trustescalate.data.importers.files import Foreign
from trustescalate.data.importers.harness import DEEPEVAL, PROMPTFOO
from trustescalate.data.importers.inspect_ai import INSPECT_AI
from trustescalate.data.importers.judgebench import JUDGEBENCH
from trustescalate.data.importers.label_studio import LABEL_STUDIO
from trustescalate.data.importers.llmbar import LLMBAR
from trustescalate.data.importers.lm_eval import LM_EVAL
from trustescalate.data.importers.mlflow import MLFLOW
from trustescalate.data.importers.mt_bench import MT_BENCH_PAIR, MT_BENCH_SINGLE
from trustescalate.data.importers.mt_bench_csv import MT_BENCH_CSV
from trustescalate.data.importers.names import are_fields
from trustescalate.data.importers.openai_batch import OPENAI_BATCH
from trustescalate.data.importers.pandalm import PANDALM
from trustescalate.data.importers.prometheus import PROMETHEUS_PAIRS, PROMETHEUS_SCORES
from trustescalate.data.importers.reward_bench import REWARD_BENCH
from trustescalate.data.importers.trl import TRL_PAIRS, TRL_UNPAIRED
from trustescalate.errors import DataError, UsageError

FORMATS: Mapping[str, Format] = {
    each.name: each
    for each in (
        LABEL_STUDIO,
        ALPACA_EVAL,
        ARENA_BATTLES,
        ARENA_CONVERSATIONS,
        ARENA_HARD,
        ARENA_KAGGLE,
        ARGILLA,
        DEEPEVAL,
        INSPECT_AI,
        JUDGEBENCH,
        LLMBAR,
        LM_EVAL,
        MLFLOW,
        MT_BENCH_CSV,
        MT_BENCH_PAIR,
        MT_BENCH_SINGLE,
        OPENAI_BATCH,
        PANDALM,
        PROMETHEUS_PAIRS,
        PROMETHEUS_SCORES,
        PROMPTFOO,
        REWARD_BENCH,
        TRL_PAIRS,
        TRL_UNPAIRED,
    )
}
"""In the order of recognition: the most specific fields first."""

COLUMNS = "columns"
"""The fallback: rows whose columns have known names, or names from the user."""


def recognise(files: Sequence[Foreign], wanted: str | None = None) -> tuple[Format, Files]:
    """Return the one format of all these files, and the files by part.

    Raises UsageError for an unknown name, DataError where files fit no format, or none is the main one.
    """
    if wanted is not None and wanted not in (*FORMATS, COLUMNS):
        raise UsageError(f"there is no format {wanted!r}", f"there are {', '.join((*FORMATS, COLUMNS))}")
    tried = FORMATS.values() if wanted is None else [FORMATS[wanted]] if wanted != COLUMNS else []
    for tested in tried:
        parts = [_part(tested, file) for file in files]
        if None not in parts and set(parts) & set(tested.main):
            return tested, _by_part(tested, files, parts)
    if wanted in (None, COLUMNS) and (wanted or all(map(columns.fits, files))):
        return columns_format(columns.ColumnsFile()), {"rows": files}
    raise DataError(
        [f"{file.path}: {_look(file)}" for file in files],
        "name the format (--format), or say what its columns hold (--columns FILE); a rubric goes to a file: "
        "--to criteria.toml",
    )


def named_format(files: Sequence[Foreign], given: columns.ColumnsFile) -> tuple[Format, Files]:
    """The format of records or rows with the fields or columns that the user named."""
    if are_fields(given):
        for tested in FORMATS.values():
            parts = [_part(tested, file) for file in files] if tested.named is not None else [None]
            if tested.named is not None and None not in parts:
                return replace(tested, read=tested.named(given)), _by_part(tested, files, parts)
    return columns_format(given), {"rows": files}


def _by_part(tested: Format, files: Sequence[Foreign], parts: Sequence[str | None]) -> Files:
    return {
        part: [
            replace(file, kept=part in tested.kept)
            for file, its in zip(files, parts, strict=True)
            if its == part
        ]
        for part in tested.parts
    }


def columns_format(given: columns.ColumnsFile) -> Format:
    """The format of rows with the columns that the user named."""
    return Format(
        COLUMNS, "CSV, Parquet, JSON rows", {"rows": columns.fits}, ("rows",), columns.reader(given)
    )


def _part(tested: Format, file: Foreign) -> str | None:
    return next((part for part, sniff in tested.parts.items() if sniff(file)), None)


def _look(file: Foreign) -> str:
    first = file.head[0]
    keys = ", ".join(map(repr, list(first)[:12])) if isinstance(first, dict) else type(first).__name__
    return f"is of no known format; its first record has {keys}"
