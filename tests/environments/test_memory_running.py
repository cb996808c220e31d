from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest

from environments import sandbox
from environments.memory import running
from environments.memory.running import MOST_BYTES, MOST_SHOWN, digest, kept, reported, run, tell
from rl.errors import SandboxUnavailable

FILES = {b"entities/": b"", b"entities/bob.md": b"# Bob\n- pet: gecko\n", b"user.md": b"# Ann\n"}


@pytest.fixture(autouse=True, scope="module")
def _sandbox() -> None:
    try:
        sandbox.level()
    except SandboxUnavailable as error:
        pytest.skip(str(error))


def _told(code: str) -> str:
    return run(FILES, code).told


def test_variables_are_told_and_the_memory_is_as_it_was() -> None:
    turn = run(FILES, 'text = go_to_link("[[entities/bob.md]]")\nfound = list_files()')
    variables = {"text": "# Bob\n- pet: gecko\n", "found": ["entities/bob.md", "user.md"]}
    assert turn.told == f"<result>\n{json.dumps(variables)}\n</result>"
    assert turn.files == FILES
    assert digest(turn.files) == digest(FILES)


def test_all_functions() -> None:
    code = """
made = create_file("entities/new/eve.md", "- a: 1\\n- a: 1\\n- b: 2\\n")
updated = update_file("entities/new/eve.md", "- b: 2", "- b: 3")
text = read_file("entities/new/eve.md")
there = [check_if_file_exists("user.md"), check_if_file_exists("entities"), check_if_dir_exists("entities")]
size = [get_size("user.md"), get_size("entities"), get_size()]
folder = create_dir("empty/deep")
gone = delete_file("entities/bob.md")
"""
    files, told = run(FILES, code)
    assert json.loads(told.split("\n")[1]) == {
        "made": True,
        "updated": True,
        "text": "- a: 1\n- a: 1\n- b: 3\n",
        "there": [True, False, True],
        "size": [6, 40, 46],
        "folder": True,
        "gone": True,
    }
    assert files == {
        b"empty/": b"",
        b"empty/deep/": b"",
        b"entities/": b"",
        b"entities/new/": b"",
        b"entities/new/eve.md": b"- a: 1\n- a: 1\n- b: 3\n",
        b"user.md": b"# Ann\n",
    }


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("x = 1\nread_file('bob.md')", "line 2: FileNotFoundError: there is no file bob.md"),
        ("go_to_link('[[bob]]')", "line 1: FileNotFoundError: there is no file bob"),
        ("delete_file('entities')", "line 1: FileNotFoundError: there is no file entities"),
        ("list_files('x')", "line 1: NotADirectoryError: there is no folder x"),
        ("create_file('user.md')", "line 1: FileExistsError: user.md exists; change it with update_file"),
        (
            "update_file('user.md', 'Bob', '')",
            "line 1: ValueError: the old text must be in user.md once; it is there 0",
        ),
        ("update_file('user.md', 'n', '')", "it is there 2 times"),
        ("update_file('user.md', '', 'x')", "it is there 0 times"),
        ("x = (", "line 1: SyntaxError"),
        ("x = '\0'", "ValueError: source code string cannot contain null bytes"),
        ("x = '\ud800'", "UnicodeEncodeError"),
        ("def f():\n    return 1 / 0\nf()", "line 2: ZeroDivisionError: division by zero"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("import os\nos._exit(3)", "The code ended before it could be told what it did."),
        ("import os\nos._exit(0)", "The code ended before it could be told what it did."),
        ("import os\nos.write(int(os.environ['RESULT_FD']), b'{\"variables\": 1}')", "result's descriptor"),
        ("import os\nos.write(int(os.environ['RESULT_FD']), b'[' * 60000)", "result's descriptor"),
        ("print('x' * 10**6)", "The code printed or wrote too much."),
        ("x = bytearray(10**9)", "MemoryError"),
        ("__import__('os').kill(0, 9)", "The code was ended by a signal."),
    ],
)
def test_errors_are_told(code: str, error: str) -> None:
    turn = run(FILES, code)
    assert error in turn.told
    assert len(turn.told) < 3 * MOST_SHOWN
    assert turn.files == FILES


def test_code_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "LIMITS", sandbox.Limits(wall_seconds=60, cpu_seconds=2, file_bytes=256 * 1024))
    turn = run(FILES, "create_file('a.md', 'kept')\nwhile True: pass")
    assert "The code took longer" in turn.told
    assert turn.files == {**FILES, b"a.md": b"kept"}


def test_what_is_not_json_is_named_and_what_is_long_is_cut() -> None:
    code = """
import json, re
class Odd:
    def __repr__(self): raise ValueError
odd, number, letters, long, _hidden = Odd(), 10**40, {"b", "a"}, "x" * 5000, 1
table = {1: (None, 2.5, True), "deep": [[[[[[1]]]]]], "bytes": b"x", (2,): None}
loop = [1]; loop.append(loop)
lone, far = chr(0xD800), [float("inf"), -0.5]
def helper(): pass
print("said")
"""
    _, line, *rest, _ = _told(code).split("\n")
    variables = json.loads(line)
    assert rest == ["Printed: said"]
    assert variables.pop("long") == "x" * 4000 + "... (5000 characters)"
    assert sorted(variables.pop("letters")) == ["a", "b"]
    assert variables == {
        "odd": "<Odd>",
        "number": "<int>",
        "table": {"1": [None, 2.5, True], "deep": [[[[["<list>"]]]]], "bytes": "<bytes>", "<tuple>": None},
        "lone": "?",
        "far": [float("inf"), -0.5],
        "loop": [1, [1, [1, [1, [1, [1, "<list>"]]]]]],
    }


def test_variables_beyond_all_bounds() -> None:
    assert len(_told("x = [['y' * 100] * 100] * 100")) < 2 * MOST_SHOWN
    assert len(_told("x = ['\\u20ac' * 4000] * 100")) < 2 * MOST_SHOWN
    assert len(_told("x = []\nfor _ in range(90): x = [x] * 90")) < 2 * MOST_SHOWN


def test_links_devices_and_the_host_stay_outside(tmp_path: Path) -> None:
    secret = tmp_path / "secret.md"
    secret.write_text("s3cret")
    code = f"""
import os
os.remove("user.md"); os.symlink({str(secret)!r}, "user.md")
os.symlink("/", "root"); os.link("entities/bob.md", "hard.md"); os.mkfifo("pipe")
for path in ({str(secret)!r}, "../secret.md", "user.md"):
    try: print(read_file(path))
    except OSError as error: print(type(error).__name__)
try: create_file("/etc/new.md", "x")
except OSError as error: print(type(error).__name__)
"""
    files, told = run(FILES, code)
    assert files == {
        **{path: text for path, text in FILES.items() if path != b"user.md"},
        b"hard.md": FILES[b"entities/bob.md"],
    }
    if sandbox.level() is not sandbox.Level.RLIMITS:
        assert "s3cret" not in told
        assert not Path("/etc/new.md").exists()


def test_a_memory_that_is_too_large_is_not_kept() -> None:
    code = f"for i in range(3): create_file(f'{{i}}.md', 'x' * {MOST_BYTES // 3 + 100})"
    files, told = run(FILES, code)
    assert files == FILES
    assert f"larger than {MOST_BYTES} bytes. Nothing is kept." in told
    assert run(FILES, "for i in range(5000): open(f'{i}', 'w')").files == FILES


def test_a_memory_of_many_small_files_is_not_kept_where_they_take_more_than_fits() -> None:
    """In the sandbox each takes a block: what is kept has to fit there again, with as much room to work."""
    code = "import os\nopen('a', 'w').write('x' * 100)\nfor n in range({}): os.link('a', f'a{{n}}')"
    turn = run(FILES, code.format(200))
    assert turn.files == FILES
    assert f"larger than {MOST_BYTES} bytes" in turn.told
    files = run(FILES, code.format(100)).files
    assert len(files) == 101 + len(FILES)
    assert run(files, "print(read_file('a99'))").files == files


def test_nothing_is_written_on_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert run(FILES, "create_file('a.md', 'x')").files == {**FILES, b"a.md": b"x"}
    assert list(tmp_path.iterdir()) == []


def test_names_that_are_no_text_are_files_too() -> None:
    files, _ = run(FILES, "open(b'\\xff', 'w').close()\nopen('two\\nlines', 'w').close()")
    assert files == {**FILES, b"\xff": b"", b"two\nlines": b""}
    assert run(files, "x = 1").files == files


@pytest.mark.parametrize("path", [b"../a", b"a/../../b", b"/etc/passwd", b"a//b", b".", b""])
def test_paths_that_lead_out_are_not_kept(path: bytes) -> None:
    assert not kept({**FILES, path: b""})
    assert kept(FILES)


@pytest.mark.parametrize(
    "result", ["", "[]", "{", '{"variables": {}}', "9" * 5000, "[" * 100_000, '{"variables": {}, "error": 1}']
)
def test_reports_that_are_none(result: str) -> None:
    assert reported(result) == ("{}", "The code wrote to the result's descriptor.")


def test_surrogates_are_no_text() -> None:
    ran = sandbox.Ran("ok", 0, "", "", '{"variables": {"x": "\\ud800"}, "error": ""}', sandbox.Level.RLIMITS, 0.1)
    assert tell(ran) == '<result>\n{"x": "?"}\n</result>'


def test_a_tree_is_hashed_by_paths_and_contents() -> None:
    assert digest({b"a": b"bc"}) != digest({b"ab": b"c"})
    assert digest({b"a": b"1", b"b": b"2"}) == digest({b"b": b"2", b"a": b"1"})
