"""The small client that agents embed: it needs httpx and nothing else of this project. See ``docs/recorder.md``."""

from recorder.client import Recorder
from recorder.counts import Stats
from recorder.trajectory import Trajectory, Turn

__all__ = ["Recorder", "Stats", "Trajectory", "Turn"]
