"""List the batches in progress of a project, and ask their providers how far they are.

Reads the tickets of `run --batch` and `calibrate --batch` beside the cache; sends no request to a model, and
changes nothing, so it may run beside the command that waits.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from trustescalate.cascade.batch_requests import batch_client
from trustescalate.cascade.panel import BATCHES
from trustescalate.config import ChatTable, Config
from trustescalate.errors import TrustEscalateError
from trustescalate.judges.batch_files import BatchFolder, Ticket
from trustescalate.judges.registry import endpoint_of
from trustescalate.records.progress import Hooks
from trustescalate.report.terminal import table_lines
from trustescalate.report.text import one_line

UNSENT = "not sent yet"
UNKNOWN = "of a judge that is not in this configuration"


@dataclass(frozen=True, slots=True)
class BatchRow:
    """One batch: its requests, and how many of them are answered and failed so far.

    `state` is the provider's word for it, or why there is none; the counts are then None.
    """

    judge: str
    batch: str
    requests: int
    begun: str
    state: str
    answered: int | None = None
    failed: int | None = None


@dataclass(frozen=True, slots=True)
class Batches:
    """The batches in progress of a project."""

    rows: tuple[BatchRow, ...]

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return {"batches": [asdict(row) for row in self.rows]}

    def lines(self) -> list[str]:
        """For a terminal."""
        if not self.rows:
            return ["no batch is in progress"]
        head = ("judge", "batch", "begun (UTC)", "state", "requests", "answered", "failed")
        rows = [
            (
                one_line(row.judge),
                one_line(row.batch),
                row.begun,
                one_line(row.state),
                f"{row.requests:,}",
                "—" if row.answered is None else f"{row.answered:,}",
                "—" if row.failed is None else f"{row.failed:,}",
            )
            for row in self.rows
        ]
        return table_lines(head, rows, "<<<<>>>")


async def batches_in_progress(config: Config, hooks: Hooks) -> Batches:
    """Ask the provider of each batch in progress for its state, the oldest batch first."""
    tickets = sorted(BatchFolder(config.folder / BATCHES).tickets(), key=lambda ticket: ticket.begun)
    if any(ticket.batch_id is not None for ticket in tickets):
        hooks.before_asking()
    tables = {
        (table.name, endpoint_of(table)): table
        for table in config.judges
        if isinstance(table, ChatTable) and table.has_batches
    }
    rows: dict[str, BatchRow] = {}
    for key in dict.fromkeys((ticket.judge, ticket.endpoint) for ticket in tickets):
        own = [ticket for ticket in tickets if (ticket.judge, ticket.endpoint) == key]
        table = tables.get(key)
        if table is None:
            rows |= {ticket.name: _row(ticket, UNKNOWN) for ticket in own}
        else:
            rows |= await _asked(config, table, own)
    return Batches(tuple(rows[ticket.name] for ticket in tickets))


async def _asked(config: Config, table: ChatTable, tickets: Sequence[Ticket]) -> dict[str, BatchRow]:
    """What the provider of a judge says of its batches."""
    try:
        client = batch_client(table, endpoint_of(table), config.folder / BATCHES)
    except TrustEscalateError as error:
        return {ticket.name: _row(ticket, error.message) for ticket in tickets}

    async def row(ticket: Ticket) -> BatchRow:
        if ticket.batch_id is None:
            return _row(ticket, UNSENT)
        try:
            state = await client.state(ticket)
        except TrustEscalateError as error:
            return _row(ticket, error.message)
        return _row(ticket, state.status, state.done, state.failed)

    try:
        states = await asyncio.gather(*map(row, tickets))
    finally:
        await client.close()
    return {ticket.name: each for ticket, each in zip(tickets, states, strict=True)}


def _row(ticket: Ticket, state: str, answered: int | None = None, failed: int | None = None) -> BatchRow:
    begun = datetime.fromtimestamp(ticket.begun, UTC).strftime("%Y-%m-%d %H:%M:%S") if ticket.begun else ""
    return BatchRow(
        ticket.judge, ticket.batch_id or ticket.name, ticket.requests, begun, state, answered, failed
    )
