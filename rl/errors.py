"""Every error the project raises on purpose. The type decides what happens to the job.

RlfleetError
├── PermanentError            the job fails at once; a person or changed inputs must act
│   ├── InvalidInput          names the field, the value and the remedy
│   │   ├── MalformedWindow   the text is not a window id
│   │   ├── UnknownWindow     no such window on that line
│   │   ├── UnknownVersion    no such version
│   │   ├── NotEvaluated      a version without verdicts, which nobody said may go out so
│   │   ├── NothingStable     a line without a stable version that a canary could be compared with
│   │   ├── BadMessage        a Celery message whose arguments no task takes
│   │   ├── ContextExceeded   a conversation is longer than the engine's context
│   │   ├── NoScenario        one scenario cannot be made; the others may be played
│   │   ├── InvalidRow        one row of a source; quarantined and counted, the job goes on
│   │   └── InvalidSettings   an environment variable or a config file
│   ├── MissingDependency     a package or a program that is not installed here
│   ├── CallRefused           an engine refuses one conversation; the others may go on
│   │   └── CallFailed        an engine fails at one conversation, and answers others meanwhile
│   ├── SandboxUnavailable    code of a model cannot be run as safely as is required
│   ├── HubRefused            the Hugging Face Hub does not take what is published, or holds something else
│   ├── OffPolicyRefused      data that this objective must not be trained on
│   ├── TrainingDiverged      a loss or gradient that is not finite
│   └── NoTrainingData        a dataset with nothing to learn from
├── TransientError            the job runs again after a back-off, while attempts are left
│   ├── BrokerUnavailable     the message was not sent
│   ├── DatabaseUnavailable   nothing was read or written
│   ├── EngineUnavailable     no engine answered, or it is draining
│   ├── HubUnavailable        the Hugging Face Hub did not answer, or failed
│   ├── StoreUnavailable      the artifact store did not answer, or failed; the attempt is not charged
│   │   └── StoreLacks        it does not have the checkpoint yet
│   ├── StoreRefused          the artifact store refuses us; the attempt is charged, the next one comes a minute later
│   │   └── StoreDamaged      what it holds of a checkpoint is not that checkpoint
│   ├── ChildLost             the device's child process died or stalled
│   ├── OutOfMemory           the device or the machine ran out of memory
│   └── DiskFull              an artifact could not be written
├── DatabaseRefused           the login of the database may not do that; the job runs again, while attempts are left
├── Fenced                    another holder has the job; stop and write nothing
├── Drained                   this worker is going down; the job goes back uncharged
├── Cancelled                 a person asked for it; stop and write nothing
├── Later                     something else must end first; the job goes back uncharged and is tried after a while
│   └── ServiceAway           a service that trains cannot be reached, and was asked for nothing yet
├── Tomorrow                  the day's budget is spent; the job goes back uncharged until the next UTC day
└── StartError                a process of the fleet could not be started; says what to do
"""

from __future__ import annotations


class RlfleetError(Exception):
    """Something went wrong that the project knows by name."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or type(self).__name__).strip())


class PermanentError(RlfleetError):
    """Running it again cannot help."""


class InvalidInput(PermanentError):
    """A value that cannot be used."""

    def __init__(self, field: str, value: object, remedy: str) -> None:
        self.field, self.value, self.remedy = field, value, remedy
        shown = repr(value)
        shown = shown if len(shown) <= 120 else shown[:117] + "..."
        super().__init__(f"{field} = {shown}: {remedy}")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.field, self.value, self.remedy)


class MalformedWindow(InvalidInput):
    """The text is not a window id."""


class UnknownWindow(InvalidInput):
    """No such window on that line."""


class UnknownVersion(InvalidInput):
    """No such version."""


class NotEvaluated(InvalidInput):
    """A version without verdicts, which nobody said may go out so."""


class NothingStable(InvalidInput):
    """A line without a stable version that a canary could be compared with."""


class BadMessage(InvalidInput):
    """A message whose arguments the task does not take."""


class ContextExceeded(InvalidInput):
    """A conversation that is longer than the engine's context, with the answer that it asks for."""


class NoScenario(InvalidInput):
    """One scenario that cannot be made; the others may be played."""


class InvalidRow(InvalidInput):
    """One row of a source that cannot be used."""


class InvalidSettings(InvalidInput):
    """An environment variable or a config value that cannot be used."""


class MissingDependency(PermanentError):
    """What is asked for needs a package or a program that is not installed here; the message says how to get it."""


class CallRefused(PermanentError):
    """An engine refuses this conversation; others may go on."""


class CallFailed(CallRefused):
    """An engine failed at this conversation more than once, and answered another in between."""


class SandboxUnavailable(PermanentError):
    """Code that a model wrote cannot be run here as safely as ``RLFLEET_SANDBOX`` requires."""


class HubRefused(PermanentError):
    """The Hugging Face Hub does not take what is published, or holds something else afterwards."""


class OffPolicyRefused(PermanentError):
    """An on-policy objective was given calls of another model, or calls without log-probabilities."""


class TrainingDiverged(PermanentError):
    """A loss or a gradient is not finite."""


class NoTrainingData(PermanentError):
    """The dataset holds nothing to learn from."""


class TransientError(RlfleetError):
    """Running it again may help."""


class BrokerUnavailable(TransientError):
    """The message broker did not take the message."""


class DatabaseUnavailable(TransientError):
    """The database did not answer."""


class EngineUnavailable(TransientError):
    """No engine answered."""


class HubUnavailable(TransientError):
    """The Hugging Face Hub did not answer, or failed."""


class StoreUnavailable(TransientError):
    """The artifact store did not answer, or failed."""


class StoreLacks(StoreUnavailable):
    """The artifact store does not have the checkpoint yet."""


class StoreRefused(TransientError):
    """The artifact store refuses us."""


class StoreDamaged(StoreRefused):
    """What the artifact store holds of a checkpoint is not that checkpoint."""


class ChildLost(TransientError):
    """The device's child process died or stalled."""


class OutOfMemory(TransientError):
    """The device or the machine ran out of memory. ``adjust`` is what the next attempt changes in its config."""

    def __init__(self, message: str | None = None, adjust: dict[str, object] | None = None) -> None:
        super().__init__(message)
        self.adjust = adjust


class DiskFull(TransientError):
    """There is no room left for an artifact."""


class DatabaseRefused(RlfleetError):
    """The login that the database was asked by may not do that."""


class Fenced(RlfleetError):
    """The lease was lost to another holder."""


class Drained(RlfleetError):
    """The worker is going down."""

    def __init__(self, message: str | None = None, resume: dict[str, object] | None = None) -> None:
        super().__init__(message)
        self.resume = resume


class Cancelled(RlfleetError):
    """The job was cancelled."""


class Later(RlfleetError):
    """Something else must end before this can begin. ``seconds`` is how long to wait until the next look."""

    def __init__(self, message: str | None = None, seconds: float = 60.0) -> None:
        super().__init__(message)
        self.seconds = seconds


class ServiceAway(Later):
    """A service that is to train does not answer, and was asked for nothing yet."""


class Tomorrow(RlfleetError):
    """The budget of this UTC day is spent."""


class StartError(RlfleetError):
    """A process of the fleet could not be started."""
