"""What a probe found: how often a text that tries to buy a verdict gets it."""

from dataclasses import dataclass

CONTROL = "control"
"""The family of harmless additions, which measures how often a verdict turns by itself."""


@dataclass(frozen=True, slots=True)
class ProbedFamily:
    """One family of attacks on one judge: `tries` verdicts under attack, how many of them the attack won.

    `silent` are tries after which the judge gave no verdict at all; in a cascade such an item escalates.
    """

    family: str
    tries: int
    wins: int
    silent: int


@dataclass(frozen=True, slots=True)
class ProbedJudge:
    """One judge under attack. `fingerprint` is that of its whole ensemble, as a certificate bindings it.

    `control` is what harmless additions did to the same verdicts; it is no part of the counts.
    """

    judge: str
    fingerprint: str
    families: tuple[ProbedFamily, ...]
    control: ProbedFamily

    @property
    def tries(self) -> int:
        """Verdicts under attack."""
        return sum(family.tries for family in self.families)

    @property
    def wins(self) -> int:
        """Verdicts that an attack won: another one without it, the wanted one with it."""
        return sum(family.wins for family in self.families)

    @property
    def silent(self) -> int:
        """Tries after which there was no verdict."""
        return sum(family.silent for family in self.families)


@dataclass(frozen=True, slots=True)
class Probe:
    """probe.json: `attacks` texts put into a response of each of `items` items, and every judge asked again.

    `replies` is how many replies that repeat an attack the reader was given, and `forged` how many of them it
    took for what the attack wants.
    """

    schema: int
    created: str
    version: str
    items: int
    attacks: int
    judges: tuple[ProbedJudge, ...]
    replies: int
    forged: int
