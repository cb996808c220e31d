"""Files in and out of the sandbox, from inside. See ``launcher``, whose names it shares, and ``folder``."""

from __future__ import annotations

import posix

MOST_ENTRIES, MOST_DEPTH, MOST_PATH = 4096, 64, 1024
KIND, FOLDER, FILE = 0o170000, 0o040000, 0o100000


def place(work: bytes, files: list[bytes]) -> None:
    """Put a folder's content into ``work``: a path and its content in turns; ``path/`` is a folder."""
    for path, content in zip(files[::2], files[1::2], strict=True):
        if path.endswith(b"/"):
            posix.mkdir(work + b"/" + path)
        else:
            with open(work + b"/" + path, "xb") as file:
                file.write(content)


def collect(work: bytes, most: int) -> list[bytes] | None:
    """What is in ``work``, as ``place`` takes it; None where it is more than a folder may be, or cannot be read.

    Links and whatever else is neither file nor folder are left out. Nobody else writes there meanwhile.
    """
    try:
        return walk(work, most)
    except OSError:
        return None


def walk(work: bytes, most: int) -> list[bytes] | None:
    """See ``collect``. Nothing is opened whose path inside is longer than ``MOST_PATH`` bytes."""
    found: list[bytes] = []
    waiting, size = [(b"", 0)], 0
    while waiting:
        inside, depth = waiting.pop()
        posix.chmod(work + b"/" + inside, 0o700)
        for name in sorted(posix.listdir(work + b"/" + inside)):
            path = inside + name
            if len(path) > MOST_PATH:
                return None
            kind = posix.lstat(work + b"/" + path).st_mode & KIND
            if kind == FOLDER:
                found += [path + b"/", b""]
                waiting.append((path + b"/", depth + 1))
            elif kind == FILE:
                content = read_file(work + b"/" + path, most)
                found += [path, content]
                size += len(content)
            if size > most or len(found) > 2 * MOST_ENTRIES or depth > MOST_DEPTH:
                return None
    return found


def read_file(path: bytes, most: int) -> bytes:
    """A file's content, also where its program took away the right to read it; it may have holes."""
    posix.chmod(path, 0o600)
    with open(path, "rb") as file:
        return file.read(most + 1)
