from __future__ import annotations

from pathlib import Path

import pytest

from rl.errors import InvalidSettings
from rl.secret_files import resolve, value_of


def test_a_file_is_read_without_one_newline_at_its_end(tmp_path: Path) -> None:
    for content, held in {"hush": "hush", "hush\n": "hush", "hush\r\n": "hush", " a b\n\n": " a b\n"}.items():
        (tmp_path / "key").write_bytes(content.encode())
        assert value_of({"KEY_FILE": str(tmp_path / "key")}, "KEY") == held


def test_what_is_set_to_nothing_counts_as_unset(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("hush\n")
    assert value_of({"KEY": "", "KEY_FILE": str(tmp_path / "key")}, "KEY") == "hush"
    assert value_of({"KEY": "open", "KEY_FILE": ""}, "KEY") == "open"
    assert value_of({"KEY": ""}, "KEY") is None
    assert value_of({}, "KEY") is None


def test_both_are_refused_by_name_and_never_by_value(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("hush\n")
    with pytest.raises(InvalidSettings, match="KEY and KEY_FILE are both set: unset one of them") as said:
        value_of({"KEY": "hush", "KEY_FILE": str(tmp_path / "key")}, "KEY")
    assert "hush" not in str(said.value)


@pytest.mark.parametrize("content", [b"", b"\n", b"\r\n"])
def test_an_empty_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(InvalidSettings, match=r"^KEY_FILE = '.*/key': the file is empty: put the value of KEY there"):
        value_of({"KEY_FILE": str(tmp_path / "key")}, "KEY")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path, why in {tmp_path / "none": "No such file or directory", tmp_path: "Is a directory"}.items():
        with pytest.raises(InvalidSettings, match=rf"^KEY_FILE = '{path}': the file cannot be read \({why}\)"):
            value_of({"KEY_FILE": str(path)}, "KEY")


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidSettings, match="name a file of UTF-8 text"):
        value_of({"KEY_FILE": str(tmp_path / "key")}, "KEY")


def test_a_secret_in_the_place_of_a_path_is_not_shown() -> None:
    with pytest.raises(InvalidSettings, match=r"^KEY_FILE = '<hidden>'") as said:
        value_of({"KEY_FILE": "hush"}, "KEY")
    assert "hush" not in str(said.value)


def test_all_are_resolved_or_none(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("hush\n")
    environ = {"ONE_FILE": str(tmp_path / "one"), "TWO": "open", "TWO_FILE": str(tmp_path / "one"), "PATH": "/bin"}
    before = dict(environ)
    with pytest.raises(InvalidSettings, match="TWO and TWO_FILE"):
        resolve(environ, ("ONE", "TWO", "THREE"))
    assert environ == before
    del environ["TWO"]
    resolve(environ, ("ONE", "TWO", "THREE"))
    assert environ == {"ONE": "hush", "TWO": "hush", "PATH": "/bin"}
