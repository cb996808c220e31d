"""A model that knows nothing, whose tokenizer is trained on what a log says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.home import write_private

if TYPE_CHECKING:
    from fleet.pipeline.course import Course
    from rl.pipeline import Starter

ROWS = 300
"""So many rows of the log say what its words are."""


def make(course: Course, log: Path, out: Path, shape: Starter, seed: int) -> None:
    """Write the model to the folder ``out``, unless it is there."""
    if out.exists():
        return
    texts = out.with_name("texts.jsonl")
    write_private(texts, "\n".join(json.dumps(text) for text in texts_of(log)))
    words = ["--texts", str(texts), "--out", str(out), "--seed", str(seed)]
    for name, value in shape.model_dump().items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    course.python("gpu.starter", *words)


def texts_of(log: Path) -> Iterator[str]:
    """What was said in the first rows of a log of trajectories; broken rows say nothing."""
    with log.open(encoding="utf-8") as rows:
        for number, row in enumerate(rows):
            if number >= ROWS:
                return
            try:
                calls = json.loads(row)["calls"]
            except ValueError:
                continue
            if calls:
                said = [*calls[-1]["messages"], calls[-1]["response"]]
                yield from (message["content"] for message in said if message.get("content"))
