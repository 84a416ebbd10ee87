"""Recognise files of TREC, whose columns are separated by spaces, and say what they lack."""

import gzip
import re
from pathlib import Path

from trustescalate.errors import DataError

BYTES = 8192
QRELS = re.compile(r"\S+[ \t]+\S+[ \t]+\S+[ \t]+-?\d+(?:\.\d+)?[ \t]*")
RUN = re.compile(r"\S+[ \t]+Q0[ \t]+\S+[ \t]+\d+[ \t]+\S+[ \t]+\S+[ \t]*")
KINDS = (
    (QRELS, "grades of relevance (TREC qrels: topic, iteration, document, grade)"),
    (RUN, "a ranking (TREC run: topic, Q0, document, rank, score, name)"),
)


def refuse_trec(path: Path) -> None:
    """Raise DataError for a file that names topics and documents, and holds no texts to be judged."""
    if not path.is_file():
        return
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            start = file.read(BYTES)
    except (OSError, EOFError):
        return  # the reader of the file says why
    lines = start.decode("utf-8", "replace").splitlines()
    lines = [line.strip() for line in (lines if len(start) < BYTES else lines[:-1]) if line.strip()]
    for pattern, what in KINDS:
        if lines and not lines[0].startswith(("{", "[")) and all(map(pattern.fullmatch, lines)):
            raise DataError(
                [f"{path}: holds {what}, the names of texts without the texts"],
                "join the texts by their names to a table with the columns prompt (the topic), response (the "
                "document) and label (the grade), and import that",
            )
