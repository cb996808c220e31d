from __future__ import annotations

from dataclasses import replace

import pytest

from environments.sandbox.commands import Site
from environments.sandbox.launch import Launch
from environments.sandbox.records import Limits

BUILT_IN_SECONDS = (5.0, 10.0)


@pytest.fixture(autouse=True)
def _programs_have_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a limit of wall time is built in, so that a machine which stands still for seconds ends no program.

    Tests of the limit itself have shorter ones.
    """
    begin = Launch.__init__

    def patient(self: Launch, site: Site, limits: Limits) -> None:
        begin(self, site, replace(limits, wall_seconds=60.0) if limits.wall_seconds in BUILT_IN_SECONDS else limits)

    monkeypatch.setattr(Launch, "__init__", patient)
