"""Hooks of lines, as users write them. Each is given a trajectory or a part of one."""

from __future__ import annotations

import threading

from rl.records import Call, Message, Trajectory

SECRET = "hunter2"
NOT_A_FUNCTION = 3


def mask(given: Trajectory) -> Trajectory:
    """Stars for the secret in what models said, in states and in metadata."""
    return Trajectory.model_validate_json(given.model_dump_json().replace(SECRET, "*******"))


def in_place(given: Trajectory) -> Trajectory:
    """Changes what it was given instead of making another."""
    for call in given.calls:
        call.messages[:] = [Message(role="user", content="masked")]
    given.metadata["masked"] = True
    return given


def refuse(given: Trajectory) -> Trajectory | None:
    """Nothing of what holds the secret."""
    return None if SECRET in given.model_dump_json() else given


def fail(given: Trajectory) -> Trajectory:
    """Quotes what it was given in its error."""
    raise ValueError(given.model_dump_json())


def wrong_type(given: Trajectory) -> str:
    return given.trajectory_id


def other_id(given: Trajectory) -> Trajectory:
    return given.model_copy(update={"scenario_id": "another"})


def without_calls(given: Trajectory) -> Trajectory:
    return given.model_copy(update={"calls": []})


def not_finite(given: Trajectory) -> Trajectory:
    return given.model_copy(update={"reward": float("nan")})


def with_nul(given: Trajectory) -> Trajectory:
    return given.model_copy(update={"metadata": {"a": "\0"}})


def mail(given: Trajectory) -> Trajectory:
    """Brings in what the rules look for."""
    return given.model_copy(update={"metadata": {"by": "bob@x.io"}})


def sees(given: Trajectory) -> Trajectory:
    """Writes down what it was given."""
    shown: list[Call] = given.calls
    return given.model_copy(update={"metadata": {"seen": [one.response.content for one in shown]}})


LET_GO, ENTERED = threading.Event(), threading.Semaphore(0)


def hang(given: Trajectory) -> Trajectory:
    """Waits until it is let go."""
    ENTERED.release()
    LET_GO.wait()
    return given
