"""Count how often the 95 % intervals of win rates miss, by number of labels and rarity of the rarer outcome.

    python -m benchmarks.coverage [--draws 4000] [--seed 0]

prints the table of docs/win-rates.md. 5,000 items whose predictions say something of the labels; "unguarded"
is the asymptotic interval as it comes, "shown" what is printed: with too few labels the one from labels
alone. tests/test_coverage.py holds the page's figures against a fresh draw.
"""

import argparse
from typing import NamedTuple

import numpy as np

from trustescalate.stats.inference import Survey, ppi_mean

ITEMS, DELTA = 5000, 0.05
RATES, LABELS = (0.5, 0.1, 0.05, 0.02), (50, 100, 200, 500)


class Misses(NamedTuple):
    """Of `draws` draws: misses of the asymptotic interval, of the one shown, and how often both are one."""

    draws: int
    unguarded: int
    shown: int
    used: int


def misses(rate: float, labels: int, draws: int, seed: int) -> Misses:
    """Draw items, labels and labelled rows anew each time, with P(label = 1) = `rate`."""
    rng = np.random.default_rng([seed, labels, round(1000 * rate)])
    unguarded = shown = used = 0
    rows = np.arange(labels)
    for _ in range(draws):
        prediction = rng.beta(2 * rate, 2 * (1 - rate), size=ITEMS)
        label = (rng.random(labels) < prediction[:labels]).astype(np.float64)
        mean = ppi_mean(Survey(prediction, rows, label), DELTA)
        off = not mean.low <= rate <= mean.high
        alone = not mean.label_only[0] <= rate <= mean.label_only[1]
        unguarded, used = unguarded + off, used + mean.usable
        shown += off if mean.usable else alone
    return Misses(draws, unguarded, shown, used)


def table(draws: int, seed: int) -> list[str]:
    """A Markdown table: misses in per cent, unguarded / shown (how often the asymptotic one is shown)."""
    lines = [
        f"| rarer outcome | {' | '.join(f'{n} labels' for n in LABELS)} |",
        "|---" * (len(LABELS) + 1) + "|",
    ]
    for rate in RATES:
        found = [misses(rate, n, draws, seed) for n in LABELS]
        cells = [
            f"{100 * m.unguarded / draws:.1f} / {100 * m.shown / draws:.1f} ({100 * m.used / draws:.0f} %)"
            for m in found
        ]
        lines.append(f"| {rate:g} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Misses of the 95 % intervals of win rates.")
    parser.add_argument("--draws", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print("\n".join(table(options.draws, options.seed)))


if __name__ == "__main__":
    main()
