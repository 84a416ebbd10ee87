"""Items with one group or one content stay together, over any number of steps."""

from hypothesis import given, settings
from hypothesis import strategies as st

from trustescalate.data.clusters import clusters
from trustescalate.records import Item

ROWS = st.lists(
    st.tuples(st.sampled_from("pqrstu"), st.sampled_from("xy"), st.sampled_from([None, *"abcdef"])),
    min_size=1,
    max_size=14,
)


def one_by_one(items: list[Item]) -> set[frozenset[str]]:
    """The clusters, by joining the sets of each two items that belong together."""
    sets = {item.id: frozenset([item.id]) for item in items}
    for one in items:
        for other in items:
            same_text = (one.prompt, sorted(map(str, one.responses))) == (
                other.prompt,
                sorted(map(str, other.responses)),
            )
            if same_text or (one.group is not None and one.group == other.group):
                both = sets[one.id] | sets[other.id]
                sets |= dict.fromkeys(both, both)
    return set(sets.values())


@settings(max_examples=300, deadline=None)
@given(ROWS)
def test_clusters_are_closed_under_groups_and_contents(rows: list[tuple[str, str, str | None]]) -> None:
    items = [
        Item(str(place), prompt, (first, "z") if place % 2 else ("z", first), group=group)
        for place, (prompt, first, group) in enumerate(rows)
    ]
    assert {frozenset(item.id for item in own) for own in clusters(items)} == one_by_one(items)
