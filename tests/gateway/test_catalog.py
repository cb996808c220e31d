"""What routing knows while the database is slow or away, and what is kept of it for the next start."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import update

from db.engines import Address
from db.redacting import Redactions
from db.releases import LineReleases, LiveRelease, NamedVersion
from db.session import transaction
from db.tables import Line
from gateway import catalog
from gateway.catalog import NAME_CHARACTERS, PATIENCE_SECONDS, Catalog, Fresh
from gateway.snapshot import Kept, Snapshot
from rl.errors import DatabaseUnavailable, InvalidSettings
from rl.redaction import Redaction
from tests.gateway.conftest import World

PINNED = NamedVersion(7, "agent-v1.0.7", "ready", None, "main", "qwen", "adapter", "/checkpoints/7")
STABLE = LiveRelease("stable", 50, 7, "agent-v1.0.7", 7, "adapter", "/checkpoints/7", "/base")
SNAPSHOT = Snapshot(
    lines={"main": LineReleases("main", "qwen", (STABLE,), pinned=PINNED), "new": LineReleases("new", "", ())},
    redactions=Redactions({"main": Redaction(kinds=("email",), patterns={"badge": "B[0-9]+"}), "new": None}),
    engines=[Address("gpu0", "http://127.0.0.1:9")],
    pinned=PINNED,
)


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not is_so():
            await asyncio.sleep(0.01)


def test_what_is_kept_is_read_back(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "releases.json")
    assert kept.read("") is None
    kept.write(SNAPSHOT)

    found = kept.read(PINNED.name)

    assert found is not None
    assert found[0] == SNAPSHOT
    assert abs(time.time() - found[1]) < 600
    assert (tmp_path / "releases.json").stat().st_mode & 0o777 == 0o600
    without_pin = kept.read("")
    assert without_pin is not None
    assert without_pin[0].pinned is None
    assert kept.read("agent-v1.0.8") is None, "nothing is known of that pin"


def test_a_redaction_that_was_not_understood_still_is_not(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "releases.json")
    error = InvalidSettings("line main redaction.kinds", "<not shown>", "cannot be understood")
    kept.write(Snapshot({}, Redactions({"main": error}), [], None))

    found = kept.read("")

    assert found is not None
    with pytest.raises(InvalidSettings, match=r"line main redaction\.kinds"):
        found[0].redactions.of("main")


@pytest.mark.parametrize("content", [b"", b"{}", b'{"schema": 1, "lines": 3}'])
def test_a_file_that_cannot_be_read_is_not_used(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "releases.json").write_bytes(content)
    assert Kept(tmp_path / "releases.json").read("") is None


def test_a_file_that_cannot_be_written_leaves_the_one_before(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "releases.json")
    kept.write(SNAPSHOT)
    before = (tmp_path / "releases.json").read_bytes()
    (tmp_path / "releases.json.new").mkdir()

    kept.write(Snapshot({}, Redactions({}), [], None))

    assert (tmp_path / "releases.json").read_bytes() == before


def test_the_catalog_keeps_what_it_reads(world: World, tmp_path: Path) -> None:
    world.release(0, share=40)
    world.engine("cpu@test")
    with transaction() as session:
        config = {"base_model": "random-qwen3", "redaction": {"kinds": ["email"]}}
        session.execute(update(Line).values(config=config))

    async def run() -> Snapshot:
        catalog = Catalog(world.names[1], stale_is_fine=True, keep=tmp_path / "releases.json")
        assert catalog.age is None
        read = await catalog.snapshot()
        assert catalog.age is not None
        return read

    read = asyncio.run(run())
    found = Kept(tmp_path / "releases.json").read(world.names[1])
    assert found is not None
    assert found[0] == read
    assert [one.share for one in found[0].lines["main"].releases] == [40]


def test_a_database_that_hangs_holds_up_nobody_who_knows_enough() -> None:
    let_go, loads = threading.Event(), list[int]()

    def load() -> int:
        loads.append(1)
        let_go.wait(60)
        return len(loads)

    async def run() -> None:
        fresh = Fresh(load, stale_is_fine=True, known=(0, time.time() - 100))
        fresh.away = "it is"  # the reading before failed
        assert [await fresh.value() for _ in range(50)] == [0] * 50
        await until(lambda: bool(loads))
        assert len(loads) == 1, "and it is asked once"
        assert (fresh.age or 0) > 99
        let_go.set()
        while await fresh.value() == 0:
            await asyncio.sleep(0)
        assert (fresh.age or 0) < 60

    asyncio.run(run())


def test_what_is_old_does_not_do_while_the_database_is_only_slow() -> None:
    let_go, said = threading.Event(), ["stable"]

    def load() -> str:
        let_go.wait(60)
        return said[0]

    async def run() -> None:
        idle = Fresh(load, stale_is_fine=True, known=("stable", time.time() - 100))
        said[0] = "killed"
        first = asyncio.ensure_future(idle.value())
        await asyncio.wait({first}, timeout=2 * PATIENCE_SECONDS)
        assert not first.done()
        let_go.set()
        assert await first == "killed"

        let_go.clear()
        busy = Fresh(load, stale_is_fine=True, known=("stable", time.time() + 100))
        assert await busy.value() == "stable", "it is young"
        let_go.set()

    asyncio.run(run())


def test_after_a_reading_that_failed_nobody_waits_for_the_next() -> None:
    let_go, answers = threading.Event(), [False, True]

    def load() -> int:
        if answers.pop():
            raise DatabaseUnavailable
        let_go.wait(60)
        return 1

    async def run() -> None:
        fresh = Fresh(load, stale_is_fine=True, known=(0, time.time() - 100))
        assert await fresh.value() == 0
        fresh._tried -= 100
        assert [await fresh.value() for _ in range(50)] == [0] * 50
        await until(lambda: not answers)  # it is asked again meanwhile
        let_go.set()

    asyncio.run(run())


@pytest.mark.parametrize("error", [DatabaseUnavailable("port 5432"), KeyError("no such column")])
def test_what_is_known_does_where_the_database_refuses(
    error: Exception, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "PATIENCE_SECONDS", 60.0)
    loads = list[int]()

    def load() -> int:
        loads.append(1)
        if len(loads) > 1:
            raise error
        return 7

    async def run() -> None:
        fresh = Fresh(load, stale_is_fine=True)
        for number in range(1, 5):
            fresh._tried -= 100
            assert await asyncio.gather(*[fresh.value() for _ in range(5)]) == [7] * 5
            assert (len(loads), bool(fresh.away)) == (number, number > 1)

        ignorant = Fresh(load, stale_is_fine=True)
        for _ in range(2):
            with pytest.raises(type(error)):
                await ignorant.value()
        assert ignorant.away
        assert str(error) not in fresh.away

    asyncio.run(run())
    logged = [record for record in caplog.records if record.name == catalog.__name__]
    assert len(logged) == 2 * isinstance(error, KeyError), "once for each, not at every reading"


def test_a_name_that_is_too_long_for_a_version_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[str]()
    monkeypatch.setattr(catalog, "_read_version", asked.append)

    async def run() -> None:
        known = Catalog("", stale_is_fine=True)
        for length in (NAME_CHARACTERS, NAME_CHARACTERS + 1, 1 << 20):
            assert await known.version("v" * length) is None

    asyncio.run(run())
    assert asked == ["v" * NAME_CHARACTERS]


def test_who_must_know_what_is_new_waits_or_is_told() -> None:
    answers: list[int | Exception] = [1, DatabaseUnavailable(), DatabaseUnavailable(), 2]

    def load() -> int:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def run() -> None:
        strict = Fresh(load)
        assert await strict.value() == 1
        strict._tried -= 100
        for _ in range(2):
            with pytest.raises(DatabaseUnavailable):
                await strict.value()
        assert strict.away
        assert await strict.value() == 2
        assert not strict.away

    asyncio.run(run())
