"""Record the results of a prompt-injection probe: attack success rates per judge."""

from dataclasses import dataclass

CONTROL = "control"
"""The family of harmless additions, which measure how often a verdict changes by itself."""


@dataclass(frozen=True, slots=True)
class ProbedFamily:
    """One family of attacks on one judge: `tries` verdicts under attack, and the `wins` of the attack.

    `silent` counts tries without any verdict; in a cascade such an item escalates.
    """

    family: str
    tries: int
    wins: int
    silent: int


@dataclass(frozen=True, slots=True)
class ProbedJudge:
    """One judge under attack. `fingerprint` is that of its whole ensemble, as in a certificate.

    `control` holds the effect of harmless additions on the same verdicts; the counts exclude it.
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
        """Successful attacks: another verdict without the attack, the wanted one with it."""
        return sum(family.wins for family in self.families)

    @property
    def silent(self) -> int:
        """Verdicts under attack that are missing."""
        return sum(family.silent for family in self.families)


@dataclass(frozen=True, slots=True)
class Probe:
    """probe.json: every judge's verdicts with each of `attacks` texts added to a response of each of `items`.

    `replies` counts the replies that repeat an attack and were given to the reply parser, and `forged` those
    parsed as the verdict that the attack wants.
    """

    schema: int
    created: str
    version: str
    items: int
    attacks: int
    judges: tuple[ProbedJudge, ...]
    replies: int
    forged: int
