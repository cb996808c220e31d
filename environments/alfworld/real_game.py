"""ALFWorld's own engine in a process of its own: one game at a time, one JSON line asked, one answered.

Run as a program by ``real.py``. The engine replaces standard output and the arguments of its process while it reads a
game, and lists things in the order of Python's hashes; here neither reaches anybody else. Nothing of ours is imported.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any


def main() -> None:
    """Answer ``{"load": FILE}``, ``{"do": ACTION}`` and ``{"plan": null}`` until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what the engine prints is no answer
    game = _engine()
    for line in sys.stdin:
        answers.write(json.dumps(_answer(game, json.loads(line))) + "\n")
        answers.flush()


def _engine() -> Any:
    import textworld
    from alfworld.agents.environment.alfred_tw_env import AlfredDemangler
    from textworld.envs import PddlEnv

    asked = textworld.EnvInfos(admissible_commands=True, won=True)
    return AlfredDemangler(PddlEnv(asked), shuffle=False)


def _answer(game: Any, asked: dict[str, Any]) -> dict[str, Any]:
    if "plan" in asked:
        engine = game.unwrapped
        return {"plan": engine._pddl_state.replan(engine._entity_infos)}
    if "load" in asked:
        game.load(asked["load"])
        state = game.reset()
    else:
        state, _, _ = game.step(asked["do"])
    return {"text": state["feedback"], "actions": list(state["admissible_commands"]), "won": bool(state["won"])}


if __name__ == "__main__":
    main()
