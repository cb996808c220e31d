"""The wire formats: names that travel in Celery messages, and what a device's child and its supervisor say.

The child reads one JSON object a line on its command descriptor and writes one a line on its progress
descriptor; stdout belongs to libraries. Both sides refuse another ``schema``.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

SCHEMA: Final = 1

QUEUES = ("collect", "score", "maint", "gpu")

TASK_QUEUES = {
    "rlfleet.collect": "collect",
    "rlfleet.look_again": "collect",
    "rlfleet.score": "score",
    "rlfleet.decide": "score",
    "rlfleet.train": "gpu",
    "rlfleet.train_window": "maint",
    "rlfleet.evaluate": "gpu",
    "rlfleet.tend": "gpu",
    "rlfleet.plan": "maint",
    "rlfleet.reconcile": "maint",
    "rlfleet.alert": "maint",
    "rlfleet.prune": "maint",
    "rlfleet.watch_releases": "maint",
    "rlfleet.mirror": "maint",
}
"""Task name to queue. The names are the wire format: one is never changed without an alias."""

JOB_KINDS = ("collect", "score", "train", "evaluate", "decide")
"""Kinds of jobs; the task ``rlfleet.<kind>`` does one, and takes its id."""


BackendName = Literal["local", "trl", "art-serverless"]
"""What may train: our own trainer, TRL's, or ART's service. ``backends/`` chooses."""


class Line(BaseModel):
    """One line of the conversation with a child."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    schema_version: Literal[1] = Field(SCHEMA, alias="schema", serialization_alias="schema")

    def line(self) -> bytes:
        """The JSON object and a newline, ready to be written."""
        return self.model_dump_json(by_alias=True).encode() + b"\n"


class Remote(BaseModel):
    """How far a training has come with a service that does it, which takes no request back and knows none again.

    ``model`` is the service's id of what is trained, and ``newest`` the step of its newest checkpoint before anything
    was asked for, at ``asked_at`` (Unix seconds). Of ``training``, the service's id of the training, None says that it
    may have been asked for, and that nobody has the answer. ``parent`` is the service's name of the version that it
    goes on from. ``after`` is the last of its events that was heeded, with ``steps`` of ``total`` gradient steps made
    by then and the means of their ``metrics``. ``end`` is what became of it where that is known and no version came of
    it here; ``given up`` says that a person was told to look. It is stored: a worker of an earlier version leaves out
    what it does not know.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)
    model: str
    newest: int
    asked_at: float
    training: str | None = None
    parent: str | None = None
    after: str | None = None
    steps: int = 0
    total: int = 0
    metrics: dict[str, float] = Field(default_factory=dict)
    end: Literal["ended", "failed", "given up"] | None = None


class Beside(BaseModel):
    """What else a line has with the service that is about to train for it.

    ``others`` are trainings that other jobs of the line, by id, asked for, and of which no end is known. ``newer`` are
    steps after that of the version to go on from, which are versions too, and what a person can do about each.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    others: dict[int, Remote] = Field(default_factory=dict)
    newer: dict[int, str] = Field(default_factory=dict)


class TrainCommand(Line):
    """Train on ``dataset`` (a JSON-lines file of ``DatasetRow``) and write a checkpoint folder under ``out``.

    ``base`` is a folder with full weights and a tokenizer. ``parent`` is the adapter folder to go on from,
    its optimizer state included; None starts a fresh adapter, or trains the full weights when the config
    has no ``lora``. ``config`` is a ``TrainConfig`` as JSON. ``resume`` is the folder of a saved state of this
    very command to go on from. ``curated`` is a second dataset file, cloned beside the objective where the config's
    ``ptx`` says so. A state is saved under ``out`` every ``save_seconds``; 0 saves none. ``backend`` is what trains,
    our own trainer where the sender names none.

    For a service, ``base`` is its name of the base model, ``parent`` its name of the version to go on from, and
    ``model`` what it is to call what is trained; without a parent that is registered there, and nothing is trained.
    ``remote`` is how far an earlier attempt came.
    """

    command: Literal["train"] = "train"
    backend: BackendName = "local"
    job: int
    fence: int
    dataset: str
    curated: str | None = None
    out: str
    base: str
    parent: str | None = None
    config: dict[str, object]
    resume: str | None = None
    save_seconds: float = 0.0
    model: str | None = None
    remote: Remote | None = None
    beside: Beside = Field(default_factory=Beside)


class PauseCommand(Line):
    """Save the state of the running command at the next step boundary, say ``Paused``, and wait for commands."""

    command: Literal["pause"] = "pause"
    job: int
    fence: int


class StoredCommand(Line):
    """What the last ``RemoteNoted`` said is stored: go on."""

    command: Literal["stored"] = "stored"
    job: int
    fence: int


class StopCommand(Line):
    """Finish what is running at the next step boundary and exit 0."""

    command: Literal["stop"] = "stop"


Command = Annotated[TrainCommand | PauseCommand | StopCommand, Field(discriminator="command")]
RemoteCommand = Annotated[TrainCommand | PauseCommand | StoredCommand, Field(discriminator="command")]
"""What the child that speaks with a service is told."""


class Ready(Line):
    """The child owns its device and serves at ``url``."""

    event: Literal["ready"] = "ready"
    pid: int
    device: str
    url: str


class Progress(Line):
    """``step`` of ``total`` optimizer steps are done. Metrics are finite floats."""

    event: Literal["progress"] = "progress"
    job: int
    fence: int
    step: int
    total: int
    metrics: dict[str, float] = Field(default_factory=dict)


class CheckpointWritten(Line):
    """A complete checkpoint lies in ``path``; ``sha256`` is over its safetensors and config files.

    One command may say it several times, in the order of ``step``, which counts since the lineage began. ``metrics``
    are those of that step. A checkpoint is said before a state that was saved at the same step. A ``remote`` one is no
    folder: ``path`` is what the service that trained it calls it (``rl.remote``), and ``sha256`` the hash of that.
    """

    event: Literal["checkpoint"] = "checkpoint"
    job: int
    fence: int
    step: int
    path: str
    kind: Literal["full", "adapter", "remote"]
    sha256: str
    metrics: dict[str, float] = Field(default_factory=dict)


class StateSaved(Line):
    """A complete state lies in ``path``, from which a later ``TrainCommand`` can go on after ``step``.

    ``sha256`` is over its contents. It is no checkpoint: nobody serves it, and it can be removed once the job ended.
    """

    event: Literal["state"] = "state"
    job: int
    fence: int
    step: int
    path: str
    sha256: str


class RemoteNoted(Line):
    """How far the command has come with the service that carries it out; it goes on once this is stored.

    ``intended``: the training is about to be asked for. ``submitted``: the service has it. ``polled``: more of its
    events were heeded. ``withdrawn``: the service certainly made nothing of what was intended, and ``remote`` is None.
    ``settled``: it has an ``end``. ``of`` is the other job whose training it is; None says that it is the command's.
    """

    event: Literal["remote"] = "remote"
    job: int
    fence: int
    phase: Literal["intended", "submitted", "polled", "withdrawn", "settled"]
    remote: Remote | None
    of: int | None = None


class Paused(Line):
    """The command was paused after ``step`` steps; the last ``StateSaved`` says where its state lies, if it has one."""

    event: Literal["paused"] = "paused"
    job: int
    fence: int
    step: int


class Done(Line):
    """The command is finished; ``manifest`` holds what was really used and what was skipped and why."""

    event: Literal["done"] = "done"
    job: int
    fence: int
    manifest: dict[str, object] = Field(default_factory=dict)


class Failed(Line):
    """The command failed with the named error of ``rl.errors``; the child lives on."""

    event: Literal["failed"] = "failed"
    job: int
    fence: int
    error: str
    message: str


Event = Annotated[
    Ready | Progress | CheckpointWritten | StateSaved | RemoteNoted | Paused | Done | Failed,
    Field(discriminator="event"),
]

COMMANDS: TypeAdapter[Command] = TypeAdapter(Command)
REMOTE_COMMANDS: TypeAdapter[RemoteCommand] = TypeAdapter(RemoteCommand)
EVENTS: TypeAdapter[Event] = TypeAdapter(Event)


class DatasetRow(BaseModel):
    """One trajectory of a frozen dataset, as the child reads it: one JSON object a line.

    ``group`` names the (window, scenario) it is compared in. ``calls`` are ``rl.records.Call`` dumps. ``staleness``
    is how many versions of the line came after the one that spoke, up to the one that training goes on from.
    """

    # A number that is none must reach the trainer, which leaves the row out and says so; null would fail them all.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")
    trajectory_id: str
    group: str
    score: float
    calls: list[dict[str, object]]
    staleness: int = Field(0, ge=0)
