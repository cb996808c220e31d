"""COPY out of Postgres, pulled piece by piece: what nobody asked for yet waits in the server, not in memory.

psycopg2 begins no COPY in a process that has a wait callback, as ``db.session`` sets one, and taking it away for a
moment breaks the statements of other threads. So libpq is spoken to directly, on psycopg2's own connection
(``connection.pgconn_ptr``, meant for that) and through the library that psycopg2 itself is linked with.
"""

from __future__ import annotations

import ctypes
import select
import time
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import psycopg2
from psycopg2 import _psycopg, errors, extensions
from sqlalchemy.orm import Session

from db.session import PATIENCE_SECONDS
from rl.errors import DatabaseUnavailable

COMMAND_OK, COPY_OUT, CONNECTION_OK = 1, 3, 0
SQLSTATE = ord("C")
FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "PQsendQuery": (ctypes.c_int, (ctypes.c_void_p, ctypes.c_char_p)),
    "PQflush": (ctypes.c_int, (ctypes.c_void_p,)),
    "PQconsumeInput": (ctypes.c_int, (ctypes.c_void_p,)),
    "PQisBusy": (ctypes.c_int, (ctypes.c_void_p,)),
    "PQstatus": (ctypes.c_int, (ctypes.c_void_p,)),
    "PQerrorMessage": (ctypes.c_char_p, (ctypes.c_void_p,)),
    "PQgetCopyData": (ctypes.c_int, (ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p), ctypes.c_int)),
    "PQfreemem": (None, (ctypes.c_void_p,)),
    "PQgetResult": (ctypes.c_void_p, (ctypes.c_void_p,)),
    "PQresultStatus": (ctypes.c_int, (ctypes.c_void_p,)),
    "PQresultErrorField": (ctypes.c_char_p, (ctypes.c_void_p, ctypes.c_int)),
    "PQresultErrorMessage": (ctypes.c_char_p, (ctypes.c_void_p,)),
    "PQclear": (None, (ctypes.c_void_p,)),
}


@cache
def _libpq() -> Any:
    """The functions above. None of them waits, so they keep the interpreter's lock."""
    library = ctypes.PyDLL(_psycopg.__file__)
    for name, (result, arguments) in FUNCTIONS.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def copy_out(
    session: Session, query: str, values: Mapping[str, object], patience: float = PATIENCE_SECONDS
) -> Iterator[bytes]:
    """The rows of ``query`` in Postgres' binary COPY format, in the session's transaction, as the server sends them.

    ``query`` has its parameters as ``%(name)s``. A connection on which the COPY did not come to its end is closed.

    Raises:
        DatabaseUnavailable: the server went away, or sent nothing for ``patience`` seconds.
    """
    connection: Any = session.connection().connection.driver_connection
    with connection.cursor() as cursor:
        if connection.info.transaction_status == extensions.TRANSACTION_STATUS_IDLE:
            cursor.execute("select 1")  # libpq knows nothing of the transaction that psycopg2 begins by itself
        statement = cursor.mogrify(f"copy ({query}) to stdout (format binary)", values)
    wire, is_over = _Wire(connection, patience), False
    try:
        wire.begin(statement)
        yield from wire.pieces()
        is_over = True
    except psycopg2.OperationalError as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise DatabaseUnavailable(f"the database did not answer: {said[0]}") from error
    except psycopg2.Error:
        is_over = True
        raise
    finally:
        if not is_over:
            connection.close()


class _Wire:
    """One COPY on a connection of psycopg2's."""

    def __init__(self, connection: Any, patience: float) -> None:
        self._pq, self._pointer = _libpq(), connection.pgconn_ptr
        self._descriptor, self._patience = connection.fileno(), patience
        self._poll = select.poll()

    def begin(self, statement: bytes) -> None:
        """Send the statement, and wait until the server begins to answer."""
        if not self._pq.PQsendQuery(self._pointer, statement):
            raise self._lost()
        while (left := self._pq.PQflush(self._pointer)) == 1:
            self._wait(select.POLLIN | select.POLLOUT)
        if left:
            raise self._lost()
        self._end(COPY_OUT)

    def pieces(self) -> Iterator[bytes]:
        """What comes until the end of the COPY."""
        pq, pointer, buffer = self._pq, self._pointer, ctypes.c_void_p()
        where = ctypes.byref(buffer)
        while (size := pq.PQgetCopyData(pointer, where, 1)) != -1:
            if size > 0:
                piece = ctypes.string_at(buffer, size)
                pq.PQfreemem(buffer)
                yield piece
            elif size == 0:
                self._wait(select.POLLIN)
            else:
                raise self._lost()
        self._end(COMMAND_OK)
        while result := pq.PQgetResult(pointer):
            pq.PQclear(result)

    def _end(self, expected: int) -> None:
        """Take the result that comes next, which is of that status unless something is wrong."""
        while self._pq.PQisBusy(self._pointer):
            self._wait(select.POLLIN)
        result = self._pq.PQgetResult(self._pointer)
        try:
            if self._pq.PQresultStatus(result) == expected:
                return
            code = self._pq.PQresultErrorField(result, SQLSTATE)
            message = (self._pq.PQresultErrorMessage(result) or b"").decode(errors="replace")
        finally:
            self._pq.PQclear(result)
        if code is None or self._pq.PQstatus(self._pointer) != CONNECTION_OK:
            raise self._lost()
        while result := self._pq.PQgetResult(self._pointer):
            self._pq.PQclear(result)
        raise errors.lookup(code.decode())(message)

    def _wait(self, events: int) -> None:
        """Wait for the server. Signals are heard meanwhile."""
        self._poll.register(self._descriptor, events)
        began = time.monotonic()
        if not self._poll.poll(self._patience * 1000):
            seconds = time.monotonic() - began
            raise psycopg2.OperationalError(f"could not receive data from server: no answer within {seconds:.1f} s")
        if not self._pq.PQconsumeInput(self._pointer):
            raise self._lost()

    def _lost(self) -> psycopg2.OperationalError:
        said = (self._pq.PQerrorMessage(self._pointer) or b"").decode(errors="replace")
        return psycopg2.OperationalError(said or "the connection was lost")
