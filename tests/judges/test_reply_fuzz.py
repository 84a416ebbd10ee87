"""Replies of a grammar that knows what each concludes: no other verdict is read, and few are lost."""

import random
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.replies import CODE, Composed, compose
from trustescalate.judges.prompts import symbols
from trustescalate.judges.reply_parsing import read_verdict
from trustescalate.records import Mode, Reply, Task, TaskKind, Usage

VOCABULARIES = (
    *(("A", "B"), ("A", "B", "tie"), ("pass", "fail"), ("yes", "no"), ("1", "2", "3", "4", "5")),
    *(("correct", "incorrect"), ("通过", "不通过"), ("да", "нет"), ("good", "fair", "poor")),
)


def outcome(reply: Composed, words: tuple[str, ...]) -> int | str:
    """The index of the symbol that is read, or the failure."""
    given = Reply(reply.text, None, reply.finish, Usage())  # type: ignore[arg-type]
    found = read_verdict(given, words, mode=reply.mode, nonce=CODE)  # type: ignore[arg-type]
    return found.failure or max(range(len(words)), key=lambda i: found.probs[i])


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**40), st.sampled_from(VOCABULARIES))
def test_no_verdict_is_read_that_was_not_concluded(seed: int, words: tuple[str, ...]) -> None:
    reply = compose(random.Random(seed), words)
    assert outcome(reply, words) == reply.concludes or isinstance(outcome(reply, words), str), reply


def test_few_honest_replies_are_thrown_away() -> None:
    rng = random.Random(11)
    lost = asked = 0
    for _ in range(1200):
        words = rng.choice(VOCABULARIES)
        reply = compose(rng, words)
        if reply.concludes is not None:
            asked += 1
            lost += isinstance(outcome(reply, words), str)
    assert asked > 400
    assert lost / asked < 0.02


# ── labels ───────────────────────────────────────────────────────────────────────────────────────

ODD = (
    "-1",
    "1",
    "<",
    "=",
    ">",
    "ß",
    "ss",
    "A.",
    "A",
    "Ａ",
    "verdict",
    "best",
    "thanks",
    "done",
    "a",
    "+",
    "4.0",
    "<think>",
)
labels = st.lists(
    st.sampled_from(ODD) | st.text(min_size=1, max_size=8).filter(str.strip),
    min_size=2,
    max_size=5,
    unique=True,
).map(tuple)
FORMS = {
    "direct": (
        "{}",
        " {}\n",
        "**{}**",
        "{}.",
        "[[{}]]",
        "【{}】",
        "「{}」",
        "({})",
        "Verdict: {}",
        "My final verdict is: **{}**",
        "{}<|im_end|>",
    ),
    "reason": ("Both are short.\n\nVerdict {code}: {}", "**Verdict {code}:** {}."),
    "stated": ("Verdict {code}: {}, 85 %", "Verdict {code}: {} (0.9)", "Verdict {code}: **{}**, 85%"),
    "structured": ('{{"reasoning": "x", "verdict": "{}"}}', '{{"verdict": "{}"}}'),
}


@pytest.mark.parametrize("mode", FORMS)
@settings(max_examples=50, deadline=None)
@given(words=labels)
def test_what_judges_are_told_to_answer_reads_back(mode: Mode, words: tuple[str, ...]) -> None:
    """Whatever the labels: the strings that the prompt names are read as themselves in every form."""
    shown = symbols(Task(TaskKind.CHOICE, "Which?", words))
    assert len(set(shown)) == len(words)
    for form in FORMS[mode]:
        for i, symbol in enumerate(shown):
            for spelled in {symbol, unicodedata.normalize("NFD", symbol), symbol.upper()}:
                if mode == "structured" and ('"' in spelled or "\\" in spelled):
                    continue
                if spelled != symbol and spelled.casefold() != symbol.casefold():
                    continue
                text = form.replace("{code}", CODE).format(spelled)
                assert outcome(Composed(text, mode, "stop", i, ""), shown) == i, (shown, text)


@pytest.mark.parametrize(
    "words",
    [
        ("-1", "1"),
        ("-1", "0", "1"),
        ("<", "=", ">"),
        ("ß", "ss"),
        ("A.", "A"),
        ("best", "worst"),
        ("Ａ", "Ｂ"),
    ],
)
def test_labels_that_do_not_read_back_are_shown_as_letters(words: tuple[str, ...]) -> None:
    assert symbols(Task(TaskKind.CHOICE, "Which?", words)) == ("A", "B", "C")[: len(words)]
