"""Draw disjoint roles for labelled items: exemplars, dev, certify, holdout."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from math import ceil
from typing import Literal, get_args

from trustescalate.config import Config, RolesTable
from trustescalate.data.clusters import clusters, content_digest
from trustescalate.errors import DataError
from trustescalate.records import Item
from trustescalate.records.bounded import read_whole
from trustescalate.records.jsonl import digest

Role = Literal["exemplars", "dev", "certify", "holdout"]


def assign_roles(items: Sequence[Item], roles: RolesTable, exemplars: int) -> Mapping[str, Role]:
    """Give each labelled item one role, whole clusters at a time, by a seeded hash of content.

    Labels are not used, so certification rows stay a random sample. `exemplars` is the number of rows
    for few-shot prompts; `[roles] exemplars` overrides it.
    """
    order = sorted(
        clusters(items), key=lambda rows: digest(roles.seed, min(content_digest(item) for item in rows))
    )
    wanted = exemplars if roles.exemplars is None else roles.exemplars
    room: dict[Role, int] = {
        "exemplars": wanted,
        "dev": ceil(roles.dev * len(items)),
        "holdout": ceil(roles.holdout * len(items)),
    }
    given: dict[str, Role] = {}
    for rows in order:
        role: Role = next((role for role, left in room.items() if left > 0), "certify")
        if role != "certify":
            room[role] -= len(rows)
        given.update(dict.fromkeys((item.id for item in rows), role))
    return given


def read_roles(config: Config, items: Sequence[Item]) -> Mapping[str, Role] | None:
    """The roles that [roles] file gives to labelled items; None if no file is named.

    Raises DataError unless every item has exactly one role, and every cluster is in one role as a whole.
    """
    if config.roles.file is None:
        return None
    path = config.path(config.roles.file)
    hint = "remove the file, and `trustescalate check --write-roles` writes a new one"
    try:
        named = json.loads(read_whole(path))
        rows = [(item_id, role) for role in get_args(Role) for item_id in named.pop(role)]
        if named or not all(isinstance(item_id, str) for item_id, _ in rows):
            raise ValueError
    except OSError as error:
        raise DataError(
            [f"{path}: cannot be read: {error.strerror}"], "`trustescalate check --write-roles` writes it"
        ) from None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        why = f"{path}: must hold a list of ids under each of {', '.join(get_args(Role))}, and no more"
        raise DataError([why], hint) from None
    given = dict(rows)
    twice = [item_id for item_id, count in Counter(item_id for item_id, _ in rows).items() if count > 1]
    problems = [f"{path}: item {item_id!r} has more than one role" for item_id in twice]
    problems += [f"{path}: item {item.id!r} has no role" for item in items if item.id not in given]
    problems = problems or [
        f"{path}: items {', '.join(repr(item.id) for item in rows[:4])} are clustered, in different roles"
        for rows in clusters(items)
        if len({given[item.id] for item in rows}) > 1
    ]
    if problems:
        raise DataError(problems, hint)
    return given
