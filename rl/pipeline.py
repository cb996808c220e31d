"""A pipeline as one config: demonstrations, the model, SFT on them, rounds of RL, and what all of it is judged on.

What is said once at the top is filled in where a table does not say otherwise: ``environment`` and ``seed``. A line
and a run follow from it (``line``, ``run``); ``rl/pipeline_quick.py`` makes it small.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any, Self

from pydantic import Field, SerializerFunctionWrapHandler, field_serializer, model_validator

from rl.config import EarlyStop, LineConfig, Release, Rollout, RoundTrain, RunConfig, SftTrain, TaskSet
from rl.objective_parts import refusal
from rl.training import Config

TABLES = ("model", "demonstrations", "sft")
"""Tables that only a pipeline has: by them its file is told from a run's."""

MOST_LETTERS = 64
"""Of a name."""

BATCH_EPISODES = int(SftTrain.model_fields["batch_episodes"].default)


class Starter(Config):
    """A random Qwen3 with a tokenizer of ``vocabulary`` tokens that is trained on the demonstrations' texts.

    ``context_length`` bounds the tokens of a conversation. ``layers`` have a width of ``width``, heads of 32.
    """

    vocabulary: int = Field(512, ge=300, le=65_536)
    context_length: int = Field(2048, ge=128)
    layers: int = Field(3, ge=1)
    width: int = Field(128, ge=32, multiple_of=32)


class Model(Config):
    """Where training starts: the folder or hub id ``base``, or a ``starter`` that knows nothing."""

    base: str | None = Field(None, min_length=1)
    starter: Starter | None = None

    @model_validator(mode="after")
    def _is_one_of_two(self) -> Self:
        if (self.base is None) == (self.starter is None):
            remedy = "set base to a folder or a hub id, or have a table [model.starter]: one of the two"
            raise refusal("model.base", self.base, remedy)
        return self


class Demonstrations(Config):
    """Episodes of the environment's oracle on ``scenarios`` seeds of its train split, ``first_seed`` and up."""

    environment: str
    scenarios: int = Field(ge=1)
    first_seed: int = Field(0, ge=0)


class Practice(Config):
    """The rounds of RL: a run's ``rounds``, ``rollout`` and ``train``."""

    rounds: int = Field(ge=1)
    rollout: Rollout
    train: RoundTrain


class Pipeline(Config):
    """From demonstrations to a decision. ``name`` is the line's, the run's, and what its versions begin with.

    In a file, ``[sft]`` may have ``epochs`` in place of ``steps``: so many passes over all demonstrations, rounded up.
    Rounds play the train scenarios behind the demonstrated ones, unless ``rl.rollout.first_seed`` is set. A version is
    released at once and not by degrees, unless ``release.strategy`` is set: a pipeline has no agents to try it on. An
    ``early_stop`` finishes the run, unless ``then`` says otherwise.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=MOST_LETTERS)
    seed: int = Field(0, ge=0)
    environment: str
    model: Model
    demonstrations: Demonstrations
    sft: SftTrain
    rl: Practice
    validation: TaskSet
    held_out: TaskSet
    release: Release = Release(strategy="immediate")
    early_stop: EarlyStop | None = None

    @model_validator(mode="before")
    @classmethod
    def _says_things_once(cls, values: Any) -> Any:
        return filled(values) if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _is_judged_apart(self) -> Self:
        for name, tasks in (("validation", self.validation), ("held_out", self.held_out)):
            if tasks.split != name:
                remedy = f"[{name}] plays that split alone: leave split out, or set it to {name}"
                raise refusal(f"{name}.split", tasks.split, remedy)
        return self

    @model_validator(mode="after")
    def _is_compared_by_scenarios(self) -> Self:
        if self.held_out.samples > 1:
            remedy = "the report counts scenarios, and repeats of one are no further ones: leave samples out"
            raise refusal("held_out.samples", self.held_out.samples, remedy)
        return self

    @field_serializer("release", mode="wrap")
    def _with_its_strategy(self, release: Release, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A dump leaves out what is a line's default, and here another one would be read in its place."""
        return {**dump(release), "strategy": release.strategy}

    def line(self, base_model: str, source: str) -> LineConfig:
        """The line that clones the demonstrations at the URL ``source``, from the folder ``base_model``."""
        return LineConfig(
            base_model=base_model,
            version_prefix=self.name,
            source=source,
            automatic=False,
            train=self.sft,
            validation=self.validation,
            release=self.release,
        )

    def run(self) -> RunConfig:
        """The run that goes on from the cloned version."""
        return RunConfig(
            name=self.name,
            rounds=self.rl.rounds,
            rollout=self.rl.rollout,
            train=self.rl.train,
            validation=self.validation,
            held_out=self.held_out,
            release=self.release,
            early_stop=self.early_stop,
        )

    def differences(self, other: Pipeline) -> Iterator[str]:
        """The settings in which the other differs, as ``sft.steps = 300, and not 200``; the other's value first."""
        mine, others = _flat(self.model_dump(mode="json")), _flat(other.model_dump(mode="json"))
        for key in sorted(mine.keys() | others.keys()):
            if mine.get(key) != others.get(key):
                yield f"{key} = {others.get(key)!r}, and not {mine.get(key)!r}"


def is_pipeline(values: dict[str, Any]) -> bool:
    """Whether a file's values are a pipeline's, and not a plain run's."""
    return any(table in values for table in TABLES)


def filled(values: dict[str, Any]) -> dict[str, Any]:
    """The values with what is said once, or follows, written where it belongs. Tables that are none stay as they are.

    Raises:
        ValueError: ``sft.epochs`` is no positive number, or stands beside ``sft.steps``.
    """
    tables = copy.deepcopy(values)
    learning, demonstrations, sft = (_table(tables, name) for name in ("rl", "demonstrations", "sft"))
    rollout, train = _table(learning, "rollout"), _table(learning, "train")
    judged = {name: _table(tables, name) for name in ("validation", "held_out")}
    for name, places in (("environment", (demonstrations, rollout, *judged.values())), ("seed", (sft, train))):
        for place in places if name in values else ():
            place.setdefault(name, values[name])
    for name, place in judged.items():
        place.setdefault("split", name)
    _table(tables, "release").setdefault("strategy", "immediate")
    _table(tables, "early_stop").setdefault("then", "finish")
    first, scenarios = demonstrations.get("first_seed", 0), demonstrations.get("scenarios")
    if isinstance(first, int) and isinstance(scenarios, int):
        rollout.setdefault("first_seed", first + scenarios)
        _count_steps(sft, scenarios)
    return tables


def _table(values: dict[str, Any], name: str) -> dict[str, Any]:
    """The table of that name, to write into; where there is none, one that nobody reads."""
    found = values.get(name)
    return found if isinstance(found, dict) else {}


def _count_steps(sft: dict[str, Any], episodes: int) -> None:
    """Put ``steps`` in the place of ``epochs``: ceil(epochs * episodes / batch_episodes)."""
    if "epochs" not in sft:
        return
    epochs, batch = sft.pop("epochs"), sft.get("batch_episodes", BATCH_EPISODES)
    if "steps" in sft:
        raise refusal("sft.epochs", epochs, "[sft] has steps too; leave one of them out")
    if isinstance(epochs, bool) or not isinstance(epochs, int | float) or not 0 < epochs < math.inf:
        raise refusal("sft.epochs", epochs, "give a number above 0, such as 3")
    if isinstance(batch, int) and batch >= 1:
        sft["steps"] = math.ceil(epochs * episodes / batch)


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"sft.optimizer.learning_rate": 0.003, ...}``."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found
