"""The sink ``tensorboard``: event files that TensorBoard shows, without TensorFlow.

TensorBoard reads the files of a folder in the order of their names, and never again what it has read. So steps go into
further files, each named by its first and last step and there as a whole or not at all; their names say how far the
copy has come. Results are few and change: they are in one file beside them, which is replaced.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from backends.sink_files import replaced
from backends.sinks import Copied, Run
from rl.errors import MissingDependency

STEPS: Final = re.compile(r"events\.out\.tfevents\.(\d{10})-(\d{10})\.rlfleet")


class TensorboardSink:
    """Writes ``GROUP/KEY/`` for the steps of a run, and ``GROUP/KEY/results/``, below ``folder``."""

    name = "tensorboard"
    takes_models = False

    def __init__(self, folder: Path, place: str = "") -> None:
        self._folder, self.place = folder, place

    def put(self, run: Run) -> Copied:
        folder = self._folder / run.group / run.key
        (folder / "results").mkdir(parents=True, exist_ok=True)
        last = max((int(found[2]) for path in folder.iterdir() if (found := STEPS.fullmatch(path.name))), default=0)
        fresh = [one for one in run.steps if one.step > last]
        if fresh:
            events = [(one.step, one.at, one.metrics) for one in fresh]
            name = f"events.out.tfevents.{fresh[0].step:010}-{fresh[-1].step:010}.rlfleet"
            _write(folder / name, folder.parent, events)
        results: list[tuple[int, float, Mapping[str, float]]] = [
            (one.step, 0.0, {f"evaluation/{one.scenarios}": one.k / one.n}) for one in run.evaluations if one.n
        ]
        results += [(len(run.steps), one.at, {"released": float(one.released)}) for one in run.decisions]
        if results:
            _write(folder / "results" / "events.out.tfevents.0000000000.rlfleet", folder.parent, results)
        return Copied(run.mark)

    def arrived(self) -> Iterable[Copied]:
        return ()


def _write(path: Path, beside: Path, events: Iterable[tuple[int, float, Mapping[str, float]]]) -> None:
    """Have a file of these events, each a step, a moment in Unix seconds, and values by name; all of it or none.

    While it is written it lies in ``beside``, the folder of all runs of the group, whose next copy finds what was left.
    """
    event_pb2, summary_pb2, RecordWriter = _library()  # noqa: N806 (a class)
    made = io.BytesIO()
    writer = RecordWriter(made)
    writer.write(event_pb2.Event(wall_time=0.0, file_version="brain.Event:2").SerializeToString())
    for step, at, values in events:
        named = sorted(values.items())
        scalars = summary_pb2.Summary(
            value=[summary_pb2.Summary.Value(tag=tag, simple_value=one) for tag, one in named]
        )
        writer.write(event_pb2.Event(wall_time=at, step=step, summary=scalars).SerializeToString())
    with replaced(path, beside) as file:
        file.write(made.getvalue())


def _library() -> tuple[Any, Any, Any]:
    try:
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter
    except ImportError:
        raise MissingDependency("the sink tensorboard needs its package: pip install 'rlfleet[tensorboard]'") from None
    return event_pb2, summary_pb2, RecordWriter
