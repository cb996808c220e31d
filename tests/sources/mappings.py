"""Mapping files of tables, as text."""

from __future__ import annotations

RUNS = """
variable = "LOGS_URL"
relation = "logs.Runs"
model = "gpt-4o-mini"

[columns]
trajectory = "runId"
agent = "who"
scenario = "task"
started = "began"
ended = "done"
reward = "score"
messages = "talk"
archetype = "kind"
consent = "may learn"
evaluation = "test"
"""
"""One row a trajectory."""
