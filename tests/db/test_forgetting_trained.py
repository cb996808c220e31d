"""What was made of an agent's trajectories, and trainings that read them while they are to be erased."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Event, Thread

import pytest

from db import forgetting, freezing, lines
from db.session import transaction
from rl.errors import TransientError
from tests.db.kept import (
    HOUR,
    NEXT,
    add_line,
    add_window,
    episode,
    everything,
    frozen,
    job,
    left,
    run,
    set_state,
    version,
)
from tests.db.test_forgetting import TWO, counted, forget, shared

pytestmark = pytest.mark.usefixtures("fresh")


def test_datasets_and_versions_that_had_any_are_marked_and_others_are_not() -> None:
    job_id, dataset = frozen(shared())
    made = version(job_id)
    with transaction() as session:
        other = add_window(session, add_line(session), NEXT, episode("c", "bob"))
    untouched = version(frozen(other)[0])
    files: list[int] = []

    def remove(jobs: Sequence[int]) -> int:
        files.extend(jobs)
        return 7

    done = forgetting.forget("alice", None, remove)
    assert (done.marked.datasets, done.marked.versions, done.marked.unfrozen) == ({dataset}, {made.name}, set())
    assert (files, done.files) == ([job_id], 7)
    assert run("select id from rlfleet.datasets where erased_at is not null") == [dataset]
    assert run("select name, erased_at is not null from rlfleet.versions order by id") == [
        (made.name, True),
        (untouched.name, False),
    ]
    assert run("select count(*) from rlfleet.dataset_trajectories where dataset_id = :id", id=dataset) == [3]


def test_a_running_training_on_it_is_named_and_nothing_is_erased() -> None:
    job_id, _ = frozen(shared(), "running")
    before = everything()
    with pytest.raises(TransientError, match=rf"^job {job_id} of line main is training on .*jobs cancel {job_id}`$"):
        forget()
    assert everything() == before
    set_state(job_id, "succeeded")
    assert counted(forget()) == TWO


@pytest.mark.parametrize("state", ["queued", "failed", "dead", "cancelled"])
def test_a_training_that_may_run_again_freezes_what_is_left(state: str) -> None:
    window = shared()
    job_id, _ = frozen(window, state)
    run('update rlfleet.jobs set resume = \'{"path": "/state"}\' where id = :id', id=job_id)
    done = forget()
    assert (done.marked.unfrozen, done.marked.datasets, done.files) == ({job_id}, set(), 1)
    assert run("select resume from rlfleet.jobs where id = :id", id=job_id) == [None]
    with transaction() as session:
        line = lines.named(session, "main")
        again = freezing.freeze(session, line, job_id, [HOUR], {"objective": "weighted_sft"})
        assert again.manifest["trajectories"] <= 1
    assert set(run("select trajectory_id from rlfleet.dataset_trajectories")) <= {"main-b"}


def test_a_training_that_freezes_at_this_moment_is_waited_for_and_then_named() -> None:
    shared()
    job_id = job("train", "running", windows=[HOUR])
    raised: list[Exception] = []
    begun = Event()

    def erase() -> None:
        begun.set()
        try:
            forget()
        except TransientError as error:
            raised.append(error)

    thread = Thread(target=erase)
    with transaction() as freezer:
        line = lines.named(freezer, "main")
        freezing.freeze(freezer, line, job_id, [HOUR], {"objective": "weighted_sft"})
        thread.start()
        begun.wait()
        waits = "wait_event_type = 'Lock' and query like '%no key update%'"
        while run(f"select count(*) from pg_stat_activity where {waits}") == [0]:  # noqa: S608
            assert thread.is_alive()
    thread.join()
    assert [str(one).partition(" is training")[0] for one in raised] == [f"job {job_id} of line main"]
    assert left() == {"main-a0", "main-a1", "main-b"}
