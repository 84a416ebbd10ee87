"""The files of batches: requests go to them one by one, each once, and are read back by number."""

import json
import os
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

from trustescalate.judges.batch_files import (
    ABANDONED,
    BatchFolder,
    Spool,
    numbered_keys,
    read_asked,
    request_of,
)
from trustescalate.records import Message, Request

ASKED = Request((Message("system", "é" * 7), Message("user", "x" * 5)), ("A", "B"), 16, 0.5, False, sample=3)


def line(key: str, size: int = 10) -> bytes:
    return json.dumps({"custom_id": key, "text": "x" * size}).encode() + b"\n"


def test_each_request_goes_once_into_files_of_a_size_that_is_taken(tmp_path: Path) -> None:
    spool = Spool(BatchFolder(tmp_path), 3, 200)
    for key in ("a", "b", "c", "d"):
        spool.add(key, line(key), ASKED, 0.5)
        assert key in spool
    spool.add("e", line("e", 300), ASKED, 0.5)
    assert "f" not in spool
    assert [(part.requests, part.most) for part in spool.parts] == [(3, 1.5), (1, 0.5), (1, 0.5)]
    assert BatchFolder(tmp_path).tickets() == [], "nothing is sent before all is written"
    tickets = spool.sealed("judge", "endpoint")
    assert sorted(ticket.name for ticket in BatchFolder(tmp_path).tickets()) == sorted(
        ticket.name for ticket in tickets
    )
    assert numbered_keys(BatchFolder(tmp_path).manifest(tickets[0].name)) == {"a": 0, "b": 1, "c": 2}


def test_a_request_is_read_back_with_blanks_for_its_texts(tmp_path: Path) -> None:
    folder = BatchFolder(tmp_path)
    spool = Spool(folder, 10, 10**6)
    for key in ("a", "b"):
        spool.add(key, line(key), replace(ASKED, sample=ord(key)), 0.0)
    (ticket,) = spool.sealed("judge", "endpoint")
    asked = read_asked(folder.asked(ticket.name))
    assert asked is not None
    read = [request_of(asked.read(number)) for number in (1, 0)]
    assert read == [replace(ASKED, messages=(Message("user", " " * 12),), sample=ord(key)) for key in "ba"]
    folder.forget(ticket)
    assert list(tmp_path.iterdir()) == []
    assert read_asked(folder.asked(ticket.name)) is None, "of an older version"


def test_what_is_discarded_or_left_by_a_killed_command_is_removed(tmp_path: Path) -> None:
    folder = BatchFolder(tmp_path)
    spool = Spool(folder, 10, 10**6)
    spool.add("a", line("a"), ASKED, 0.0)
    spool.discard()
    assert list(tmp_path.iterdir()) == []
    kept = Spool(folder, 10, 10**6)
    kept.add("a", line("a"), ASKED, 0.0)
    kept.sealed("judge", "endpoint")
    killed = Spool(folder, 10, 10**6)
    killed.add("b", line("b"), ASKED, 0.0)
    killed._close_files()
    Spool(folder, 10, 10**6)
    assert len(list(tmp_path.iterdir())) == 5, "another command may be writing them"
    for path in tmp_path.iterdir():
        os.utime(path, (0, time.time() - ABANDONED - 1))
    Spool(folder, 10, 10**6)
    assert len(list(tmp_path.iterdir())) == 3


def test_memory_does_not_grow_with_the_requests(tmp_path: Path) -> None:
    peaks = []
    for count in (500, 4000):
        spool = Spool(BatchFolder(tmp_path / str(count)), 300, 10**6)
        tracemalloc.start()
        for number in range(count):
            spool.add(f"{number:064}", line(f"{number:064}", 1000), ASKED, 0.0)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        spool.discard()
    assert peaks[1] < 1.5 * peaks[0]
    assert peaks[1] < 500_000
