"""Answers to a queue."""

from pathlib import Path

from trustescalate.data.annotation.answers import Answer, AnswerFile
from trustescalate.data.annotation.queue import open_queue
from trustescalate.project import Project


def answer_all(config: Path) -> int:
    queue = open_queue(Project.open(config).config)
    with AnswerFile(queue.folder) as file:
        for row in queue.asked:
            file.add(Answer(queue.header.id, row.item_id, "ann", "first", 2.0))
    return len(queue.asked)
