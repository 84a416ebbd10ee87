"""Pairs whose better response is the longer one."""

from random import Random

from trustescalate.judges.prompts import Exemplar
from trustescalate.records import TIE, Item, Task, TaskKind

PAIR = Task(TaskKind.PAIRWISE, "Which is better?", ("A", "B", TIE))
WORDS = ["blue", "stone", "river", "apple", "seven", "window", "under", "light", "and", "the", "of", "to"]


def text(rng: Random, words: int) -> str:
    return " ".join(rng.choices(WORDS, k=words)) + "."


def pairs(n: int, seed: int = 0, *, ties: bool = True) -> list[Exemplar]:
    """People prefer the longer text, nine times of ten, and call texts of about one length a tie."""
    rng, rows = Random(seed), []
    for i in range(n):
        a, b = rng.randint(5, 60), rng.randint(5, 60)
        label = TIE if ties and abs(a - b) < 8 else "AB"[(a < b) ^ (rng.random() < 0.1)]
        rows.append(Exemplar(Item(f"{seed}-{i}", f"Question {i}?", (text(rng, a), text(rng, b))), label))
    return rows
