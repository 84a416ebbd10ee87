"""Compute the features of a classical judge: length, form, overlap, and common n-grams. Reads no label.

`Reader` is fitted on texts; its numbers are rounded, so that they are equal on all machines.
"""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from sklearn.feature_extraction.text import TfidfVectorizer

from trustescalate.records import Item
from trustescalate.records.jsonl import digest

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

FEATURES = 1
"""Version of the features."""

DECIMALS = 6
WORD_GRAMS, CHARACTER_GRAMS = 240, 160
"""At most, and never more than a quarter of the texts."""
RAREST = 3
"""Least number of texts of an n-gram that is used."""

_WORD = re.compile(r"\w+")
_FORM = tuple(
    re.compile(pattern, re.MULTILINE)
    for pattern in (
        r"[.!?](?:\s|$)", r"\n", r"^\s*[-*•]\s", r"^\s*\d+[.)]\s", r"```", r"^#+\s", r"\*\*", r"\?", r"!",
        r"https?://", r"\d+", r"[\"“”]", r"[:;]", r"\(",
    )
)  # fmt: skip
"""Counted: sentences, lines, bullets, numbered points, fences, headings, bold, questions, exclamations, …"""


def form(item: Item, response: str) -> FloatArray:
    """Length, form, and overlap with prompt and reference of one response, shape (d,), finite for any text.

    >>> item = Item("q", "Is 91 prime?", ("No: 91 = 7 × 13.",))
    >>> bool(np.isfinite(form(item, "")).all()), form(item, "No.").shape == form(item, "").shape
    (True, True)
    """
    words = _WORD.findall(response.casefold())
    counts = [len(response), len(words), *(len(pattern.findall(response)) for pattern in _FORM)]
    letters = max(1, len(response))
    return np.array(
        [
            *np.log1p(counts),
            sum(map(len, words)) / max(1, len(words)),
            len(set(words)) / max(1, len(words)),
            sum(map(str.isupper, response)) / letters,
            sum(ord(character) > 127 for character in response) / letters,
            *_overlap(words, _WORD.findall(item.prompt_text.casefold())),
            *_overlap(words, _WORD.findall((item.reference or "").casefold())),
            float(bool(item.reference) and (item.reference or "").casefold().strip() in response.casefold()),
        ]
    )


def _overlap(words: Sequence[str], others: Sequence[str]) -> tuple[float, float]:
    shared = sum((Counter(words) & Counter(others)).values())
    return shared / max(1, len(words)), shared / max(1, len(others))


class Reader:
    """Responses as rows of numbers: `form`, scaled, then the commonest n-grams of the fitting texts."""

    def __init__(self, items: Sequence[Item], *, grams: bool) -> None:
        forms = _forms(items)
        spread = np.round(forms.std(axis=0), DECIMALS)
        self._centre = np.round(forms.mean(axis=0), DECIMALS)
        self._spread = np.where(spread > 0, spread, 1.0)
        kinds = (("word", (1, 2), WORD_GRAMS), ("char_wb", (3, 3), CHARACTER_GRAMS)) if grams else ()
        grams_of = (_vectorizer(_texts(items), *kind) for kind in kinds)
        self._grams = [vectorizer for vectorizer in grams_of if vectorizer is not None]

    def rows(self, items: Sequence[Item]) -> FloatArray:
        """The responses of n items, shape (n, responses, d)."""
        forms = (_forms(items) - self._centre) / self._spread
        grams = [vectorizer.transform(_texts(items)).toarray() for vectorizer in self._grams]
        return np.hstack([forms, *grams]).reshape(len(items), len(items[0].responses), -1)

    @property
    def fingerprint(self) -> str:
        """A hash of all that is fitted."""
        grams = [sorted(vectorizer.vocabulary_.items()) for vectorizer in self._grams]
        weights = [vectorizer.idf_.tolist() for vectorizer in self._grams]
        return digest(FEATURES, self._centre.tolist(), self._spread.tolist(), grams, weights)


def _texts(items: Sequence[Item]) -> list[str]:
    return [text for item in items for text in item.texts]


def _forms(items: Sequence[Item]) -> FloatArray:
    return np.array([form(item, text) for item in items for text in item.texts])


def _vectorizer(
    texts: Sequence[str], analyzer: str, lengths: tuple[int, int], most: int
) -> TfidfVectorizer | None:
    """The most frequent n-grams, ties in alphabetical order. None if all are rare."""
    settings = {"analyzer": analyzer, "ngram_range": lengths, "sublinear_tf": True}
    analyze = TfidfVectorizer(**settings).build_analyzer()
    counts = Counter(gram for text in texts for gram in set(analyze(text)))
    common = sorted(
        (gram for gram in counts if counts[gram] >= RAREST), key=lambda gram: (-counts[gram], gram)
    )
    if not common or len(texts) < 4:
        return None
    vectorizer = TfidfVectorizer(**settings, vocabulary=common[: min(most, len(texts) // 4)]).fit(texts)
    vectorizer.idf_ = np.round(vectorizer.idf_, DECIMALS)
    return vectorizer
