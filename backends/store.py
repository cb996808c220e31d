"""The artifact store that hosts share: a bucket of S3 or of what speaks like it, one of GCS, or a folder, by URL.

The wall around ``obstore``. Credentials, region and endpoint come from the clouds' own variables (``AWS_*``,
``GOOGLE_*``), which the library reads. Every call is a coroutine, so that whoever waits for a slow store can go on
renewing a lease, and can stop waiting.
"""

from __future__ import annotations

import atexit
import re
import shutil
import time
import uuid
from asyncio import TaskGroup, to_thread
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote, urlsplit

from rl.errors import MissingDependency, StoreRefused, StoreUnavailable

if TYPE_CHECKING:
    from obstore.store import ClientConfig, GCSStore, LocalStore, RetryConfig, S3Store

T = TypeVar("T")

CLIENT: ClientConfig = {"connect_timeout": "5s", "timeout": "60s", "allow_http": True}
"""An object is at most ``backends.manifest.PART_BYTES`` long. Without TLS only where the endpoint's own URL says so."""
RETRY: RetryConfig = {"max_retries": 3, "retry_timeout": timedelta(seconds=15)}
NO_BUCKET = re.compile(r"NoSuchBucket|bucket does not exist", re.IGNORECASE)
DENIED = re.compile(r"Permission denied|Read-only file system")
NO_CREDENTIALS = re.compile(r"credential|metadata|169\.254\.169\.254", re.IGNORECASE)
REQUEST = re.compile(r"Error performing \w+ (\w+://[^/\s]+)\S* in .*? - (.*)")
USER = re.compile(r"://[^/\s]*@")
CODE = re.compile(r"<Code>([\w.-]{1,60})</Code>")
WORDS = {
    "s3": "set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION, and AWS_ENDPOINT_URL for a server that is not"
    " Amazon's; the key needs to list, get, put and delete",
    "gs": "set GOOGLE_SERVICE_ACCOUNT or GOOGLE_APPLICATION_CREDENTIALS to the file of an account that may list, get,"
    " create and delete",
    "file": "let this account read and write the folder",
}
"""What to do where somebody is refused, by the scheme of the URL."""
DELETES_AT_ONCE = 16
EXIT_SECONDS = 0.2


class Store:
    """The store at ``url``; paths are below it. ``url`` holds no credentials, and may be shown.

    ``deleted`` counts the objects that were asked to go and are gone.

    Raises:
        StoreRefused: the folder of a ``file:`` URL is not there, or a variable of the cloud cannot be used.
        MissingDependency: ``obstore`` is not installed.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.scheme = url.partition(":")[0]
        self.deleted = 0
        self._store = self._open(url)

    def _open(self, url: str) -> S3Store | GCSStore | LocalStore:
        try:
            from obstore import store
            from obstore.exceptions import BaseError
        except ModuleNotFoundError:
            raise MissingDependency("obstore is not installed here; install rlfleet[store]") from None
        _linger_at_exit()
        try:
            if self.scheme == "s3":
                return store.S3Store.from_url(url, client_options=CLIENT, retry_config=RETRY)
            if self.scheme == "gs":
                return store.GCSStore.from_url(url, client_options=CLIENT, retry_config=RETRY)
        except (BaseError, ValueError, OSError) as error:
            raise StoreRefused(f"{self.url} cannot be used: {said(error)}; {WORDS[self.scheme]}") from None
        # Not made where it is missing: what is not mounted would be filled on the disk below it.
        if not self._folder.is_dir():
            raise StoreRefused(f"{self.url}: there is no such folder; mount or make it, or correct RLFLEET_STORE")
        return store.LocalStore(self._folder)

    @property
    def _folder(self) -> Path:
        """The folder of a ``file:`` URL."""
        return Path(unquote(urlsplit(self.url).path) or "/")

    async def put(self, path: str, data: bytes) -> None:
        """Have an object of these bytes there: whole, or as before.

        Raises:
            StoreRefused: it takes none from us; says why.
            StoreUnavailable: it did not answer, or failed. So for every other method.
        """
        import obstore

        with self._named("put", path):
            await obstore.put_async(self._store, path, data, use_multipart=False)

    async def get(self, path: str) -> bytes | None:
        """The bytes of an object; None where there is none."""
        import obstore

        try:
            with self._named("get", path):
                found = await obstore.get_async(self._store, path)
                return bytes(await found.bytes_async())
        except FileNotFoundError:
            return None

    async def modified(self, path: str) -> datetime | None:
        """When an object was written, by the store's clock; None where there is none."""
        import obstore

        try:
            with self._named("head", path):
                return (await obstore.head_async(self._store, path))["last_modified"]
        except FileNotFoundError:
            return None

    async def sizes(self, folder: str) -> dict[str, int]:
        """The objects below ``folder``, with their bytes."""
        import obstore

        found: dict[str, int] = {}
        with self._named("list", folder):
            async for chunk in obstore.list(self._store, f"{folder}/"):
                found |= {one["path"]: one["size"] for one in chunk}
        return found

    async def delete(self, paths: Sequence[str]) -> None:
        """Have none of these objects; those that are not there are fine."""
        for first in range(0, len(paths), DELETES_AT_ONCE):
            await together(self._delete(path) for path in paths[first : first + DELETES_AT_ONCE])

    async def _delete(self, path: str) -> None:
        import obstore

        with suppress(FileNotFoundError), self._named("delete", path):
            await obstore.delete_async(self._store, path)
        self.deleted += 1

    async def clear(self, folder: str) -> None:
        """Have no object below ``folder``, nor what a writer that was killed left there."""
        await self.delete(list(await self.sizes(folder)))
        if self.scheme == "file":
            await to_thread(shutil.rmtree, self._folder / folder, ignore_errors=True)

    async def probe(self) -> None:
        """Write a small object, read it and remove it.

        Raises:
            StoreRefused: that cannot be done; says why.
            StoreUnavailable: it did not answer, or failed, or gave back something else.
        """
        path = f"probe/{uuid.uuid4().hex}"
        await self.put(path, path.encode())
        try:
            if await self.get(path) != path.encode():
                raise StoreUnavailable(f"{self.url}/{path} was written and read back as something else")
        finally:
            await self.delete([path])

    @contextmanager
    def _named(self, doing: str, path: str) -> Iterator[None]:
        """The library's errors as ours. ``FileNotFoundError`` is left where an object is not there."""
        from obstore import exceptions

        where = f"{doing} {self.url}/{path}"
        try:
            yield
        except (exceptions.BaseError, OSError, ValueError) as error:
            if NO_BUCKET.search(str(error)):
                remedy = "make it, or correct RLFLEET_STORE"
                raise StoreRefused(f"{self.url}: there is no such bucket; {remedy}") from None
            if isinstance(error, FileNotFoundError):
                raise
            words, denied = said(error), (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError)
            if isinstance(error, denied) or DENIED.search(words):
                raise StoreRefused(f"{where} was refused ({words}); {WORDS[self.scheme]}") from None
            also = f"; {WORDS[self.scheme]}" if NO_CREDENTIALS.search(words) else ""
            raise StoreUnavailable(f"{where}: {words}{also}") from None


@cache
def _linger_at_exit() -> None:
    """Let the library's threads end what they do for the last answer.

    One that still has hold of the interpreter when this goes aborts the process, whose work is done.
    """
    atexit.register(time.sleep, EXIT_SECONDS)


async def together(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """What all of them return, in order; the first error ends the others."""
    try:
        async with TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]


def said(error: Exception) -> str:
    """The library's words: the server, and what it said, without names, passwords and parts of a signed request."""
    words = USER.sub("://", str(error).strip().split("\n\nDebug source", 1)[0])
    head, _, body = words.partition("<?xml") if "<?xml" in words else words.partition("<Error>")
    head = " ".join(head.split()).rstrip(": ")
    if found := REQUEST.search(head):
        head = f"{found[1]}: {found[2]}"
    code = CODE.search(body)
    return f"{head[:300]}{f': {code[1]}' if code else ''}"
