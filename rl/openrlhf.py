"""A training script of OpenRLHF as a config of ours: each of its flags mapped, or why not.

``train_ppo_ray`` becomes a pipeline (``rl/pipeline.py``), or a plain run where it names no base model; ``train_sft``
becomes a line. Nothing of the script is run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

from pydantic import ValidationError

from rl.config import LineConfig, RunConfig, place_of
from rl.effective import warnings
from rl.errors import InvalidInput
from rl.openrlhf_dead import kill_what_was_dead
from rl.openrlhf_draft import Draft, Row
from rl.openrlhf_flags import SFT
from rl.openrlhf_run import map_run
from rl.openrlhf_script import read
from rl.openrlhf_sft import map_sft
from rl.pipeline import Pipeline

Kind = Literal["pipeline", "run", "line"]
CONFIGS: dict[Kind, type[Pipeline | RunConfig | LineConfig]] = {
    "pipeline": Pipeline,
    "run": RunConfig,
    "line": LineConfig,
}


@dataclass(frozen=True)
class Imported:
    """``toml`` is the file of a ``kind``; ``rows`` say what became of each flag.

    ``asked`` are values that no flag has and a person must set; ``traps`` published ones that the config walks into.
    """

    trainer: str
    kind: Kind
    toml: str
    rows: tuple[Row, ...]
    asked: tuple[str, ...]
    traps: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether every flag is known, and its value too."""
        return not any(row.fate in ("unknown", "unresolved") for row in self.rows)

    def report(self) -> dict[str, object]:
        """As one JSON object."""
        flags = [asdict(row) for row in self.rows]
        head = {"schema": 1, "passed": self.passed, "trainer": self.trainer, "kind": self.kind}
        return head | {"flags": flags, "asked": self.asked, "traps": self.traps, "toml": self.toml}


def imported(
    text: str,
    name: str,
    *,
    environment: str | None = None,
    rows: int | None = None,
    given: Mapping[str, str] | None = None,
    nth: int | None = None,
    plain: bool = False,
) -> Imported:
    """The config that the script or command line ``text`` comes to, called ``name``.

    ``environment`` plays what its data asked, ``rows`` is how many prompts or samples those are. ``given`` are values
    of variables that it does not set; ``nth`` chooses one of several trainings; ``plain`` makes a run of what names a
    base model too.

    Raises:
        InvalidInput: it starts no training that can be imported, or a flag has a value that cannot be used.
    """
    draft = Draft(read(text, given, nth))
    kind: Kind = "line"
    if draft.script.trainer == SFT:
        map_sft(draft, rows)
    else:
        kind = "pipeline" if draft.has("pretrain") and not plain else "run"
        kill_what_was_dead(draft)
        map_run(draft, name, environment, rows, whole=kind == "pipeline")
    traps = _traps(_loaded(kind, draft))
    return Imported(draft.script.trainer, kind, draft.toml(), tuple(draft.rows()), tuple(_asked(draft)), tuple(traps))


def _loaded(kind: Kind, draft: Draft) -> Pipeline | RunConfig | LineConfig:
    try:
        return CONFIGS[kind].model_validate(draft.config())
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = place_of(first["loc"])
        origin = draft.comments.get(place, "")
        value = first.get("input")
        shown = value if isinstance(value, str | int | float) else "..."
        remedy = f"{first['msg']}{f' ({origin})' if origin else ''}"
        raise InvalidInput(place or kind, shown, remedy) from None


def _traps(config: Pipeline | RunConfig | LineConfig) -> list[str]:
    run = config.run() if isinstance(config, Pipeline) else config
    if not isinstance(run, RunConfig):
        return []
    return warnings(run.train, run.rollout.scenarios * run.rollout.episodes, run.rollout.episodes)


def _asked(draft: Draft) -> list[str]:
    """Keys whose value nobody knows yet, and what to do, in the words of their comments."""
    marks = ("no flag says it", "give --rows", "write ")
    found = (
        f"{key} = {draft.values[key]}: {words.rpartition('; ')[2]}"
        for key, words in draft.comments.items()
        if any(mark in words for mark in marks) and key.rpartition(".")[2] != "schedule"
    )
    return list(found)
