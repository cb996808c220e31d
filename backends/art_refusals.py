"""Why a training with ART's service is not asked for, or is given up, and what a person can do about it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from rl.errors import InvalidInput, Later, PermanentError
from rl.protocol import Remote
from rl.remote import Artifact


def of_step(parent: Artifact, newest: int, newer: Mapping[int, str]) -> InvalidInput:
    """The version to go on from is not the newest step. ``newer`` are steps that are versions too."""
    if newest < parent.step:
        then = "the version's own was deleted there: deploy the version of that step, or have `rlfleet adopt` make it"
    else:
        ours = "it is no version of this line: `rlfleet adopt` makes it one, or delete the newer steps with W&B"
        then = newer.get(newest, ours)
    words = f"its newest step is {newest}, and the service goes on from that alone; {then}"
    return InvalidInput("parent", parent.uri, words)


def of_other(job: int, other_job: int, other: Remote, *, is_late: bool) -> Later | PermanentError:
    """Another job of the line, ``other_job``, asked for a training, and its end is not known."""
    if other.training is None:
        what = f"job {other_job} asked for a training, and nobody knows whether the service has it"
    else:
        what = f"training {other.training} of job {other_job} has not ended with the service"
    if not is_late:
        return Later(f"{what}; this one is asked for once no step can come of that")
    if other.training is None or other.end is not None:
        how = (
            f"look with W&B whether a step newer than {other.newest} is still to come; if none is,"
            f" `rlfleet jobs requeue {other_job}` submits it anew, and `rlfleet jobs cancel {other_job}` right after"
            " forgets it"
        )
    else:
        how = f"`rlfleet jobs requeue {other_job}` looks after it further"
    return PermanentError(f"{what}, and its time is over: {how}; then `rlfleet jobs requeue {job}`")


def of_several(parent: Artifact, remote: Remote, newest: int, job: int) -> PermanentError:
    """More steps came than one training leaves."""
    words = f"{_name(remote)} left one step, and {parent.model} has gone from step {remote.newest} to {newest} since"
    remedy = (
        "somebody else trains it, and which step is this training's nobody knows: `rlfleet adopt` takes over the newest"
        f" one, or delete those after step {remote.newest} with W&B and `rlfleet jobs requeue {job}`"
    )
    return PermanentError(f"{words}; {remedy}")


def of_deadline(parent: Artifact, remote: Remote, seconds: float, trouble: str, job: int) -> PermanentError:
    """It was looked, and no step came of it in time."""
    last = f"; the last trouble was: {trouble}" if trouble else ""
    look = (
        f"look at the checkpoints of {parent.model} with W&B: if there is one newer than step {remote.newest},"
        f" `rlfleet adopt` takes it over; else `rlfleet jobs requeue {job}` submits the training anew{last}"
    )
    if remote.training is None:
        what = "it is unknown whether ART's service has the training that was asked for: no checkpoint came within"
        return PermanentError(f"{what} {seconds:g} s; {look}")
    return PermanentError(f"{_name(remote)} did not leave a checkpoint within {seconds:g} s; {look}")


def of_silence(remote: Remote, trouble: str, job: int) -> PermanentError:
    """Its time is over, and the service could not be asked what became of it."""
    words = f"its time is over, and it cannot be asked after ({trouble})"
    return PermanentError(f"{_name(remote)}: {words}; {_asked_again(remote, job)}")


def of_key(remote: Remote, trouble: str, job: int) -> PermanentError:
    """The service does not let us ask what became of it. ``trouble`` says why, and what to do."""
    return PermanentError(f"{_name(remote)}: {trouble}; then {_asked_again(remote, job)}")


def of_unknown(remote: Remote, job: int) -> PermanentError:
    """The service does not know the training, nor has it a step of it."""
    words = f"the service does not know it any more, and has no step after {remote.newest}"
    remedy = f"see that WANDB_API_KEY is of the same team; `rlfleet jobs requeue {job}` submits the training anew"
    return PermanentError(f"{_name(remote)}: {words}; {remedy}")


def of_unknown_model(remote: Remote, trouble: str, job: int) -> PermanentError:
    """The service knows neither the training nor its model, so it may not be the one that was asked."""
    words = f"the service knows neither it nor its model {remote.model} ({trouble})"
    remedy = "see that ART_BASE_URL is right and WANDB_API_KEY of the same team"
    gone = f"if the model was deleted there, `rlfleet jobs requeue {job} --anew` forgets the training"
    return PermanentError(f"{_name(remote)}: {words}; {remedy}; then {_asked_again(remote, job)}; {gone}")


def of_unseen(other: Remote, job: int, deadline: float) -> Later:
    """Another training's end is known, and the step that it may have left is not to be seen yet."""
    until = datetime.fromtimestamp(other.asked_at + deadline, UTC)
    words = f"training {other.training} of job {job} has ended with the service, and its step is not to be seen yet"
    return Later(f"{words}; until {until:%Y-%m-%d %H:%M} UTC it is waited for")


def _asked_again(remote: Remote, job: int) -> str:
    if remote.training is not None:
        return f"`rlfleet jobs requeue {job}` asks again, and submits nothing anew"
    return (
        f"look with W&B for a checkpoint newer than step {remote.newest}; if there is none,"
        f" `rlfleet jobs requeue {job}` submits the training anew, else `rlfleet adopt` takes it over"
    )


def _name(remote: Remote) -> str:
    return f"training {remote.training} of ART's service" if remote.training else "a training that was asked for"
