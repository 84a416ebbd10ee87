"""Generate and solve simulated questions with checkable answers.

A simulated judge knows an answer only by matching the question with its template, so it knows nothing about
other texts. This module plants no faults and makes no labels.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache, lru_cache
from random import Random
from typing import TypeVar

T = TypeVar("T")
LONGEST = 400
"""Longest question of a template; longer texts are not matched."""


@dataclass(frozen=True, slots=True)
class Solution:
    """The right answer, the steps to it, the sentence that states it, and answers that look right."""

    value: str
    unit: str
    steps: str
    close: str
    lures: tuple[str, ...]

    @property
    def answer(self) -> str:
        """The value with its unit."""
        return f"{self.value} {self.unit}".strip()


@dataclass(frozen=True, slots=True)
class Template:
    """A question with slots, what may stand in them, and how to solve it."""

    family: str
    text: str
    pools: Mapping[str, Sequence[str | int]]
    solve: Callable[..., Solution]


def pick(rng: Random, pool: Sequence[T]) -> T:
    """One entry of the pool. Only `Random.random` is used: Python keeps its sequence the same for ever."""
    return pool[int(rng.random() * len(pool))]


def ask(template: Template, rng: Random) -> str:
    """A question from the template, its slots filled at random."""
    return template.text.format(**{slot: pick(rng, pool) for slot, pool in template.pools.items()})


@lru_cache(maxsize=4096)
def solve(question: str) -> Solution | None:
    """The solution of a question that one of the templates asks, or None.

    >>> solve("What is the capital of Australia?").answer
    'Canberra'
    >>> solve("A baker bakes 5 trays of 12 rolls and sells 20 of them. How many are left?").answer
    '40 rolls'
    >>> solve("Why is the sky blue?") is None
    True
    """
    if len(question) > LONGEST:
        return None
    for template in TEMPLATES:
        match = _pattern(template.text).match(question)
        if match and (slots := _slots(template, match.groupdict())):
            return template.solve(**slots)
    return None


def _slots(template: Template, texts: Mapping[str, str]) -> dict[str, str | int] | None:
    known = {slot: {str(entry): entry for entry in pool} for slot, pool in template.pools.items()}
    if any(text not in known[slot] for slot, text in texts.items()):
        return None
    return {slot: known[slot][text] for slot, text in texts.items()}


@cache
def _pattern(text: str) -> re.Pattern[str]:
    seen: set[str] = set()

    def group(match: re.Match[str]) -> str:
        again = match[1] in seen
        seen.add(match[1])
        return f"(?P={match[1]})" if again else f"(?P<{match[1]}>.+?)"

    return re.compile(re.sub(r"\\\{(\w+)\\\}", group, re.escape(text)))


# ── what the questions are about ───────────────────────────────────────────────────────────────────

NAMES = ("Maya", "Tom", "Aisha", "Luca", "Nora", "Ben", "Ines", "Omar", "Hana", "Pavel")
MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
CAPITALS = {
    "Australia": ("Canberra", "Sydney"), "Canada": ("Ottawa", "Toronto"),
    "Brazil": ("Brasília", "Rio de Janeiro"), "Türkiye": ("Ankara", "Istanbul"),
    "Switzerland": ("Bern", "Zurich"), "Morocco": ("Rabat", "Casablanca"),
    "New Zealand": ("Wellington", "Auckland"), "Vietnam": ("Hanoi", "Ho Chi Minh City"),
    "Kenya": ("Nairobi", "Mombasa"), "Pakistan": ("Islamabad", "Karachi"),
    "Nigeria": ("Abuja", "Lagos"), "India": ("New Delhi", "Mumbai"),
    "Ecuador": ("Quito", "Guayaquil"), "Kazakhstan": ("Astana", "Almaty"),
    "Poland": ("Warsaw", "Kraków"), "Scotland": ("Edinburgh", "Glasgow"),
    "China": ("Beijing", "Shanghai"), "Italy": ("Rome", "Milan"),
    "Spain": ("Madrid", "Barcelona"), "Germany": ("Berlin", "Munich"),
}  # fmt: skip
ELEMENTS = {
    "sodium": ("Na", "So"), "potassium": ("K", "P"), "iron": ("Fe", "Ir"), "gold": ("Au", "Go"),
    "silver": ("Ag", "Si"), "lead": ("Pb", "Le"), "tin": ("Sn", "Ti"), "copper": ("Cu", "Co"),
    "tungsten": ("W", "Tu"), "mercury": ("Hg", "Me"), "helium": ("He", "Hl"), "zinc": ("Zn", "Zi"),
}  # fmt: skip
WORDS = (
    "banana", "committee", "mississippi", "balloon", "successful", "rhythm", "bookkeeper", "parallel",
    "strawberry", "accommodation", "necessary", "orchestra", "tomorrow", "umbrella", "coffee", "assessment",
)  # fmt: skip
FRUITS = ("plum", "fig", "pear", "quince", "apple", "mango", "lemon", "cherry", "grape", "kiwi")
PLACES = ("first", "second", "third", "fourth", "fifth", "sixth")
CITIES = ("Lisbon", "Oslo", "Vienna", "Dublin", "Prague", "Turin", "Ghent", "Lyon", "Porto", "Zagreb")


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _near(value: float, *others: float) -> tuple[str, ...]:
    """Slips that people make: the given ones, a tenth too many, a tenth too few."""
    step = max(2, round(abs(value) * 0.1))
    return tuple(_number(other) for other in (*others, value + step, value - step) if other != value)


# ── arithmetic ─────────────────────────────────────────────────────────────────────────────────────


def _trays(trays: int, each: int, sold: int) -> Solution:
    total, left = trays * each, trays * each - sold
    steps = f"{trays} trays of {each} rolls make {total} rolls, and {sold} of them are sold."
    return Solution(str(left), "rolls", steps, "That leaves {answer}.", _near(left, total))


def _savings(name: str, start: int, weekly: int, weeks: int) -> Solution:
    saved, total = weekly * weeks, start + weekly * weeks
    steps = f"{weeks} weeks at {weekly} euros a week add {saved} euros to the {start} euros at the start."
    return Solution(str(total), "euros", steps, f"Then {name} has {{answer}}.", _near(total, saved))


def _seats(rows: int, seats: int, empty: int) -> Solution:
    hall, taken = rows * seats, rows * seats - empty
    steps = f"The hall has {rows} × {seats} = {hall} seats, and {empty} of them stay empty."
    return Solution(str(taken), "people", steps, "That makes {answer} in the audience.", _near(taken, hall))


def _discount(price: int, off: int) -> Solution:
    cut = price * off / 100
    steps = f"{off} % of {price} euros is {_number(cut)} euros, which comes off the price."
    return Solution(
        _number(price - cut), "euros", steps, "The coat costs {answer} in the sale.",
        _near(price - cut, price - off, cut),
    )  # fmt: skip


def _average(a: int, b: int, c: int) -> Solution:
    total = a + b + c
    steps = f"The three scores add up to {total}, and a third of that is the average."
    return Solution(
        _number(total / 3), "points", steps, "The average is {answer}.", _near(total / 3, total / 2)
    )


def _share(name: str, bill: int, people: int) -> Solution:
    steps = f"{name} and the others split {bill} euros evenly between {people} people."
    return Solution(
        _number(bill / people), "euros", steps, "Each of them pays {answer}.",
        _near(bill / people, bill / (people - 1)),
    )  # fmt: skip


# ── units ──────────────────────────────────────────────────────────────────────────────────────────


def _trip(speed: int, hours: int) -> Solution:
    steps = f"At {speed} km an hour, {hours} hours of driving cover {speed} × {hours} km."
    return Solution(
        str(speed * hours), "km", steps, "The car covers {answer}.", _near(speed * hours, speed + hours)
    )


def _metres(km: int) -> Solution:
    steps = "A tenth of a kilometre is 100 metres."
    return Solution(
        str(km * 100), "metres", steps, "The track measures {answer}.", _near(km * 100, km * 10, km * 1000)
    )


def _minutes(hours: int, minutes: int) -> Solution:
    total = hours * 60 + minutes
    steps = f"Each hour has 60 minutes, so {hours} hours are {hours * 60} minutes, plus the extra {minutes}."
    return Solution(
        str(total), "minutes", steps, "The film lasts {answer}.", _near(total, hours * 100 + minutes)
    )


def _celsius(fahrenheit: int) -> Solution:
    value = (fahrenheit - 32) * 5 / 9
    steps = f"Take 32 from {fahrenheit}, then multiply by 5 and divide by 9."
    return Solution(
        _number(round(value)), "°C", steps, "That is about {answer}.", _near(round(value), fahrenheit - 32)
    )


def _grams(cups: int, grams: int) -> Solution:
    steps = f"One cup weighs {grams} grams, so multiply by {cups}."
    return Solution(
        str(cups * grams), "grams", steps, "You need {answer} of flour.", _near(cups * grams, cups + grams)
    )


# ── calendar ───────────────────────────────────────────────────────────────────────────────────────


def _weekday_after(day: str, days: int) -> Solution:
    at = WEEKDAYS.index(day) + days
    steps = f"{days} days are {days // 7} full weeks and {days % 7} more days, counted on from {day}."
    lures = (WEEKDAYS[(at + 1) % 7], WEEKDAYS[(at - 1) % 7])
    return Solution(WEEKDAYS[at % 7], "", steps, "It will be a {answer}.", lures)


def _date_after(start: int, month: str, days: int) -> Solution:
    end = date(2025, MONTHS.index(month) + 1, start) + timedelta(days)
    near = [end + timedelta(shift) for shift in (1, -1)]
    value, *lures = (f"{day.day} {MONTHS[day.month - 1]}" for day in (end, *near))
    steps = f"Count {days} days on from {start} {month} and mind the length of the month."
    return Solution(value, "", steps, "The parcel is due on {answer}.", tuple(lures))


def _nights(first: int, last: int, month: str) -> Solution:
    steps = f"Count the nights from {first} {month} up to {last} {month}; the last day adds none."
    return Solution(
        str(last - first), "nights", steps, "The stay lasts {answer}.", _near(last - first, last - first + 1)
    )


def _age(name: str, born: int, year: int) -> Solution:
    steps = f"From {born} to {year} there are {year - born} birthdays."
    return Solution(str(year - born), "", steps, f"That year {name} turns {{answer}}.", _near(year - born))


# ── texts and lists ────────────────────────────────────────────────────────────────────────────────


def _letters(word: str) -> Solution:
    count = sum(letter not in "aeiou" for letter in word)
    steps = f"Spell out {'-'.join(word)} and leave out a, e, i, o and u."
    return Solution(str(count), "consonants", steps, "The word has {answer}.", _near(count, len(word)))


def _backwards(word: str) -> Solution:
    back = word[::-1]
    steps = f"Read {word} from its last letter, {word[-1]}, to its first, {word[0]}."
    return Solution(
        back, "", steps, "Backwards it is {answer}.", (back[1:] + back[0], back[:-2] + back[:-3:-1])
    )


def _sorted_list(a: str, b: str, c: str, d: str) -> Solution:
    names = sorted({a, b, c, d})
    swapped = [names[1], names[0], *names[2:]] if len(names) > 1 else names
    return Solution(
        ", ".join(names), "", "Compare the first letters, and the next ones where they are equal.",
        "The right order is {answer}.", (", ".join(swapped), ", ".join([*names[:-2], *reversed(names[-2:])])),
    )  # fmt: skip


def _second(a: int, b: int, c: int, d: int) -> Solution:
    low, second, *rest = sorted((a, b, c, d))
    steps = f"The smallest number is {low}; look for the next one above it."
    return Solution(
        str(second), "", steps, "The second smallest is {answer}.", tuple(str(other) for other in rest)
    )


# ── logic and facts ────────────────────────────────────────────────────────────────────────────────


def _tallest(first: str, second: str, third: str) -> Solution:
    steps = f"{first} is above {second}, and {second} is above {third}."
    return Solution(third, "", steps, "The shortest of the three is {answer}.", (first, second))


def _syllogism(thing: str) -> Solution:
    steps = f"That every {thing} is blue does not make every blue thing a {thing}."
    return Solution("no", "", steps, "The answer is {answer}.", ("yes",))


def _race(overtaken: int) -> Solution:
    better, right, worse = PLACES[overtaken - 2 : overtaken + 1]
    steps = "Whoever overtakes a runner takes over the place of that runner."
    return Solution(right, "", steps, "You are now {answer}.", (better, worse))


def _capital(country: str) -> Solution:
    right, lure = CAPITALS[country]
    steps = f"{lure} is another large city there, but the government sits elsewhere."
    return Solution(right, "", steps, f"The capital of {country} is {{answer}}.", (lure,))


def _element(element: str) -> Solution:
    right, lure = ELEMENTS[element]
    steps = "Many symbols come from an older name of the element, so go by the table and not by the sound."
    return Solution(right, "", steps, f"The symbol for {element} is {{answer}}.", (lure,))


TEMPLATES: tuple[Template, ...] = (
    Template(
        "arithmetic",
        "A baker bakes {trays} trays of {each} rolls and sells {sold} of them. How many are left?",
        {"trays": range(4, 15), "each": range(11, 25), "sold": range(13, 43)}, _trays,
    ),
    Template(
        "arithmetic",
        "{name} has {start} euros and saves {weekly} euros a week. How much is that after {weeks} weeks?",
        {"name": NAMES, "start": range(10, 90), "weekly": range(5, 20), "weeks": range(4, 13)}, _savings,
    ),
    Template(
        "arithmetic",
        "A theatre has {rows} rows of {seats} seats. Tonight {empty} seats stay empty. How many people came?",
        {"rows": range(9, 25), "seats": range(12, 31), "empty": range(7, 60)}, _seats,
    ),
    Template(
        "arithmetic", "A coat costs {price} euros. In the sale it is {off} % cheaper. What does it cost now?",
        {"price": range(60, 260, 5), "off": (10, 15, 20, 25, 30, 40)}, _discount,
    ),
    Template(
        "arithmetic", "In three tests a student scores {a}, {b} and {c} points. What is the average?",
        {"a": range(50, 100, 3), "b": range(51, 100, 3), "c": range(52, 101, 3)}, _average,
    ),
    Template(
        "arithmetic",
        "{name} and friends share a restaurant bill of {bill} euros. There are {people} of them in all. "
        "What does each one pay?",
        {"name": NAMES, "bill": range(48, 240, 4), "people": (4, 5, 8)}, _share,
    ),
    Template(
        "units", "A car drives at a steady {speed} km an hour. How far does it get in {hours} hours?",
        {"speed": range(45, 125, 5), "hours": range(2, 10)}, _trip,
    ),
    Template("units", "A running track is {km} tenths of a kilometre long. How many metres is that?",
             {"km": range(3, 60)}, _metres),
    Template("units", "A film lasts {hours} hours and {minutes} minutes. How many minutes is that in total?",
             {"hours": (2, 3, 4), "minutes": range(3, 58)}, _minutes),
    Template("units", "It is {fahrenheit} °F outside. What is that in degrees Celsius, rounded?",
             {"fahrenheit": range(20, 105)}, _celsius),
    Template(
        "units", "A recipe asks for {cups} cups of flour, and a cup of flour weighs {grams} grams. "
        "How much flour is that?",
        {"cups": range(2, 9), "grams": range(115, 136)}, _grams,
    ),
    Template("calendar", "Today is {day}. Which day of the week will it be in {days} days?",
             {"day": WEEKDAYS, "days": range(10, 100)}, _weekday_after),
    Template(
        "calendar", "A parcel was sent on {start} {month} and takes {days} days. On which date is it due?",
        {"start": range(12, 29), "month": MONTHS, "days": range(5, 24)}, _date_after,
    ),
    Template(
        "calendar",
        "A guest arrives on {first} {month} and leaves on {last} {month}. How many nights is the stay?",
        {"first": range(4, 15), "last": range(16, 21), "month": MONTHS}, _nights,
    ),
    Template("calendar", "{name} was born in {born}. How old will {name} turn in {year}?",
             {"name": NAMES, "born": range(1948, 2012), "year": range(2026, 2041)}, _age),
    Template("texts", "How many consonants does the word “{word}” have?", {"word": WORDS}, _letters),
    Template("texts", "Please spell the word “{word}” backwards.", {"word": WORDS}, _backwards),
    Template("texts", "Put these in alphabetical order: {a}, {b}, {c}, {d}.",
             {"a": FRUITS[:4], "b": FRUITS[4:6], "c": FRUITS[6:8], "d": FRUITS[8:]}, _sorted_list),
    Template("texts", "Please sort these cities by name: {a}, {b}, {c}, {d}.",
             {"a": CITIES[:4], "b": CITIES[4:6], "c": CITIES[6:8], "d": CITIES[8:]}, _sorted_list),
    Template(
        "texts", "Which is the second smallest of the numbers {a}, {b}, {c} and {d}?",
        {slot: range(first, 99, 4) for slot, first in zip("abcd", range(21, 25), strict=True)}, _second,
    ),
    Template(
        "logic", "{first} is taller than {second}, and {second} is taller than {third}. "
        "Who is the shortest of the three?",
        {"first": NAMES[:3], "second": NAMES[3:6], "third": NAMES[6:]}, _tallest,
    ),
    Template(
        "logic", "Suppose every {thing} in a shop is blue. I saw something blue there. "
        "Must it have been a {thing}?",
        {"thing": ("lamp", "chair", "kettle", "bicycle", "notebook", "scarf")}, _syllogism,
    ),
    Template("logic", "In a race you overtake the runner in place {overtaken}. What place are you in now?",
             {"overtaken": (2, 3, 4, 5)}, _race),
    Template("facts", "What is the capital of {country}?", {"country": tuple(CAPITALS)}, _capital),
    Template("facts", "What is the chemical symbol for {element}?", {"element": tuple(ELEMENTS)}, _element),
)  # fmt: skip
