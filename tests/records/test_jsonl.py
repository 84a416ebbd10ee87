"""Records as lines of JSON: what is bad is named, what is good comes back to the last bit."""

import gzip
import json
import math
import os
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trustescalate.errors import DataError
from trustescalate.records import Annotation, Item, Judgment, Reply, Token, Turn, Usage, Vote
from trustescalate.records.jsonl import (
    Rows,
    decode,
    digest,
    encode,
    read_appended,
    read_rows,
    truncate_torn,
    write_atomically,
    write_rows,
)

GOOD = b'{"id": "a", "prompt": "p", "responses": ["x", "y"]}'


def read(folder: Path, data: bytes, name: str = "items.jsonl") -> Rows[Item]:
    (folder / name).write_bytes(data)
    return read_rows(folder / name, Item)


@pytest.mark.parametrize("planned", [-1, 0, 10_001, 1_000_000_000])
def test_a_judgment_plans_at_least_one_vote_and_no_more_than_can_be(planned: int) -> None:
    line = b'{"item_id": "a", "judge": "j", "fingerprint": "f", "votes": [], "planned": %d}'
    with pytest.raises(ValueError, match="'planned' must be between 1 and 10,000 votes"):
        decode(line % planned, Judgment)
    assert decode(line % 10_000, Judgment).planned == 10_000


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ('"cost": -0.1', "cost"),
        ('"cost": NaN', "cost"),
        ('"cost": Infinity', "cost"),
        *((f'"usage": {{"{field.name}": -1}}', f"usage.{field.name}") for field in fields(Usage)),
    ],
)
def test_what_votes_cost_is_a_number_from_nought_on(given: str, named: str) -> None:
    """A run folder, recorded votes and the cache are read with the same check."""
    line = (
        '{"item_id": "a", "judge": "j", "fingerprint": "f", "planned": 1, "votes": [{"exemplar_set": 0, %s}]}'
    )
    vote = '"order": "AB", "probs": {"A": 1}, ' + given
    with pytest.raises(ValueError, match=f"votes.0.{named} must be "):
        decode((line % vote).encode(), Judgment)
    reply = '{"text": "A", "tokens": null, "finish": "stop", "usage": {"input_tokens": -3}}'
    with pytest.raises(ValueError, match=r"usage\.input_tokens must be "):
        decode(reply.encode(), Reply)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"{oops", "not valid JSON (key must be a string, column 2)"),
        (b'{"id": "a"', "not valid JSON"),
        (b'{"id": "\xff", "prompt": "p", "responses": ["x"]}', "not valid JSON (not UTF-8, column "),
        (rb'{"id": "\ud800x", "prompt": "p", "responses": ["x"]}', "not valid JSON"),
        (b'{"id": "\xed\xa0\x80", "prompt": "p", "responses": ["x"]}', "not UTF-8"),
        (b"[1]", "a line must be an object"),
        (b"null", "a line must be an object"),
        (b'{"id": "a", "responses": []}', "'prompt' is missing"),
        (b'{"id": "a", "promt": "p", "responses": []}', "unknown key 'promt': did you mean 'prompt'?"),
        (b'{"id": "a", "prompt": "p", "responses": [], "zz": 1}', "known keys are id, prompt, responses"),
        (b'{"id": null, "prompt": "p", "responses": []}', "id must be a valid string"),
        (b'{"id": "a", "prompt": "p", "responses": ["x", null]}', "responses.1 must be a valid string"),
        (b'{"id": "a", "prompt": {}, "responses": []}', "prompt must be a valid string"),
        (
            b'{"id": "a", "prompt": [{"role": "user", "contnt": "x"}], "responses": []}',
            "'prompt.0.content' is missing; unknown key 'prompt.0.contnt': did you mean 'content'?",
        ),
        (
            b'{"id": "a", "prompt": "p", "responses": [], "meta": {"x": %s}}' % (b"[" * 5000 + b"]" * 5000),
            "recursion limit",
        ),
    ],
)
def test_a_bad_line_is_named_and_its_neighbours_are_read(tmp_path: Path, line: bytes, said: str) -> None:
    rows, problems = read(tmp_path, b"\n".join([GOOD, line, GOOD]))
    assert [row.line for row in rows] == [1, 3]
    assert len(problems) == 1
    assert problems[0].startswith(f"{tmp_path / 'items.jsonl'}:2: ")
    assert said in problems[0]


def test_every_problem_of_a_line_and_of_a_file_comes_at_once(tmp_path: Path) -> None:
    many = {"id": "a", "k1": 1, "k2": 2, "k3": 3, "k4": 4, "k5": 5}
    _, problems = read(tmp_path, json.dumps(many).encode() + b"\n" + b"nope\n" * 30)
    assert len(problems) == 31
    assert all(word in problems[0] for word in ("prompt", "responses", "'k1'", "'k5'"))


def test_marks_newlines_blank_lines_and_numbers_are_tolerated(tmp_path: Path) -> None:
    data = b'\xef\xbb\xbf{"id": 7, "prompt": "p", "responses": [1, 2.5]}\r\n\r\n  \n' + GOOD
    rows, problems = read(tmp_path, data)
    assert problems == []
    assert [(row.line, row.record.id, row.record.responses) for row in rows] == [
        (1, "7", ("1", "2.5")),
        (4, "a", ("x", "y")),
    ]
    label = b'{"item_id": 1, "annotator": 2, "label": 3}'
    assert decode(label, Annotation) == Annotation("1", "2", "3")


def test_gz_is_read_and_a_damaged_one_is_a_problem(tmp_path: Path) -> None:
    whole = gzip.compress((GOOD + b"\n") * 2000)
    assert len(read(tmp_path, whole, "a.jsonl.gz").rows) == 2000
    _, problems = read(tmp_path, whole[:-20], "cut.jsonl.gz")
    assert len(problems) == 1
    assert "cut.jsonl.gz: cannot be read after line " in problems[0]
    damaged = bytearray(gzip.compress(bytes(range(128)) * 40))
    damaged[20:60] = b"\xff" * 40
    for name, data in (("zlib.gz", bytes(damaged)), ("plain.gz", GOOD), ("none.gz", b"")):
        rows, problems = read(tmp_path, data, name)
        assert rows == []
        assert len(problems) == (name != "none.gz")


def test_what_is_no_file_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_rows(tmp_path / "none", Item).problems == [
        f"{tmp_path / 'none'}: cannot be read: No such file or directory"
    ]
    assert read_rows(tmp_path, Item).problems == [f"{tmp_path}: cannot be read: Is a directory"]

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    assert read_rows(tmp_path / "x", Item).problems == [
        f"{tmp_path / 'x'}: cannot be read: Permission denied"
    ]


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999", '"high"', "null"])
def test_what_is_no_number_is_no_probability(tmp_path: Path, value: str) -> None:
    vote = f'{{"exemplar_set": 0, "order": "AB", "probs": {{"A": {value}}}}}'
    path = tmp_path / "votes.jsonl"
    path.write_text(
        f'{{"item_id": "a", "judge": "j", "fingerprint": "f", "planned": 1, "votes": [{vote}]}}', "utf-8"
    )
    rows, problems = read_rows(path, Judgment)
    assert rows == []
    assert "votes.0.probs.A must be a" in problems[0]


def test_unknown_keys_deep_inside_are_compared_with_the_keys_that_belong_there() -> None:
    line = b'{"item_id": "a", "judge": "j", "fingerprint": "f", "planned": 1, "votes": [{"probz": {}}]}'
    with pytest.raises(ValueError, match=r"unknown key 'votes.0.probz': did you mean 'probs'"):
        decode(line, Judgment)


def test_infinite_log_probabilities_survive_the_cache() -> None:
    reply = Reply("A", (Token("A", (("A", -0.1), ("B", -math.inf))),), "stop", Usage(1, 2, 0, 1))
    assert decode(encode(reply), Reply) == reply


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
ITEMS = st.builds(
    Item,
    TEXT,
    TEXT | st.lists(st.builds(Turn, st.sampled_from(["system", "user", "assistant"]), TEXT)).map(tuple),
    st.lists(TEXT, max_size=3).map(tuple),
    st.none() | TEXT,
    st.none() | TEXT,
    st.dictionaries(TEXT, st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT),
)


@given(ITEMS, st.floats(0, 1))
def test_what_is_written_is_what_is_read(item: Item, p: float) -> None:
    line = encode(item)
    assert b"\n" not in line
    assert decode(line, Item) == item
    assert digest(decode(line, Item)) == digest(item)
    judgment = Judgment("i", "j", "f", (Vote(0, "AB", {"A": p}, cost=p / 3),), 1)
    assert decode(encode(judgment), Judgment) == judgment


def test_a_torn_last_line_is_dropped_and_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    assert read_appended(path, Annotation) == ([], 0)
    truncate_torn(path)
    row = Annotation("a", "b", "A")
    whole = encode(row) + b"\n"
    for cut in range(1, len(whole)):
        path.write_bytes(whole + whole[:cut])
        assert read_appended(path, Annotation) == ([row], 1)
        truncate_torn(path)
        assert path.read_bytes() == whole
    path.write_bytes(whole[:5])
    truncate_torn(path)
    assert path.read_bytes() == b""


def test_a_damaged_line_in_the_middle_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    whole = encode(Annotation("a", "b", "A")) + b"\n"
    path.write_bytes(whole + whole[:9] + b"\n" + b"\x00\n" + whole)
    with pytest.raises(DataError, match="2 problems") as caught:
        read_appended(path, Annotation)
    assert [problem.split(": ")[0] for problem in caught.value.problems] == [f"{path}:2", f"{path}:3"]
    assert caught.value.hint


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "file.jsonl"
    write_rows(path, [Annotation("a", "b", "A")])
    old = path.read_bytes()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"new")
    assert path.read_bytes() == old
    assert [file.name for file in path.parent.iterdir()] == ["file.jsonl"]


def test_digests_depend_on_values_and_on_nothing_else() -> None:
    assert digest({"b": 1, "a": [1, 2]}) == digest({"a": (1, 2), "b": 1})
    assert digest("ab", "c") != digest("a", "bc")
    assert digest(1) != digest("1")
    assert digest("\ud800") != digest("\ud801")
    with pytest.raises(ValueError, match="Out of range"):
        digest(math.nan)
