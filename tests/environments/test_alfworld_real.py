"""ALFWorld's own engine: behind the contract, and as the measure of ours.

Its games are a download, so the rooms played here are ours, written as its engine reads them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

import pytest

from environments.alfworld import real
from environments.alfworld.actions import admissible, change, parse
from environments.alfworld.plan import holds, plan
from environments.alfworld.real import AlfWorldReal, Engine, games_in
from environments.alfworld.rooms import FULL, draw
from environments.alfworld.scene import Layout, Task, is_lamp, kind_of, start
from environments.alfworld.tables import APPLIANCES, DOORS, HOMES, SLICEABLE
from environments.alfworld.words import NOTHING
from environments.contract import Step
from environments.settings import EnvironmentSettings
from rl.errors import ChildLost, InvalidInput, MissingDependency
from rl.records import ScenarioRef

SPLITS = {"train": "train", "validation": "valid_seen", "held_out": "valid_unseen"}
STATES = {"pick_clean_then_place": "isClean", "pick_heat_then_place": "isHot", "pick_cool_then_place": "isCool"}

needs_alfworld = pytest.mark.skipif(
    find_spec("alfworld") is None, reason="alfworld is not installed: g++ and cmake build it"
)


def _id(name: str) -> str:
    """A name as ALFRED's problems have it; the engine numbers them from the end of the alphabet."""
    kind, _, number = name.rpartition(" ")
    tail = f"_bar_{999 - int(number)}"
    return f"{kind.removesuffix('basin')}{tail}_bar_{kind}" if kind.endswith("basin") else kind + tail


def _parts(layout: Layout) -> Iterator[tuple[str, str]]:
    """Objects of the problem, one a line, and the facts about them."""
    stands = {place: f"loc_bar_{number}" for number, place in enumerate(layout.places, 1)}
    kinds = {kind_of(place) for place in layout.places} | {"microwave", "fridge", "sinkbasin"}
    yield "agent1 - agent\nloc_bar_0 - location", "(atLocation agent1 loc_bar_0)(= (total-cost) 0)"
    for kind in sorted(kinds):
        fits = sorted(thing for thing, homes in HOMES.items() if kind in homes)
        yield f"{kind}Type - rtype", "".join(f"(canContain {kind}Type {thing}Type)" for thing in fits)
    for thing in sorted(HOMES.keys() | {"desklamp"}):
        yield f"{thing}Type - otype", ""
    for place, spot in stands.items():
        kind, name = kind_of(place), _id(place)
        door = f"(openable {name})" if kind in DOORS else ""
        facts = f"(receptacleAtLocation {name} {spot})(receptacleType {name} {kind}Type){door}"
        yield f"{spot} - location\n{name} - receptacle", facts
    for thing, place in layout.things:
        kind, name = kind_of(thing), _id(thing)
        able = [f"{verb}able" for verb, (_, _, things) in APPLIANCES.items() if kind in things]
        able += ["sliceable"] if kind in SLICEABLE else []
        able.append("toggleable" if is_lamp(thing) else "pickupable")
        facts = f"(objectType {name} {kind}Type)(inReceptacle {name} {_id(place)})"
        facts += f"(objectAtLocation {name} {stands[place]})" + "".join(f"({what} {name})" for what in able)
        yield f"{name} - object", facts


def _goal(task: Task) -> str:
    placed = f"(receptacleType ?r {task.place}Type) (objectType ?o {task.thing}Type) (inReceptacle ?o ?r)"
    if task.type == "look_at_obj_in_light":
        return (
            f"(exists (?l - object ?r - receptacle ?p - location ?o - object) (and (objectType ?l {task.place}Type) "
            f"(isToggled ?l) (inReceptacle ?l ?r) (receptacleAtLocation ?r ?p) (atLocation agent1 ?p) "
            f"(objectType ?o {task.thing}Type) (holds agent1 ?o)))"
        )
    if task.type == "pick_two_obj_and_place":
        return (
            f"(exists (?r - receptacle ?o - object ?q - object) (and (not (= ?o ?q)) {placed} "
            f"(objectType ?q {task.thing}Type) (inReceptacle ?q ?r)))"
        )
    state = f"({STATES[task.type]} ?o)" if task.type in STATES else ""
    return f"(exists (?r - receptacle ?o - object) (and {placed} {state}))"


def _write(layout: Layout, folder: Path, **changed: Any) -> Path:
    """A game's folder as ALFWorld's download has it."""
    folder.mkdir(parents=True)
    objects, facts = zip(*_parts(layout), strict=True)
    rooms = "\n".join(objects), "\n".join(facts)
    problem = (
        f"(define (problem {folder.name})\n(:domain alfred)\n(:objects\n{rooms[0]}\n)\n(:init\n{rooms[1]}\n)\n"
        f"(:goal {_goal(layout.task)})\n(:metric minimize (total-cost))\n)"
    )
    data = {"pddl_problem": problem, "pddl_domain": "", "grammar": "", "solvable": True}
    if find_spec("alfworld") is not None:
        from alfworld.info import ALFRED_PDDL_PATH, ALFRED_TWL2_PATH

        grammar = Path(ALFRED_TWL2_PATH).read_text().replace("UNKNOWN GOAL", layout.goal)
        data |= {"pddl_domain": Path(ALFRED_PDDL_PATH).read_text(), "grammar": grammar}
    kind = layout.task.type + ("_in_recep" if layout.task.type in STATES else "")
    (folder / "traj_data.json").write_text(json.dumps({"task_type": changed.pop("task_type", kind)}))
    file = folder / "game.tw-pddl"
    file.write_text(json.dumps(data | changed))
    return file


def _home(monkeypatch: pytest.MonkeyPatch, data: Path) -> AlfWorldReal:
    monkeypatch.setattr(real, "settings", lambda: EnvironmentSettings(ALFWORLD_DATA=data))
    return AlfWorldReal()


def _ref(split: str, seed: int) -> ScenarioRef:
    return ScenarioRef.model_validate({"environment": "alfworld-real", "split": split, "seed": seed})


def test_games_are_found_in_their_splits_and_never_in_two(tmp_path: Path) -> None:
    layouts = [draw(FULL, Random(seed)) for seed in range(8)]
    for name, (split, layout) in {
        "train/a/1": ("train", layouts[0]),
        "train/b/1": ("train", layouts[1]),
        "train/b/2": ("train", layouts[2]),
        "valid_seen/c/1": ("validation", layouts[2]),
        "valid_seen/d/1": ("validation", layouts[3]),
        "valid_unseen/e/1": ("held_out", layouts[3]),
    }.items():
        assert name.startswith(SPLITS[split])
        _write(layout, tmp_path / name)
    _write(layouts[4], tmp_path / "train/f/unsolved", solvable=False)
    _write(layouts[5], tmp_path / "train/look_at_obj-movable/1")
    _write(layouts[6], tmp_path / "train/AppleSliced/1")
    _write(layouts[7], tmp_path / "train/g/1", task_type="pick_and_place_with_movable_recep")
    found = games_in(tmp_path)
    names = {split: [str(game.file.parent.relative_to(tmp_path)) for game in games] for split, games in found.items()}
    assert names == {
        "train": ["train/a/1", "train/b/1"],
        "validation": ["valid_seen/c/1"],
        "held_out": ["valid_unseen/e/1"],
    }
    assert found["train"][0].type == layouts[0].task.type


def test_without_games_it_says_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingDependency, match="alfworld-download, or set ALFWORLD_DATA"):
        _home(monkeypatch, tmp_path).scenarios("train")


def test_without_the_package_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(draw(FULL, Random(0)), tmp_path / "json_2.1.1/train/a/1")
    environment = _home(monkeypatch, tmp_path)
    assert environment.scenarios("train") == 1
    assert environment.scenarios("held_out") == 0
    with pytest.raises(InvalidInput, match="alfworld-real has 1 scenarios"):
        environment.open(_ref("train", 1))
    monkeypatch.setattr(real, "find_spec", lambda _: None)
    with pytest.raises(MissingDependency, match="g\\+\\+ and cmake"):
        environment.open(_ref("train", 0))


@pytest.mark.platform
@pytest.mark.slow
@needs_alfworld
def test_an_episode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(draw(FULL, Random(0)), tmp_path / "json_2.1.1/valid_unseen/a/1")
    environment = _home(monkeypatch, tmp_path)
    episode = environment.open(_ref("held_out", 0))
    opening = episode.messages[-1].content or ""
    assert opening.startswith("You are in the middle of a room.")
    assert f"Your task is to: {draw(FULL, Random(0)).goal}." in opening
    assert "\nAvailable actions: go to cabinet 1, " in opening
    assert (episode.step("dance").observation or "").startswith(NOTHING)
    assert episode.step("go to moon 1") == Step(NOTHING, 0.0, done=False, truncated=False)
    assert (episode.step("help").observation or "").startswith("Available actions: go to")
    assert episode.step(episode.guess(Random(0))).reward == 0.0
    other = environment.open(_ref("held_out", 0))
    assert other.messages == episode.messages
    steps = [episode.step(episode.oracle())]
    while not steps[-1].done:
        steps.append(episode.step(episode.oracle()))
    assert steps[-1] == Step(None, 1.0, done=True, truncated=False)
    assert (other.step("go to cabinet 1").observation or "").startswith("You arrive at cabinet 1.")
    for _ in range(2):
        episode.close()
    with pytest.raises(InvalidInput, match="was closed"):
        episode.oracle()
    again = environment.open(_ref("held_out", 0))
    assert again.messages[-1].content == opening, "the engine of the first episode"
    again.close()
    other.close()
    environment.end_idle()


@pytest.mark.platform
@pytest.mark.slow
@needs_alfworld
def test_an_engine_that_is_gone(tmp_path: Path) -> None:
    engine = Engine()
    assert engine.alive()
    with pytest.raises(ChildLost, match="ended or did not answer"):
        engine.ask(load=str(tmp_path / "nothing"))
    assert not engine.alive()


def test_an_engine_that_owes_an_answer_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answer would be taken for the one to the next episode's question."""
    program = "import sys; print('{}', flush=True); sys.stdin.read()"
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda words, **kw: popen([sys.executable, "-c", program], **kw))
    household, engine = AlfWorldReal(), Engine()
    assert engine.ask(load="a game") == {}
    household.give_back(engine)
    assert household._engine() is engine
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(engine.ask, do="look")
        while not engine.is_asked:
            assert not asked.done()
        household.give_back(engine)
        with pytest.raises(ChildLost, match="ended or did not answer"):
            asked.result(60)
    assert not engine.alive()
    assert not household._engines


@pytest.mark.platform
@pytest.mark.slow
@needs_alfworld
def test_both_engines_let_the_same_be_done_and_agree_on_the_goal(tmp_path: Path) -> None:
    """Twelve random actions with an eye for knives and doors, then the shortest plan."""
    engine = Engine()
    for seed in range(12):
        chance = Random(seed)
        layout = draw(FULL, chance)
        scene = start(layout, closed=True)
        theirs = engine.ask(load=str(_write(layout, tmp_path / f"game{seed}")))
        assert len(engine.ask(plan=None)["plan"]) == len(plan(scene, layout.task))
        for turn in range(40):
            assert {str(command) for command in admissible(scene)} == set(theirs["actions"])
            assert theirs["won"] == holds(scene, layout.task)
            if theirs["won"]:
                break
            rare = [action for action in theirs["actions"] if action.split()[0] in ("slice", "open", "take")]
            action = str(plan(scene, layout.task)[0]) if turn >= 12 else chance.choice(rare or theirs["actions"])
            command = parse(action)
            assert command is not None
            change(scene, command)
            theirs = engine.ask(do=action)
        assert theirs["won"]
    engine.end()
