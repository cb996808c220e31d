from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from environments.sandbox.commands import Site
from environments.sandbox.folder import restore, snapshot
from environments.sandbox.records import Limits
from environments.sandbox.running import run_at
from rl.errors import InvalidInput


@pytest.fixture
def vault(tmp_path: Path) -> Path:
    folder = tmp_path / "vault"
    (folder / "entities").mkdir(parents=True)
    (folder / "user.md").write_text("- name: Ann\n")
    (folder / "entities" / "bob.md").write_text("- age: 7\n")
    return folder


def tree(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_program_works_in_the_folder(site: Site, vault: Path) -> None:
    program = """
import os
print(sorted(os.listdir()), open('entities/bob.md').read())
os.remove('user.md')
os.rename('entities/bob.md', 'entities/rob.md')
os.makedirs('new/deep')
open('new/deep/a.md', 'w').write('é')
open('entities/rob.md', 'a').write('- city: Ulm\\n')
"""
    ran = run_at(site, program, folder=vault)
    assert (ran.outcome, ran.stdout) == ("ok", "['entities', 'user.md'] - age: 7\n\n")
    assert tree(vault) == {"entities/rob.md": "- age: 7\n- city: Ulm\n", "new/deep/a.md": "é"}


def test_what_was_done_before_an_error_or_the_end_of_time_stays(site: Site, vault: Path) -> None:
    assert run_at(site, "open('a', 'w').write('1'); 1/0", folder=vault).outcome == "error"
    endless = "import time\nopen('b', 'w').write('2')\nprint('written', flush=True)\ntime.sleep(60)"
    for seconds in (0.5, 3, 30):  # more where this machine was too busy to write it
        ran = run_at(site, endless, folder=vault, limits=Limits(wall_seconds=seconds))
        assert ran.outcome == "timeout"
        if ran.stdout:
            break
    assert tree(vault)["a"] + tree(vault)["b"] == "12"


def test_a_file_that_did_not_change_is_not_written(site: Site, vault: Path) -> None:
    (vault / "user.md").chmod(0o400)
    before = (vault / "user.md").stat()
    run_at(site, "open('entities/bob.md', 'a').write('x')", folder=vault)
    after = (vault / "user.md").stat()
    assert (after.st_mtime_ns, after.st_mode) == (before.st_mtime_ns, before.st_mode)


def test_links_and_pipes_do_not_come_back(held: Site, vault: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    program = f"""
import os, socket
os.symlink({str(secret)!r}, 'link.md')
os.symlink('/', 'root')
os.remove('user.md'); os.symlink({str(secret)!r}, 'user.md')
os.link('entities/bob.md', 'hard.md')
os.symlink('..', 'entities/up')
socket.socket(socket.AF_UNIX).bind('socket')
for make in (os.mkfifo, lambda p: os.mknod(p, 0o20666, os.makedev(1, 3)), lambda p: os.link('/usr/lib/os-release', p)):
    try: make('special')
    except OSError as error: print(type(error).__name__)
try: open('link.md')
except OSError as error: print(type(error).__name__)
"""
    ran = run_at(held, program, folder=vault)
    assert ran.stdout.split() == ["PermissionError", "PermissionError", "FileNotFoundError", "FileNotFoundError"]
    assert tree(vault) == {"entities/bob.md": "- age: 7\n", "hard.md": "- age: 7\n"}
    assert all(stat.S_IFMT(path.lstat().st_mode) in {stat.S_IFREG, stat.S_IFDIR} for path in vault.rglob("*"))
    assert (vault / "hard.md").stat().st_nlink == 1
    assert secret.read_text() == "s3cret"


def test_a_folder_that_its_program_locked_comes_back(held: Site, vault: Path) -> None:
    program = "import os\nos.chmod('user.md', 0); os.chmod('entities', 0); os.chmod('.', 0)"
    assert run_at(held, program, folder=vault).outcome == "ok"
    assert sorted(tree(vault)) == ["entities/bob.md", "user.md"]


@pytest.mark.parametrize(
    "program",
    [
        "for n in range(8): open(str(n), 'w').truncate(16 * 1024**2)",
        "for n in range(5000): open(str(n), 'w')",
        "import os\nfor _ in range(100): os.mkdir('d'); os.chdir('d')",
        "import os\nfor _ in range(60): os.mkdir('d' * 250); os.chdir('d' * 250)",
        "import os\nfor _ in range(16): os.mkdir('d' * 250); os.chdir('d' * 250)\n"
        "os.mkdir('e' * 60); os.chdir('e' * 60); open('x', 'w')",
    ],
    ids=["holes", "many", "deep", "beyond every path", "longer than below the folder"],
)
def test_a_folder_that_became_too_much_stays_as_it_was(held: Site, vault: Path, program: str) -> None:
    ran = run_at(held, f"open('user.md', 'w')\n{program}", folder=vault)
    assert ran.outcome == "output"
    assert tree(vault) == {"entities/bob.md": "- age: 7\n", "user.md": "- name: Ann\n"}


def test_a_path_of_a_kibibyte_comes_back_and_a_longer_one_does_not(held: Site, vault: Path) -> None:
    program = "import os\nfor _ in range(4): os.mkdir('d' * 204); os.chdir('d' * 204)\nopen('x' * {}, 'w')"
    assert run_at(held, program.format(1024 - 4 * 205), folder=vault).outcome == "ok"
    kept = snapshot(vault, 10**6)
    assert max(map(len, kept)) == 1024
    longer = f"import shutil\nshutil.rmtree('d' * 204); open('new', 'w')\n{program.format(1025 - 4 * 205)}"
    assert run_at(held, longer, folder=vault).outcome == "output"
    assert snapshot(vault, 10**6) == kept


@pytest.mark.parametrize("path", [b"d" * 250 + b"/" + b"e" * 255 + b"/" + b"f" * 255 + b"/" + b"g" * 263, b"n" * 256])
def test_a_path_that_is_too_long_is_refused_before_anything_is_touched(vault: Path, path: bytes) -> None:
    before = snapshot(vault, 10**6)
    with pytest.raises(InvalidInput, match="at most 1024 bytes, and 255 of a name"):
        restore(vault, before, [path, b"x"])
    assert snapshot(vault, 10**6) == before


def test_a_folder_with_too_long_a_path_is_refused(tmp_path: Path) -> None:
    deep = tmp_path
    while len(os.fsencode(deep)) < 3071:
        deep = deep / ("d" * 200)
    deep.mkdir(parents=True)
    with pytest.raises(InvalidInput, match="its own path has at most 3070 bytes"):
        snapshot(deep, 10**6)
    with pytest.raises(InvalidInput, match="paths in it have at most 1024 bytes"):
        snapshot(tmp_path, 10**6)


def test_small_files_take_whole_blocks(tmp_path: Path) -> None:
    for number in range(100):
        (tmp_path / str(number)).write_text("x")
    assert len(snapshot(tmp_path, 100 * 4096)) == 100
    with pytest.raises(InvalidInput, match="409599 bytes fit"):
        snapshot(tmp_path, 100 * 4096 - 1)


def test_a_name_that_is_no_text_is_a_name(held: Site, vault: Path) -> None:
    run_at(held, "open(b'\\xff\\n', 'w').write('x')", folder=vault)
    assert (vault / os.fsdecode(b"\xff\n")).read_text() == "x"


def test_a_folder_with_a_link_is_refused(vault: Path) -> None:
    (vault / "link").symlink_to("user.md")
    with pytest.raises(InvalidInput, match="link is neither a file nor a folder"):
        snapshot(vault, 10**6)


def test_a_folder_that_is_too_large_or_absent_is_refused(vault: Path) -> None:
    with pytest.raises(InvalidInput, match="at most 4096 entries and 20 bytes fit"):
        snapshot(vault, 20)
    with pytest.raises(InvalidInput, match="it must be a folder that exists"):
        snapshot(vault / "user.md", 20)


@pytest.mark.parametrize("path", [b"../x", b"/x", b"a/../../x", b"..", b"a//x", b"a\0b", b"./x", b""])
def test_a_path_that_leads_out_is_refused(vault: Path, path: bytes) -> None:
    before = snapshot(vault, 10**6)
    with pytest.raises(InvalidInput, match="it is not inside of the folder"):
        restore(vault, before, [path, b"x"])
    assert snapshot(vault, 10**6) == before


def test_nothing_is_written_through_a_link_that_came_meanwhile(vault: Path, tmp_path: Path) -> None:
    before = snapshot(vault, 10**6)
    (tmp_path / "secret").write_text("s3cret")
    (vault / "user.md").unlink()
    (vault / "user.md").symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match="Too many levels"):
        restore(vault, before, [b"entities/", b"", b"entities/bob.md", b"", b"user.md", b"planted"])
    assert (tmp_path / "secret").read_text() == "s3cret"


NAMES = st.sampled_from(["a", "b", "c"])
TREES = st.recursive(st.binary(max_size=3), lambda inner: st.dictionaries(NAMES, inner, max_size=3), max_leaves=8)


def fields(made: object, inside: bytes = b"") -> list[bytes]:
    if not isinstance(made, dict):
        return []
    found: list[bytes] = []
    for name, value in made.items():
        path = inside + name.encode()
        found += [path, value] if isinstance(value, bytes) else [path + b"/", b"", *fields(value, path + b"/")]
    return found


@given(first=TREES, second=TREES)
def test_restoring_gives_the_tree_that_was_told(
    first: object, second: object, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("tree")
    for made in (first, second):
        told = fields(made)
        restore(folder, snapshot(folder, 10**6), told)
        assert snapshot(folder, 10**6) == dict(zip(told[::2], told[1::2], strict=True))
