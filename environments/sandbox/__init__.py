"""A place to run programs that a model wrote: what they may do is settled here, and what came of it is told."""

from __future__ import annotations

from environments.sandbox.records import Level, Limits, Ran
from environments.sandbox.running import level, level_name, run, run_each

__all__ = ["Level", "Limits", "Ran", "level", "level_name", "run", "run_each"]
