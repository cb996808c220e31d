"""The functions that code of a reply has. This file's text runs in the sandbox, in the memory's folder.

They only read and write as any code there may: what keeps them inside is the sandbox.
"""
# pathlib takes longer to import there than most code takes to run
# ruff: noqa: PTH103, PTH107, PTH110, PTH112, PTH113, PTH120, PTH202

from __future__ import annotations

import os


def create_file(path: str, content: str = "") -> bool:
    """Make a file that is not there yet, and its folder.

    Raises:
        FileExistsError: it is there.
    """
    if os.path.exists(path):
        raise FileExistsError(f"{path} exists; change it with update_file")
    if folder := os.path.dirname(path):
        os.makedirs(folder, exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(content)
    return True


def read_file(path: str) -> str:
    """The text of a file.

    Raises:
        FileNotFoundError: it is not there.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no file {path}")
    with open(path, encoding="utf-8") as file:
        return file.read()


def update_file(path: str, old: str, new: str) -> bool:
    """Replace the one place in a file where ``old`` stands.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: ``old`` is empty, or stands there never or more than once.
    """
    text = read_file(path)
    count = text.count(old) if old else 0
    if count != 1:
        raise ValueError(f"the old text must be in {path} once; it is there {count} times")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text.replace(old, new))
    return True


def delete_file(path: str) -> bool:
    """Remove a file.

    Raises:
        FileNotFoundError: it is not there.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no file {path}")
    os.remove(path)
    return True


def check_if_file_exists(path: str) -> bool:
    """Whether there is such a file."""
    return os.path.isfile(path)


def create_dir(path: str) -> bool:
    """Make a folder, and those that it is in."""
    os.makedirs(path, exist_ok=True)
    return True


def list_files(path: str = ".") -> list[str]:
    """The paths of all files in a folder and in its folders, sorted.

    Raises:
        NotADirectoryError: there is no such folder.
    """
    if not os.path.isdir(path):
        raise NotADirectoryError(f"there is no folder {path}")
    return sorted(os.path.normpath(f"{folder}/{name}") for folder, _, names in os.walk(path) for name in names)


def check_if_dir_exists(path: str) -> bool:
    """Whether there is such a folder."""
    return os.path.isdir(path)


def get_size(path: str = ".") -> int:
    """Bytes of a file, or of all files in a folder."""
    return os.path.getsize(path) if os.path.isfile(path) else sum(os.path.getsize(file) for file in list_files(path))


def go_to_link(link: str) -> str:
    """The text of the file that a link such as ``[[entities/ada_brandt.md]]`` leads to.

    Raises:
        FileNotFoundError: it is not there.
    """
    return read_file(link.strip().removeprefix("[[").removesuffix("]]").strip())
