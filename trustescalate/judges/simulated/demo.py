"""Write the demo folder: simulated items and labels, a data card, and a configuration."""

from collections.abc import Iterable
from pathlib import Path

from trustescalate.judges.simulated.backend import PRICES, Size
from trustescalate.judges.simulated.questions import TEMPLATES
from trustescalate.judges.simulated.world import ANNOTATORS, FAULTS, World, generate
from trustescalate.records import Annotation, Item
from trustescalate.records.jsonl import encode

DEMO_SEED = 5
LABELLED = 320
UNLABELLED = 300
PER_ITEM = 3


def _judge(size: Size) -> str:
    price = "{{ input = {}, output = {} }}".format(*PRICES[size])
    return (
        f'[[judges]]\nname = "simulated-{size}"\nbackend = "simulated"\nmodel = "{size}"\nprice = {price}\n'
    )


DEMO_CONFIG = f"""\
# The demo: simulated texts, simulated people, simulated judges. Nothing here asks a model.
version = 1

[task]
kind = "pairwise"
question = "Which response would a human reader prefer?"
ties = "class"

[data]
items = "items.jsonl"
annotations = "annotations.jsonl"

[guarantee]
alpha = 0.15
delta = 0.10
claim = "population"
prefer = "cost"

[ensemble]
annotators = 5
shots = 4
swap = true

{_judge("XS")}
{_judge("S")}
{_judge("M")}
[gate]
min_agreement = 0.85
min_coverage = 0.6
"""

CARD = """\
# demo (simulated)

Everything in this folder is simulated: the texts, the people, their labels. It shows how the tool works and
says nothing about any real model, product or person.

- **Source**: simulated by `trustescalate.judges.simulated`, seed {seed}. No text was taken from anywhere.
- **Licence**: MIT, the same as the project.
- **Items**: {items} pairs of responses to short questions ({families}).
  Most pairs set a sound response against one with planted faults; some are near ties. There are {questions}
  questions; one that comes twice is one `group`.
- **Labels**: {annotations} by {people} simulated annotators with different tastes, {per_item} for each
  labelled item: {counts}.
- **Split**: the first {labelled} items are labelled, the other {unlabelled} are not; all come from the same
  draw, so the labelled ones stand for the rest.
- **Limits**: the questions come from {templates} templates and the faults from a list of {faults}, so a judge
  finds them more easily than faults in the wild. Simulated people err independently of one another; real ones
  do not.
- **Votes**: `votes/` holds what the simulated judges say of every item, full ensembles, for
  `backend = "replay"`; `python calibration_sets/record_votes.py` records them again.
- **Truth**: the true difference in quality of each pair is known and stands in no file:
  `generate({seed}, {items}).quality`.
- **Regenerate**, byte for byte:

      python -c "from trustescalate.judges.simulated import write_demo; \
write_demo('calibration_sets/demo', {seed})"
"""


def write_demo(folder: str | Path, seed: int = DEMO_SEED) -> None:
    """Write items.jsonl, annotations.jsonl, trustescalate.toml and CARD.md. Equal seeds give equal bytes.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_demo(folder)
    ...     sorted(path.name for path in Path(folder).iterdir())
    ['CARD.md', 'annotations.jsonl', 'items.jsonl', 'trustescalate.toml']
    """
    world = generate(seed, LABELLED + UNLABELLED)
    annotations = world.annotations(LABELLED, PER_ITEM)
    texts = {
        "items.jsonl": _lines(world.items),
        "annotations.jsonl": _lines(annotations),
        "trustescalate.toml": DEMO_CONFIG,
        "CARD.md": _card(world, annotations),
    }
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (Path(folder) / name).write_bytes(text.encode())


def _card(world: World, annotations: tuple[Annotation, ...]) -> str:
    labels = [annotation.label for annotation in annotations]
    return CARD.format(
        seed=world.seed,
        items=len(world.items),
        families=", ".join(sorted({item.meta["family"] for item in world.items})),
        questions=len({item.group for item in world.items}),
        annotations=len(annotations),
        people=len(ANNOTATORS),
        per_item=PER_ITEM,
        counts=", ".join(f"{labels.count(label)} {label}" for label in sorted(set(labels))),
        labelled=LABELLED,
        unlabelled=UNLABELLED,
        templates=len(TEMPLATES),
        faults=len(FAULTS),
    )


def _lines(records: Iterable[Item | Annotation]) -> str:
    return "".join(encode(record).decode() + "\n" for record in records)
