"""What the thread does that keeps the spool's disk in order."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from gateway import storing
from gateway.spool import Spool
from gateway.storing import Drain


@pytest.mark.parametrize("error", [OSError(30, "Read-only file system"), KeyError("c1")])
def test_what_cannot_be_deleted_does_not_keep_the_rest_from_the_disk(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(storing, "SYNC_SECONDS", 0.01)
    spool, failed, synced = Spool(tmp_path, 1 << 20), threading.Event(), threading.Event()

    def forget() -> None:
        failed.set()
        raise error

    monkeypatch.setattr(spool, "forget", forget)
    monkeypatch.setattr(spool, "sync", lambda: synced.set() if failed.is_set() else None)
    drain = Drain(spool)

    assert synced.wait(60)

    assert drain.close()
    spool.close()
    assert f"spool {tmp_path}: what was stored is not deleted" in caplog.text
    assert ("Read-only" if isinstance(error, OSError) else "KeyError") in caplog.text
