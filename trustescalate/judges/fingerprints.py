"""Keep the inputs of a judge's fingerprint as readable fields, and name those that differ."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from trustescalate.config import Config, DecisionsJudge, JudgeTable, ModelTable, changes, verdict_free_keys
from trustescalate.judges.prompts import Exemplar
from trustescalate.judges.registry import JUDGING, asking, prompt_file
from trustescalate.records.jsonl import digest

Inputs = Mapping[str, str]
LONGEST = 200
"""Characters of a value that is kept as it is; of a longer one its digest is."""
EXAMPLE = "exemplars."
NOT_AN_INPUT = {"name", "prompt", "same_model_as"}


def judge_inputs(config: Config, exemplars: Sequence[Sequence[Exemplar]]) -> Mapping[str, Inputs]:
    """What goes into the fingerprint of each judge, by its name: keys of its table, and digests of texts.

    Files of a model, code of a function and fitted weights are not among them.
    """
    return {table.name: dict(_inputs(config, table, exemplars)) for table in config.judges}


def differences(judge: str, before: Inputs, now: Inputs) -> tuple[str, ...]:
    """What differs between two sets of inputs, in words.

    >>> differences("large", {"max_tokens": "100", "exemplars.q1": "a"}, {"exemplars.q1": "b"})
    ('judges.large.max_tokens: 100 → none', 'exemplars changed: q1')
    """
    keys = [key for key in dict.fromkeys((*before, *now)) if before.get(key) != now.get(key)]
    examples = [key.removeprefix(EXAMPLE) for key in keys if key.startswith(EXAMPLE)]
    keyed = [
        f"prompt file {now['prompt']} changed"
        if key == "wording" and before.get("prompt") == now.get("prompt")
        else f"the {key} of the task changed"
        if key in ("rubric", "criteria")
        else next(changes(before.get(key), now.get(key), f"judges.{judge}.{key}"))
        for key in keys
        if not key.startswith(EXAMPLE)
    ]
    return (*keyed, f"exemplars changed: {', '.join(examples)}") if examples else tuple(keyed)


def _inputs(
    config: Config, table: JudgeTable, exemplars: Sequence[Sequence[Exemplar]]
) -> Iterator[tuple[str, str]]:
    skipped = NOT_AN_INPUT | verdict_free_keys(type(table))
    for key, value in table.model_dump(mode="json", exclude=skipped).items():
        address = getattr(table, "same_model_as", None) if key == "base_url" else None
        if value not in (None, {}, ""):
            yield key, _kept(address or value)
    yield "reader", str(JUDGING)
    ensemble = config.ensemble
    if isinstance(table, DecisionsJudge):
        yield "rubric", _mark(config.rubric())
        yield "criteria", _mark(config.task.criteria)
        yield "swap", _kept(ensemble.swap)
        yield "examples", "none"
    if not isinstance(table, ModelTable):
        return
    how = asking(config, table)
    yield "prompt", prompt_file(config, table) or f"{table.mode}, as shipped"
    yield "wording", _mark(how.wording.system, how.wording.user)
    yield "rubric", _mark(how.rubric)
    yield "criteria", _mark(how.criteria)
    yield "swap", _kept(ensemble.swap)
    yield "samples", _kept(ensemble.samples)
    yield "examples", " + ".join(str(len(shots)) for shots in exemplars)
    shown: dict[str, list[object]] = defaultdict(list)
    for prompt, shots in enumerate(exemplars):
        for place, shot in enumerate(shots):
            shown[shot.item.id].append((prompt, place, shot.label, shot.swapped, shot.item))
    for item_id, places in shown.items():
        yield f"{EXAMPLE}{item_id}", _mark(places)


def _kept(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
    return text if len(text) <= LONGEST else _mark(text)


def _mark(*values: object) -> str:
    return digest(*values)[:12]
