"""A repository of the Hugging Face Hub, brought to hold exactly the files that are given, and looked at afterwards.

Each try looks first at what the repository holds, sends what is missing, and makes one commit on top of what it saw. So
a commit whose answer got lost is found by the next try, a run that was killed is taken up by the next one, and two at
once cannot mix their files. Files that lie there and belong to no model of ours are left alone.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from backends.hub_errors import is_silence, named
from rl.errors import HubRefused, HubUnavailable, InvalidInput, MissingDependency
from rl.model_card import TAG

if TYPE_CHECKING:
    import httpx2
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import ModelInfo, RepoFile

T = TypeVar("T")
Show = Callable[[str, int, int], None]
"""Told what is being done, the bytes that are done, and how many there are."""
Source = Path | bytes

PAUSES = (1.0, 2.0, 4.0)
"""Seconds before each new try where the Hub does not answer, or fails."""
ANSWER_SECONDS = 300.0
"""The Hub may be silent for so long before the connection is given up."""
CHUNK_BYTES = 1 << 20
NOT_OURS = (".gitattributes",)
"""What the Hub puts into every new repository."""
OF_A_MODEL = (
    *("*.safetensors", "*.safetensors.index.json", "*config.json", "tokenizer*", "chat_template.jinja"),
    *("special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt"),
)
"""Names that loaders look for: one that is not among what is published is removed, or would be loaded with it."""


@dataclass(frozen=True)
class Local:
    """A file to publish. The Hub knows large files by their SHA-256, and others by git's hash of their bytes."""

    path: str
    source: Source
    bytes: int
    sha256: str
    git_sha1: str

    def is_in(self, there: RepoFile | None) -> bool:
        """Whether the Hub has these bytes."""
        if there is None:
            return False
        return there.lfs.sha256 == self.sha256 if there.lfs else there.blob_id == self.git_sha1


@dataclass(frozen=True)
class Sent:
    """A file of the repository; ``there``: it held these bytes before."""

    path: str
    bytes: int
    sha256: str
    state: Literal["uploaded", "there"]


@dataclass(frozen=True)
class Published:
    """The commit that holds all ``files``, each of which was looked up there by its hash."""

    repository: str
    revision: str
    files: tuple[Sent, ...]


class Hub:
    """The Hub at ``endpoint``, for the holder of ``token``, which nothing prints."""

    def __init__(self, endpoint: str, token: str) -> None:
        try:
            from huggingface_hub import HfApi, is_offline_mode, set_client_factory
            from huggingface_hub.utils.tqdm import disable_progress_bars
        except ModuleNotFoundError:
            raise MissingDependency("huggingface_hub is not installed here; install rlfleet[hub]") from None
        if is_offline_mode():
            raise HubRefused("HF_HUB_OFFLINE is set, and publishing needs the Hub: unset it")
        disable_progress_bars()
        # Its warnings name addresses that are signed for one upload.
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
        set_client_factory(_client)
        self.endpoint = endpoint.rstrip("/")
        self.api: HfApi = HfApi(endpoint=self.endpoint, token=token, library_name="rlfleet")

    def open(self, repository: str, *, private: bool, show: Show) -> None:
        """Make the repository, unless it is there.

        Raises:
            InvalidInput: its name is none, or it is public and was to be private.
            HubRefused: the token is refused, or may not write there.
            HubUnavailable: the Hub does not answer, or fails.
        """

        def make() -> ModelInfo:
            with named(repository, self.endpoint):
                # Not False: an organisation may have new repositories private unless somebody says otherwise.
                self.api.create_repo(repository, private=private or None, exist_ok=True)
                return self.api.model_info(repository)

        info = retried(make, show)
        if private and not info.private:
            remedy = "it is there and public: make it private on the Hub, leave --private out, or name another one"
            raise InvalidInput("hub", repository, remedy)

    def put(self, repository: str, files: Mapping[str, Source], message: str, show: Show) -> Published:
        """Have the repository hold ``files``, by path, and check that it does.

        Raises:
            InvalidInput: it holds files that were not published by this.
            HubRefused: the token may not write there, or what it holds afterwards is something else.
            HubUnavailable: the Hub does not answer, or fails.
        """
        wanted = [_local(path, source) for path, source in sorted(files.items())]
        before: dict[str, bool] = {}

        def bring() -> Published:
            with named(repository, self.endpoint):
                info = self.api.model_info(repository)
                tree = self._tree(repository, str(info.sha))
                before.update({one.path: one.is_in(tree.get(one.path)) for one in wanted if one.path not in before})
                revision = self._commit(repository, info, tree, wanted, message, show)
                self._check(repository, revision, wanted, show)
            sent = (
                Sent(one.path, one.bytes, one.sha256, "there" if before[one.path] else "uploaded") for one in wanted
            )
            return Published(repository, revision, tuple(sent))

        return retried(bring, show)

    def _tree(self, repository: str, revision: str) -> dict[str, RepoFile]:
        from huggingface_hub.hf_api import RepoFile

        found = self.api.list_repo_tree(repository, recursive=True, revision=revision)
        return {one.path: one for one in found if isinstance(one, RepoFile)}

    def _commit(
        self,
        repository: str,
        info: ModelInfo,
        tree: Mapping[str, RepoFile],
        wanted: list[Local],
        message: str,
        show: Show,
    ) -> str:
        """The revision that holds ``wanted``: the one there is, or one more commit on top of it."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        same = {one.path for one in wanted if one.is_in(tree.get(one.path))}
        others = [path for path in tree if path not in same and path not in NOT_OURS]
        if others and TAG not in _tags(info):
            remedy = f"it holds {others[0]} and its card has no tag {TAG}: name a repository for this alone"
            raise InvalidInput("hub", repository, remedy)
        names = {one.path for one in wanted}
        stale = [path for path in others if path not in names and _is_of_a_model(path)]
        missing = [one for one in wanted if one.path not in same]
        if not missing and not stale:
            return str(info.sha)
        total, done = sum(one.bytes for one in missing), 0
        added: list[CommitOperationAdd] = []
        for one in missing:
            show(f"uploading {one.path}", done, total)
            source = one.source if isinstance(one.source, bytes) else str(one.source)
            added.append(CommitOperationAdd(path_in_repo=one.path, path_or_fileobj=source))
            self.api.preupload_lfs_files(repository, added[-1:], free_memory=False)
            done += one.bytes
        show("committing", done, total)
        removed = [CommitOperationDelete(path) for path in stale]
        operations: list[CommitOperationAdd | CommitOperationDelete] = [*added, *removed]
        return self.api.create_commit(repository, operations, commit_message=message, parent_commit=info.sha).oid

    def _check(self, repository: str, revision: str, wanted: list[Local], show: Show) -> None:
        from huggingface_hub.hf_api import RepoFile

        total = sum(one.bytes for one in wanted)
        show("checking", total, total)
        answer = self.api.get_paths_info(repository, [one.path for one in wanted], revision=revision)
        there = {one.path: one for one in answer if isinstance(one, RepoFile)}
        for one in wanted:
            if not one.is_in(there.get(one.path)):
                what = "is missing" if one.path not in there else "is not what was sent"
                remedy = "publish it again, and do not use what is there"
                raise HubRefused(f"{repository}: {one.path} {what} (SHA-256 {one.sha256}) at {revision}: {remedy}")


def _client() -> httpx2.Client:
    """The client's own would wait for ever."""
    import httpx2

    return httpx2.Client(follow_redirects=True, timeout=httpx2.Timeout(ANSWER_SECONDS, connect=30))


def retried(act: Callable[[], T], show: Show) -> T:
    """What ``act`` gives, which is tried again where the Hub fails or is not reached.

    Silence is not: the Hub's own client has waited for it more than once where that is safe.
    """
    for pause in PAUSES:
        try:
            return act()
        except HubUnavailable as error:
            if is_silence(error):
                raise
            show(f"{error}; trying again in {pause:g} s", 0, 0)
            time.sleep(pause)
    return act()


def _is_of_a_model(path: str) -> bool:
    return "/" not in path and any(fnmatch(path, one) for one in OF_A_MODEL)


def _tags(info: ModelInfo) -> list[str]:
    card = info.card_data.tags if info.card_data else None
    return [*(info.tags or ()), *(card or ())]


def _local(path: str, source: Source) -> Local:
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    sha256, git = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    for chunk in _chunks(source):
        sha256.update(chunk)
        git.update(chunk)
    return Local(path, source, size, sha256.hexdigest(), git.hexdigest())


def _chunks(source: Source) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield source
        return
    with source.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            yield chunk
