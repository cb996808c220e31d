from __future__ import annotations

import pytest

from environments.sandbox import probe
from environments.sandbox.commands import Site
from environments.sandbox.records import Level

HELD = [Level.BUBBLEWRAP, Level.NAMESPACES]


def _site(level: Level) -> Site:
    found = probe.at(level)
    if isinstance(found, str):
        pytest.skip(f"{level}: {found}")
    return found


@pytest.fixture(params=list(Level))
def site(request: pytest.FixtureRequest) -> Site:
    """Each level of this machine."""
    return _site(request.param)


@pytest.fixture(params=HELD)
def held(request: pytest.FixtureRequest) -> Site:
    """Each level that promises more than limits."""
    return _site(request.param)
