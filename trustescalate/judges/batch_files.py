"""Keep the requests of batches in files: written one by one, never all in memory.

A batch in progress has three files in a folder: a ticket with its state, a manifest with one line for each
request, and beside it what is needed to read the answers. A manifest without a ticket was never sent.
"""

import json
import os
import secrets
import sqlite3
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from trustescalate.errors import UsageError
from trustescalate.records import Message, Request
from trustescalate.records.jsonl import decode, encode, write_atomically
from trustescalate.records.stored import Lines

TAG = "trustescalate"
ABANDONED = 3600.0
"""Seconds after which a manifest without a ticket is that of a command which was killed."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """A batch in progress. `name` is the mark by which its file and batch are recognised at the provider."""

    name: str
    judge: str
    endpoint: str
    requests: int
    file_id: str | None = None
    batch_id: str | None = None
    begun: float = 0.0


class BatchFolder:
    """The files of the batches in progress."""

    def __init__(self, folder: Path) -> None:
        self.path = folder

    def tickets(self) -> list[Ticket]:
        """All tickets. Raises UsageError for a file that is none."""
        read = (_read_ticket(path) for path in sorted(self.path.glob("*.json")))
        return [ticket for ticket in read if ticket is not None]

    def save(self, ticket: Ticket) -> None:
        """Keep the state of a batch."""
        write_atomically(self.path / f"{ticket.name}.json", encode(ticket) + b"\n")

    def forget(self, ticket: Ticket) -> None:
        """Remove the files of a batch."""
        (self.path / f"{ticket.name}.json").unlink(missing_ok=True)
        for path in (self.manifest(ticket.name), self.asked(ticket.name)):
            path.unlink(missing_ok=True)

    def manifest(self, name: str) -> Path:
        """The file with the requests of a batch."""
        return self.path / f"{TAG}-{name}.jsonl"

    def asked(self, name: str) -> Path:
        """The file with what is needed to read the answers of a batch."""
        return self.path / f"{TAG}-{name}.asked"

    def sweep(self) -> None:
        """Remove manifests that a killed command left unsent."""
        for path in self.path.glob(f"{TAG}-*"):
            name = path.name.removeprefix(f"{TAG}-").partition(".")[0]
            left = not (self.path / f"{name}.json").exists()
            if left and path.stat().st_mtime < time.time() - ABANDONED:
                path.unlink(missing_ok=True)


@dataclass(slots=True)
class Part:
    """One manifest that is written. `most` is what its requests cost at most."""

    name: str
    requests: int = 0
    size: int = 0
    most: float = 0.0


class Spool:
    """Requests on their way into manifests of at most so many requests and bytes each; each key goes once."""

    def __init__(self, folder: BatchFolder, most_requests: int, most_bytes: int) -> None:
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.sweep()
        self.parts: list[Part] = []
        self._folder, self._most_requests, self._most_bytes = folder, most_requests, most_bytes
        self._manifest: BinaryIO | None = None
        self._asked: BinaryIO | None = None
        self._keys = sqlite3.connect("")  # a file of its own, which SQLite removes
        self._keys.execute("CREATE TABLE keys (key TEXT PRIMARY KEY) WITHOUT ROWID")

    def __contains__(self, key: str) -> bool:
        return self._keys.execute("SELECT 1 FROM keys WHERE key = ?", (key,)).fetchone() is not None

    def add(self, key: str, line: bytes, request: Request, most: float) -> None:
        """Write one request, its line ended by a line break, with its cost at most."""
        self._keys.execute("INSERT INTO keys VALUES (?)", (key,))
        part = self.parts[-1] if self.parts else None
        full = part is None or part.requests >= self._most_requests
        if part is None or full or part.size + len(line) > self._most_bytes:
            part = self._next()
        self._write(line, _without_texts(request))
        part.requests, part.size, part.most = part.requests + 1, part.size + len(line), part.most + most

    def sealed(self, judge: str, endpoint: str) -> list[Ticket]:
        """End the manifests, and save a ticket for each."""
        self._end()
        now = time.time()
        tickets = [Ticket(part.name, judge, endpoint, part.requests, begun=now) for part in self.parts]
        for ticket in tickets:
            self._folder.save(ticket)
        return tickets

    def discard(self) -> None:
        """Remove what was written."""
        self._end()
        for part in self.parts:
            self._folder.forget(Ticket(part.name, "", "", 0))

    def _write(self, line: bytes, asked: bytes) -> None:
        for file, content in ((self._manifest, line), (self._asked, asked)):
            assert file is not None, "a part is open"
            file.write(content)

    def _next(self) -> Part:
        self._close_files()
        part = Part(secrets.token_hex(12))
        self._manifest = self._folder.manifest(part.name).open("wb")
        self._asked = self._folder.asked(part.name).open("wb")
        self.parts.append(part)
        return part

    def _end(self) -> None:
        self._close_files()
        self._keys.close()

    def _close_files(self) -> None:
        for file in (self._manifest, self._asked):
            if file is not None:
                file.flush()
                os.fsync(file.fileno())
                file.close()
        self._manifest = self._asked = None


def numbered_keys(manifest: Path) -> dict[str, int]:
    """The keys of the requests of a manifest, each with the number of its line."""
    with manifest.open("rb") as lines:
        return {json.loads(line)["custom_id"]: number for number, line in enumerate(lines)}


def read_asked(path: Path) -> Lines | None:
    """What belongs to the requests of a manifest, by line; None for a batch of an older version."""
    return Lines.found(path) if path.exists() else None


def request_of(line: bytes) -> Request:
    """The request of a line: as it was asked, with as many characters of text, which are blanks."""
    characters, _, rest = line.partition(b" ")
    return replace(decode(rest, Request), messages=(Message("user", " " * int(characters)),))


def _without_texts(request: Request) -> bytes:
    size = sum(len(message.content) for message in request.messages)
    return b"%d %s\n" % (size, encode(replace(request, messages=())))


def _read_ticket(path: Path) -> Ticket | None:
    """A ticket; None where its batch has just been collected by another command."""
    try:
        return decode(path.read_bytes(), Ticket)
    except FileNotFoundError:
        return None
    except (ValueError, OSError) as error:
        hint = "remove it: its requests are sent again"
        raise UsageError(f"{path}: not the record of a batch ({error})", hint) from None
