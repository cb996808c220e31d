from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from environments.sciworld.pool import Pool
from environments.sciworld.simulator import Simulator
from environments.settings import EnvironmentSettings, settings
from rl.errors import ChildLost, EngineUnavailable, InvalidSettings


class Pretended:
    """What the pool knows of a simulator."""

    def __init__(self) -> None:
        self.player: object = None
        self.lives = True

    def alive(self) -> bool:
        return self.lives

    def end(self) -> None:
        self.lives = False


@pytest.fixture
def started() -> list[Pretended]:
    return []


@pytest.fixture
def start(started: list[Pretended]) -> Callable[[], Simulator]:
    def starts() -> Simulator:
        started.append(Pretended())
        return started[-1]  # type: ignore[return-value]

    return starts


def _play(pool: Pool, player: object) -> tuple[Simulator, bool]:
    """The simulator that a player was given, and whether it had the player's game."""
    with pool.simulator(player) as simulator:
        had = simulator.player is player
        simulator.player = player
        return simulator, had


def test_simulators_are_started_when_needed_and_kept(start: Callable[[], Simulator], started: list[Pretended]) -> None:
    pool = Pool(2, start)
    assert started == []
    one, _ = _play(pool, "a")
    assert _play(pool, "a") == (one, True)
    two, had = _play(pool, "b")
    assert (two is one, had, len(started)) == (False, False, 2)
    assert _play(pool, "a") == (one, True)
    assert _play(pool, "b") == (two, True)


def test_the_longest_idle_one_changes_hands(start: Callable[[], Simulator]) -> None:
    pool = Pool(2, start)
    one, _ = _play(pool, "a")
    two, _ = _play(pool, "b")
    assert _play(pool, "c") == (one, False)
    assert _play(pool, "b") == (two, True)
    assert _play(pool, "a") == (one, False)


def test_one_whose_game_is_over_is_taken_first(start: Callable[[], Simulator], started: list[Pretended]) -> None:
    pool = Pool(3, start)
    one, _ = _play(pool, "a")
    two, _ = _play(pool, "b")
    pool.leave("b")
    pool.leave("nobody")
    assert _play(pool, "c") == (two, False)
    assert _play(pool, "a") == (one, True)
    assert len(started) == 2


def test_a_dead_one_is_replaced(start: Callable[[], Simulator], started: list[Pretended]) -> None:
    pool = Pool(1, start)
    one, _ = _play(pool, "a")
    one.end()
    with pytest.raises(ChildLost), pool.simulator("a"):
        raise ChildLost
    other, had = _play(pool, "a")
    assert (other is one, had, len(started)) == (False, False, 2)


def test_after_an_error_the_game_is_not_trusted(start: Callable[[], Simulator]) -> None:
    pool = Pool(1, start)
    one, _ = _play(pool, "a")
    with pytest.raises(KeyboardInterrupt), pool.simulator("a"):
        raise KeyboardInterrupt
    assert _play(pool, "a") == (one, False)


def test_one_that_cannot_start_leaves_its_place(start: Callable[[], Simulator]) -> None:
    starts = iter([ChildLost("no"), None])

    def sometimes() -> Simulator:
        if error := next(starts):
            raise error
        return start()

    pool = Pool(1, sometimes, wait_seconds=0.1)
    with pytest.raises(ChildLost, match="no"):
        _play(pool, "a")
    _play(pool, "a")


def test_waiting_has_an_end(start: Callable[[], Simulator]) -> None:
    pool = Pool(1, start, wait_seconds=0.05)
    with (
        pool.simulator("a"),
        pytest.raises(EngineUnavailable, match=r"all 1 simulators .* raise RLFLEET_SCIWORLD_JVMS"),
        pool.simulator("b"),
    ):
        pass
    _play(pool, "b")


def test_who_waits_goes_on_when_one_is_free(start: Callable[[], Simulator], started: list[Pretended]) -> None:
    pool = Pool(2, start)
    players = [f"player {number}" for number in range(8)]
    turns: list[str] = []

    def plays(player: str) -> None:
        for _ in range(50):
            with pool.simulator(player) as simulator:
                assert simulator.player is None or simulator.player in players
                simulator.player = player
                turns.append(player)
                assert simulator.player is player

    threads = [threading.Thread(target=plays, args=(player,)) for player in players]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {player: turns.count(player) for player in players} == dict.fromkeys(players, 50)
    assert len(started) <= 2
    pool.end()
    assert not any(simulator.lives for simulator in started)


def test_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    assert EnvironmentSettings().sciworld_jvms == 2
    monkeypatch.setenv("RLFLEET_SCIWORLD_JVMS", "3")
    assert EnvironmentSettings().sciworld_jvms == 3
    monkeypatch.setenv("RLFLEET_SCIWORLD_JVMS", "0")
    settings.cache_clear()
    with pytest.raises(InvalidSettings, match="RLFLEET_SCIWORLD_JVMS = '0'"):
        settings()
    settings.cache_clear()
