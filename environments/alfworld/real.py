"""ALFWorld itself behind the contract: its engine, its games and its splits, where they are installed.

Its splits are kept: ``train`` is its ``train``, ``validation`` its ``valid_seen``, ``held_out`` its ``valid_unseen``. A
game that is there twice counts once, as held out rather than for training.
"""

from __future__ import annotations

import json
import re
import select
import subprocess
import sys
from collections.abc import Iterator
from functools import cached_property
from importlib.util import find_spec
from os import environ
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from environments.alfworld import FORM, AlfWorld
from environments.alfworld.actions import parse
from environments.alfworld.words import NOTHING
from environments.contract import Episode
from environments.dealing import digest_of
from environments.episode import TextEnvironment, TextEpisode, Took, action_of, check_owner
from environments.settings import settings
from rl.errors import ChildLost, InvalidInput, MissingDependency
from rl.records import ScenarioRef

FOLDER = "json_2.1.1"
SPLITS = {"held_out": "valid_unseen", "validation": "valid_seen", "train": "train"}
TYPES = frozenset(
    {
        "pick_and_place_simple",
        "look_at_obj_in_light",
        "pick_clean_then_place_in_recep",
        "pick_heat_then_place_in_recep",
        "pick_cool_then_place_in_recep",
        "pick_two_obj_and_place",
    }
)
UNSUPPORTED = ("movable", "Sliced")
"""Parts of the names of games that ALFWorld leaves out."""

PATIENCE_SECONDS = 120.0
"""For one answer of the engine; the longest is that to a game to load, some seconds."""

IDLE_ENGINES = 8
"""Engines that are kept for the next episodes."""


class Game(NamedTuple):
    """A game's file, its type of task as our own engine names it, and its content hash."""

    file: Path
    type: str
    digest: str


class AlfWorldReal(TextEnvironment):
    """ALFWorld 0.4's text games."""

    name = "alfworld-real"
    profile = "alfworld-0.4"
    system = AlfWorld.system
    max_turns = 50
    max_tokens = 256
    idle = "look"
    blocks = True

    def __init__(self) -> None:
        self._engines: list[Engine] = []

    def scenarios(self, split: str) -> int | None:
        """How many games there are.

        Raises:
            MissingDependency: the games are not there.
        """
        return len(self._games[split])

    def open(self, ref: ScenarioRef) -> Episode:
        """A fresh episode of the game.

        Raises:
            InvalidInput: the scenario belongs to another environment, or its split has no such seed.
            MissingDependency: the package or its games are not there.
            ChildLost: the engine's process ended or does not answer.
        """
        check_owner(self, ref)
        games = self._games[ref.split]
        if ref.seed >= len(games):
            raise InvalidInput("scenario", ref.id, f"{self.name} has {len(games)} scenarios of this split")
        if find_spec("alfworld") is None:
            raise MissingDependency(
                f"{self.name} needs ALFWorld: pip install 'alfworld>=0.4.2,<0.5' (with g++ and cmake)"
            )
        return RealHousehold(self, ref, games[ref.seed], self._engine())

    def give_back(self, engine: Engine) -> None:
        """Keep an engine for another episode, or end it: one that owes an answer would give it to the next question."""
        if engine.alive() and not engine.is_asked and len(self._engines) < IDLE_ENGINES:
            self._engines.append(engine)
        else:
            engine.end()

    def end_idle(self) -> None:
        """End the engines that no episode holds."""
        while self._engines:
            self._engines.pop().end()

    def _engine(self) -> Engine:
        """An idle engine, or a new one. Episodes are opened on several threads at once."""
        try:
            return self._engines.pop()
        except IndexError:
            return Engine()

    @cached_property
    def _games(self) -> dict[str, list[Game]]:
        folder = (settings().alfworld_data or Path.home() / ".cache" / "alfworld") / FOLDER
        found = games_in(folder)
        if not any(found.values()):
            raise MissingDependency(f"no ALFWorld games in {folder}: run alfworld-download, or set ALFWORLD_DATA")
        return found


def games_in(folder: Path) -> dict[str, list[Game]]:
    """The games of each of our splits that can be solved, in the order of their paths."""
    known: set[str] = set()
    found: dict[str, list[Game]] = {}
    for split, theirs in SPLITS.items():
        found[split] = []
        for game in _solvable(folder / theirs):
            if game.digest not in known:
                known.add(game.digest)
                found[split].append(game)
    return found


def _solvable(folder: Path) -> Iterator[Game]:
    for file in sorted(folder.rglob("game.tw-pddl")):
        kind = json.loads(file.with_name("traj_data.json").read_text())["task_type"]
        if kind not in TYPES or any(part in str(file.relative_to(folder)) for part in UNSUPPORTED):
            continue
        data = json.loads(file.read_text())
        if data.get("solvable"):
            unnamed = re.sub(r"\(\s*problem\s[^)]*\)", "", data["pddl_problem"])
            yield Game(file, kind.removesuffix("_in_recep"), digest_of(unnamed.split()))


class Engine:
    """A process of ``real_game.py``. It ends with this one, as its standard input does.

    ``is_asked`` tells that it has not answered yet: an episode may be closed while its last question is under way.
    """

    def __init__(self) -> None:
        self.is_asked = False
        program = Path(__file__).with_name("real_game.py")
        self._child = subprocess.Popen(
            [sys.executable, "-P", str(program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**environ, "PYTHONHASHSEED": "0"},
            text=True,
        )

    def ask(self, **question: str | None) -> dict[str, Any]:
        """The answer to ``load``, ``do`` or ``plan``.

        Raises:
            ChildLost: the process ended or does not answer.
        """
        asked, answers = self._child.stdin, self._child.stdout
        if asked is None or answers is None:
            raise AssertionError("unreachable: both are pipes")
        self.is_asked = True
        try:
            asked.write(json.dumps(question) + "\n")
            asked.flush()
            answered, _, _ = select.select([answers], [], [], PATIENCE_SECONDS)
            line = answers.readline() if answered else ""
        except (BrokenPipeError, ValueError):
            line = ""
        if not line:
            self.is_asked = False
            self.end()
            raise ChildLost(f"ALFWorld's engine ended or did not answer {question} in {PATIENCE_SECONDS:.0f} s")
        self.is_asked = False
        return dict(json.loads(line))

    def alive(self) -> bool:
        return self._child.poll() is None

    def end(self) -> None:
        """End the process. Where an answer is waited for on another thread, that one is told and clears up."""
        is_asked = self.is_asked  # before who waits is told
        self._child.kill()
        if not is_asked:
            self._child.communicate()


class RealHousehold(TextEpisode):
    """One of ALFWorld's games being played."""

    def __init__(self, environment: AlfWorldReal, ref: ScenarioRef, game: Game, engine: Engine) -> None:
        self._owner = environment
        self._engine: Engine | None = engine
        state = engine.ask(load=str(game.file))
        self._actions: list[str] = state["actions"]
        self._won = False
        text = state["text"].split("=-", 1)[-1].strip()  # after the engine's welcome
        super().__init__(environment, ref, game.digest, f"{text}\n{self._possible()}", game.type)

    def _act(self, reply: str) -> Took:
        command = parse(action_of(reply))
        if command is None:
            return Took(f"{NOTHING} {FORM}")
        if str(command) not in self._actions:
            return Took(NOTHING)
        state = self._ask(do=str(command))
        self._actions, self._won = state["actions"], state["won"]
        text = self._possible() if command.verb == "help" else state["text"]
        return Took(text, 1.0 if self._won else 0.0, self._won)

    @property
    def solved(self) -> bool:
        """Whether the engine says that the game is won."""
        return self._won

    def oracle(self) -> str:
        """The first action of the plan that the engine's own planner finds."""
        return str(next(iter(self._ask(plan=None)["plan"]), self._environment.idle))

    def guess(self, chance: Random) -> str:
        """One of the admissible actions."""
        return chance.choice(self._actions)

    def close(self) -> None:
        """Give the engine to the next episode."""
        if self._engine is not None:
            self._owner.give_back(self._engine)
            self._engine = None

    def _ask(self, **question: str | None) -> dict[str, Any]:
        if self._engine is None:
            raise InvalidInput("scenario", self._id, "the episode was closed; open the scenario again")
        return self._engine.ask(**question)

    def _possible(self) -> str:
        return f"Available actions: {', '.join(self._actions)}"
