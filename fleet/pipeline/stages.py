"""The stages of a pipeline. Each looks at what is there, and makes what is missing: what is done is not done again."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from db.overview import Facts, read
from fleet.pipeline import starter
from fleet.pipeline.bars import Bars
from fleet.pipeline.course import Course
from fleet.pipeline.folder import Folder
from fleet.pipeline.hub import folder_of
from fleet.playing import Asked, play_at
from rl.config import LineConfig
from rl.errors import EngineUnavailable, StartError
from rl.pipeline import Pipeline
from rl.selection import MIN_COVERAGE

HOUR = "2025-01-15T10:00"
"""The window that holds the demonstrations."""

WORDS = {
    "demonstrate": "demonstrations of the oracle",
    "model": "the model to begin with",
    "base": "the model as it is, on the held-out scenarios",
    "sft": "SFT on the demonstrations",
    "rl": "rounds of RL",
}
"""What each stage is called on a terminal, in their order; ``report`` comes after them."""
STAGES = (*WORDS, "report")
ALONE = ("demonstrate", "model")
"""Stages that need no fleet."""
START = "start"
"""What is timed while an engine is waited for."""


@dataclass
class Stages:
    """The stages of one pipeline, by name; each may be asked for again."""

    config: Pipeline
    folder: Folder
    course: Course
    bars: Bars
    _is_ready: bool = False

    @property
    def each(self) -> Mapping[str, Callable[[], object]]:
        """What does each stage."""
        return {
            "demonstrate": self.demonstrate,
            "model": self.model,
            "base": self.base,
            "sft": self.sft,
            "rl": self.rl,
        }

    def run(self, name: str) -> None:
        """Do one stage, unless it is done; it is timed and shown.

        Raises:
            InvalidInput: the pipeline's line has other settings.
            StartError: an earlier stage has to be done first, a job failed, or the run was stopped or waits.
        """
        if self.is_done(name):
            self.bars.kept(WORDS[name])
            return
        self._check_before(name)
        if name not in ALONE:
            self._wait_for_engine()
        with self.folder.timed(name), self.course.stage(WORDS[name]):
            self.each[name]()

    def is_done(self, name: str) -> bool:
        """Whether nothing is left to do of a stage."""
        match name:
            case "demonstrate":
                return self.folder.demonstrations.exists()
            case "model":
                return self._known_model() is not None
            case "base":
                return self.folder.read("base") is not None
            case "sft":
                return (facts := self.facts()) is not None and facts.stable is not None and self._is_ours()
            case _:
                return (facts := self.facts()) is not None and facts.run_state == "finished"

    def _is_ours(self) -> bool:
        """True; the line that is there is the one that this pipeline makes.

        Raises:
            InvalidInput: it has other settings.
        """
        self.course.refuse_another(self._line())
        return True

    def _check_before(self, name: str) -> None:
        demonstrated = self.folder.demonstrations.exists()
        if name in ("model", "base"):
            self._needs("demonstrate", demonstrated or self._known_model() is not None or self._base is not None)
        if name == "sft":
            self._needs("demonstrate", demonstrated)
        if name == "rl":
            self._needs("sft", (facts := self.facts()) is not None and facts.stable is not None)

    def _wait_for_engine(self) -> None:
        """Once, and on a clock of its own: it is no stage's work."""
        if not self._is_ready:
            with self.folder.timed(START), self.course.stage("an engine that answers"):
                self.course.place.wait_for_engine()
            self._is_ready = True

    def demonstrate(self) -> None:
        """Write the oracle's episodes as a log."""
        order, out = self.config.demonstrations, self.folder.demonstrations
        words = ["--environment", order.environment, "--scenarios", str(order.scenarios)]
        words += ["--first-seed", str(order.first_seed), "--prefix", self.config.name, "--hour", HOUR]
        self.course.python("environments.demonstrate", *words, "--out", str(out), on_line=self._count)

    def _count(self, line: str) -> None:
        self.folder.tick()
        done, _, total = line.strip().partition("/")
        if done.isdigit() and total.isdigit():
            self.bars.count(int(done), int(total))

    def model(self) -> Path:
        """The folder of the base model; a starter is made of what the demonstrations say."""
        if (known := self._known_model()) is not None:
            return known
        if self._base is not None:
            found = folder_of(self._base)
            self.folder.write("model", {"folder": str(found)})
            return found
        shape = self.config.model.starter
        assert shape is not None  # noqa: S101 (one of the two is there)
        starter.make(self.course, self.folder.demonstrations, self.folder.starter, shape, self.config.seed)
        return self.folder.starter

    @property
    def _base(self) -> str | None:
        return self.config.model.base

    def _known_model(self) -> Path | None:
        """The model's folder, if it has been made or found; the hub is asked once."""
        known = self.folder.starter
        if self._base is not None:
            known = Path((self.folder.read("model") or {}).get("folder", self.folder.path / "none"))
        return known if known.is_dir() else None

    def base(self) -> None:
        """Play the held-out scenarios with the base model, straight at the engine: nothing records it.

        Raises:
            StartError: too many episodes have no verdict to compare versions with.
        """
        model, held_out = self.model(), self.config.held_out
        url, name = _serve(model)
        asked = Asked(held_out.environment, "held_out", held_out.first_seed, held_out.count, held_out.samples)
        play = partial(play_at, asked, url, os.environ.get("RLFLEET_ENGINE_KEY", ""), name, held_out.temperature)
        tally = asyncio.run(self._watched(play(self.bars.count)))
        asked_for = held_out.count * held_out.samples
        if tally.n < MIN_COVERAGE * asked_for:
            raise StartError(
                f"the base model has {tally.n} of {asked_for} verdicts, and {MIN_COVERAGE:.0%} are needed; the first "
                f"that is missing: {tally.reason}; {self.course.again}"
            )
        self.folder.write("base", {"model": self._base or "starter", **tally.json()})

    async def _watched(self, work: Any) -> Any:
        """The result of ``work``, while the fleet is kept running."""
        task = asyncio.ensure_future(work)
        while not task.done():
            self.course.place.poll()
            await asyncio.wait([task], timeout=0.25)
        return task.result()

    def sft(self) -> None:
        """Have the line trained on the demonstrations; the first version is its stable one."""
        self.course.clone(self._line(), HOUR)

    def _line(self) -> LineConfig:
        return self.config.line(str(self.model()), source(self.folder))

    def rl(self) -> None:
        """Have the run play, train and decide."""
        facts = self.course.practise(self.config.run())
        if facts.run_state == "paused":
            name = self.config.name
            raise StartError(
                f"run {name} is paused: with a fleet that runs (`rlfleet up`), `rlfleet resume {name}` goes on and "
                f"`rlfleet finish {name}` decides; then start the pipeline again"
            )
        if facts.run_state != "finished":
            raise StartError(f"run {self.config.name} is {facts.run_state}: {self._reason()}; --fresh starts anew")

    def _reason(self) -> str:
        """Why the run is over."""
        from db import lines
        from db.session import transaction

        with transaction() as session:
            return lines.run_named(session, self.config.name).reason or "no reason was given"

    def facts(self) -> Facts | None:
        """What the line has come to; None before there is one."""
        from db import lines
        from db.session import transaction

        with transaction() as session:
            there = self.config.name in lines.sources(session)
        return read(self.config.name) if there else None

    def _needs(self, stage: str, done: bool) -> None:
        if not done:
            raise StartError(f"stage {stage} of {self.config.name} is not done yet; run the pipeline without --stage")


def source(folder: Folder) -> str:
    """The URL of the demonstrations, for the line that learns from them."""
    return f"jsonl://{quote(str(folder.demonstrations))}"


def _serve(model: Path) -> tuple[str, str]:
    """Have the engine serve the model's folder. Returns the engine's URL and what it calls the model.

    Raises:
        EngineUnavailable: it does not answer, or cannot load the folder.
    """
    import httpx

    from db import engines
    from db.session import transaction

    with transaction() as session:
        url = engines.reachable(session, 1)[0].url
    name = f"base@{hashlib.sha256(str(model).encode()).hexdigest()[:12]}"
    key = os.environ.get("RLFLEET_ENGINE_KEY", "")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    body = {"lora_name": name, "lora_path": str(model)}
    try:
        answer = httpx.post(f"{url}/v1/load_lora_adapter", json=body, headers=headers, timeout=600, trust_env=False)
    except httpx.TransportError as error:
        raise EngineUnavailable(f"the engine at {url} cannot be reached from here: {type(error).__name__}") from error
    if answer.status_code != 200:
        raise EngineUnavailable(f"the engine at {url} cannot load {model}: {answer.text[:300]}")
    return url, name
