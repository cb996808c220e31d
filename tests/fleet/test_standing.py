"""A fleet that is no more, or half of one: what `rlfleet status` makes of what is left."""

from __future__ import annotations

import subprocess
from pathlib import Path

from fleet import standing, summary
from fleet.home import Home
from fleet.process_states import Known


def test_variables_of_a_fleet_that_is_no_more_are_named(tmp_path: Path) -> None:
    environ = {"RLFLEET_HOME": str(tmp_path)}
    with Home.open(environ) as home:
        secret = home.secret("postgres.password")
    environ["DATABASE_URL"] = f"postgresql://rlfleet:{secret}@127.0.0.1:9/postgres"
    found = summary.read(environ)
    assert found.status == "stopped"
    assert found.reasons[1].words.startswith("DATABASE_URL of this shell names a fleet that is no more")
    assert secret not in str(found.shown())


def test_a_fleet_without_its_supervisor_is_hurt(tmp_path: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    found = [one.words for one in standing.of_processes(Known(gone.pid, "up", [], {}), tmp_path)]
    assert found == [
        f"the supervisor (pid {gone.pid}) is gone, and what it has started ends: "
        "wait for `rlfleet status` to say stopped, then `rlfleet up --detach`"
    ]
