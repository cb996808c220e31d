from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def loaded_by(code: str, folder: Path) -> set[str]:
    """The top-level packages that a fresh interpreter with only that folder on its path has afterwards."""
    words = [sys.executable, "-c", f"{code}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    run = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return set(run.stdout.split())


def test_the_folder_alone_is_enough_and_brings_httpx_and_nothing_else(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "recorder", tmp_path / "recorder", ignore=shutil.ignore_patterns("__pycache__"))
    code = (
        "import recorder\n"
        f"assert recorder.__file__ == {str(tmp_path / 'recorder' / '__init__.py')!r}\n"
        "with recorder.Recorder('http://127.0.0.1:1', spool='spool') as client:\n"
        "    client.feedback(1.0, trajectory_id='e')\n"
        "    assert client.flush(30.0)"
    )
    httpx = loaded_by("import httpx; httpx.Client().close()", tmp_path)
    assert loaded_by(code, tmp_path) - httpx - sys.stdlib_module_names == {"recorder"}
