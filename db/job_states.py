"""The states of a job, and which can follow which."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class State(StrEnum):
    """Where a job is."""

    QUEUED = "queued"
    """Waits for its time, for the jobs it comes after, or for a worker."""
    RUNNING = "running"
    """Held by an owner until the lease ends."""
    SUCCEEDED = "succeeded"
    """Its effect is committed."""
    FAILED = "failed"
    """A permanent error; a person or changed inputs must act."""
    DEAD = "dead"
    """Its attempts are used up; a person must look."""
    CANCELLED = "cancelled"
    """A person asked for it."""


TRANSITIONS: Mapping[State | None, frozenset[State]] = {
    None: frozenset({State.QUEUED}),
    State.QUEUED: frozenset({State.RUNNING, State.CANCELLED}),
    State.RUNNING: frozenset({State.RUNNING, State.QUEUED, State.SUCCEEDED, State.FAILED, State.DEAD, State.CANCELLED}),
    State.SUCCEEDED: frozenset(),
    State.FAILED: frozenset({State.QUEUED, State.CANCELLED}),
    State.DEAD: frozenset({State.QUEUED, State.CANCELLED}),
    State.CANCELLED: frozenset({State.QUEUED}),
}
"""From each state, the states that can follow. ``running -> running`` is a claim over a lease that ran out."""
