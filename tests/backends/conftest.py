"""What the tests of a backend's libraries need of this process."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def art_alone() -> Iterator[None]:
    """ART in this process, kept from changing transformers, which other tests compute with; gone afterwards."""
    environ, hidden = dict(os.environ), {name: sys.modules.get(name) for name in ("peft", "transformers")}
    sys.modules.update(dict.fromkeys(hidden))  # as where they are not installed
    try:
        import art
        import art.serverless.client
        import art.trajectories
        import art.types  # noqa: F401
    finally:
        for name, module in hidden.items():
            sys.modules.pop(name)
            if module is not None:
                sys.modules[name] = module
        os.environ.clear()
        os.environ.update(environ)
    yield
    for name in [one for one in sys.modules if one.partition(".")[0] in ("art", "litellm")]:
        del sys.modules[name]
