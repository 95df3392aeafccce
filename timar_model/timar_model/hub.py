"""Downloads from the Hugging Face hub: pinned to a commit, resumed where they broke, verified by digest.

`huggingface_hub` knows the protocol, the cache's layout, tokens and the environment (HF_HOME, HF_ENDPOINT,
HF_HUB_OFFLINE, HF_TOKEN). Its own download begins anew after a break and does not compare digests, so the
bytes are fetched here: into the cache's folder of blobs, from where any program of the hub finds them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from timar_common.progress import ProgressBars

PREFIX = "hub:"
CARD = "README.md"
MAX_FAILURES = 5
"""How often in a row a connection may break, without a byte between, before that is an error."""
_BLOCK = 1 << 20


@dataclasses.dataclass(frozen=True)
class HubFile:
    """A file of a repository at one commit."""

    name: str
    size: int
    digest: str
    """Its name in the cache: 64 hex digits of SHA-256 for large files, 40 of git's SHA-1 for the others."""


@dataclasses.dataclass(frozen=True)
class HubRepository:
    """A repository at one commit, its files not yet downloaded."""

    name: str
    commit: str
    files: dict[str, HubFile]
    """By name; offline those that the cache holds."""

    def __str__(self) -> str:
        return f"{PREFIX}{self.name}@{self.commit}"

    @property
    def cache(self) -> Path:
        """Folder of the repository in the hub's cache."""
        from huggingface_hub import constants
        from huggingface_hub.file_download import repo_folder_name

        return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=self.name, repo_type="model")

    @property
    def folder(self) -> Path:
        """Where its files lie once they are downloaded."""
        return self.cache / "snapshots" / self.commit

    def missing_bytes(self, names: Sequence[str]) -> int:
        """Return how many bytes of some files are still to be downloaded."""
        return sum(
            max(0, self.files[name].size - _size(self._part(name)))
            for name in names
            if not (self.folder / name).exists()
        )

    def download(self, names: Sequence[str], bars: ProgressBars | None = None) -> Path:
        """Download files that the cache lacks, verify all of them, and return the folder they lie in.

        Raises:
            OSError: The hub does not give a file, the connection broke, or a digest is wrong; what had
                arrived of a file until then is kept, and the next call goes on from there.
        """
        for name in names:
            file = self.files[name]
            advance = functools.partial(bars.describe, name) if bars is not None else lambda done, total: None
            if not (self.folder / name).exists():
                with _explained(self.name):
                    self._fetch(file, advance)
            _verify(self.folder / name, file, self)
        return self.folder

    def licence(self) -> str:
        """Return the licence that the downloaded card names; empty where it names none."""
        with contextlib.suppress(OSError, UnicodeDecodeError):
            card = (self.folder / CARD).read_text(encoding="utf-8")
            front = card.partition("---\n")[2].partition("\n---")[0]
            if found := re.search(r"^license:\s*[\"']?([^\s\"']+)", front, re.MULTILINE):
                return found.group(1)
        return ""

    def _part(self, name: str) -> Path:
        return self.cache / "blobs" / f"{self.files[name].digest}.incomplete"

    def _fetch(self, file: HubFile, advance: Callable[[float, float], None]) -> None:
        from huggingface_hub import HfApi, constants, hf_hub_download, hf_hub_url
        from huggingface_hub.utils import WeakFileLock, build_hf_headers  # type: ignore[attr-defined]

        endpoint = HfApi().endpoint
        part, blob = self._part(file.name), self.cache / "blobs" / file.digest
        lock = Path(constants.HF_HUB_CACHE) / ".locks" / self.cache.name / f"{file.digest}.lock"
        part.parent.mkdir(parents=True, exist_ok=True)
        lock.parent.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(lock):
            if not blob.exists():
                url = hf_hub_url(self.name, file.name, revision=self.commit, endpoint=endpoint)
                _stream(url, build_hf_headers(), part, file.size, advance)
                _verify(part, file, self)
                os.replace(part, blob)
        # The blob is there: this only links it, as every program of the hub does.
        hf_hub_download(self.name, file.name, revision=self.commit, endpoint=endpoint)


def parse(source: str) -> tuple[str, str | None]:
    """Return repository and revision (None: the newest) of "hub:OWNER/NAME[@REVISION]"; the prefix may lack.

    Raises:
        ValueError: It is not of this form.
    """
    found = re.fullmatch(r"([\w.-]+/[\w.-]+)(?:@([^@\s]+))?", source.removeprefix(PREFIX))
    if found is None:
        raise ValueError(
            f"the source is {source!r}, expected {PREFIX}OWNER/NAME or {PREFIX}OWNER/NAME@REVISION"
        )
    return found.group(1), found.group(2)


def find_repository(source: str, log: Callable[[str], None] = lambda line: None) -> HubRepository:
    """Resolve a repository and revision to a commit and list its files.

    Where the hub cannot be reached, or HF_HUB_OFFLINE is set, that is what the cache holds of it.

    Args:
        source: As of `parse`.
        log: Takes a line where the hub could not be asked.

    Raises:
        OSError: There is no such repository or revision, it may not be read, or the hub cannot be reached
            and the cache holds nothing of it.
        ValueError: The source is not of this form.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (  # type: ignore[attr-defined]
        HfHubHTTPError,
        HTTPError,
        OfflineModeIsEnabled,
    )

    name, revision = parse(source)
    api = HfApi()
    try:
        with _explained(name, revision):
            info = _patiently(lambda: api.model_info(name, revision=revision, files_metadata=True))
    except OSError as error:
        cause = error.__cause__
        is_out_of_reach = isinstance(cause, (OfflineModeIsEnabled, HTTPError)) and (
            not isinstance(cause, HfHubHTTPError) or cause.response.status_code >= 500
        )
        cached = _cached(name, revision) if is_out_of_reach else None
        if cached is None:
            raise
        log(f"the hub is not asked ({_reason(cause)}); {cached.name} is what was downloaded before")
        return cached
    files = {
        one.rfilename: HubFile(one.rfilename, one.size or 0, one.lfs.sha256 if one.lfs else one.blob_id or "")
        for one in info.siblings or ()
    }
    repository = HubRepository(name, str(info.sha), files)
    _remember(repository, revision)
    return repository


def local_folder(source: str) -> Path:
    """Return the folder in the cache of a repository that was downloaded, asking nobody.

    Raises:
        OSError: It was not; the message says how to get it.
    """
    name, revision = parse(source)
    cached = _cached(name, revision)
    if cached is None:
        raise FileNotFoundError(
            f"{source} was not downloaded to {HubRepository(name, '', {}).cache.parent}; "
            "import the model again, or give the folder of its files"
        )
    return cached.folder


def _cached(name: str, revision: str | None) -> HubRepository | None:
    """Return what the cache holds of a repository at a revision."""
    empty = HubRepository(name, "", {})
    commit = revision or "main"
    with contextlib.suppress(OSError):
        commit = (empty.cache / "refs" / commit).read_text(encoding="ascii").strip()
    folder = dataclasses.replace(empty, commit=commit).folder
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    files = {
        name: HubFile(name, (folder / name).stat().st_size, (folder / name).resolve().name) for name in names
    }
    return HubRepository(name, commit, files) if files else None


def _remember(repository: HubRepository, revision: str | None) -> None:
    """Note in the cache, as the hub's programs do, which commit a revision was; best effort."""
    if revision == repository.commit:
        return
    from timar_common.atomic import write_text

    with contextlib.suppress(OSError):
        write_text(repository.cache / "refs" / (revision or "main"), repository.commit)


def _patiently(call: Callable[[], Any]) -> Any:
    """Return what a call of the hub gives; waits as long as the hub asks for where it is asked too often."""
    from huggingface_hub.errors import HfHubHTTPError

    for attempt in range(MAX_FAILURES):
        try:
            return call()
        except HfHubHTTPError as error:
            wait_s = error.response.headers.get("Retry-After", "")
            if error.response.status_code != 429 or not wait_s.isdigit() or attempt == MAX_FAILURES - 1:
                raise
            time.sleep(float(wait_s))
    raise AssertionError


def _stream(
    url: str, headers: dict[str, str], part: Path, size: int, advance: Callable[[float, float], None]
) -> None:
    """Append to a file what it lacks of a download; each byte is on the disk as it arrives."""
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError, HTTPError  # type: ignore[attr-defined]
    from huggingface_hub.utils import hf_raise_for_status, http_stream_backoff  # type: ignore[attr-defined]

    part.touch()
    failures = 0
    while (begun := _size(part)) < size:
        # Compressed on its way, a range of it would mean something else.
        wanted = {**headers, "Accept-Encoding": "identity", "Range": f"bytes={begun}-"}
        try:
            with http_stream_backoff(
                "GET",
                url,
                headers=wanted,
                timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
                retry_on_exceptions=(),
                retry_on_status_codes=(408, 429),
            ) as response:
                hf_raise_for_status(response)
                is_rest = response.status_code == 206
                with part.open("ab" if is_rest else "wb", buffering=0) as file:
                    for chunk in response.iter_bytes():
                        file.write(chunk)
                        advance(file.tell(), size)
        except HfHubHTTPError:
            raise
        except HTTPError:
            failures = 0 if _size(part) > begun else failures + 1
            if failures >= MAX_FAILURES:
                raise
            time.sleep(min(8.0, 0.25 * 2**failures))
    advance(size, size)


def _verify(path: Path, file: HubFile, repository: HubRepository) -> None:
    """Compare a file with its digest; a wrong one is removed, so that the next call fetches it again.

    Raises:
        OSError: It is another.
    """
    if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", file.digest):
        return  # A cache without links does not say.
    is_git = len(file.digest) == 40
    # A git blob's name is the digest of its header and content, see gitformat-pack(5).
    digest = hashlib.sha1() if is_git else hashlib.sha256()
    digest.update(b"blob %d\0" % _size(path) if is_git else b"")
    with path.open("rb", buffering=0) as opened:
        block = memoryview(bytearray(_BLOCK))
        while count := opened.readinto(block):
            digest.update(block[:count])
    if digest.hexdigest() != file.digest:
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        raise OSError(
            f"{file.name} of {repository} has the digest {digest.hexdigest()[:12]}…, expected "
            f"{file.digest[:12]}…; it was removed, call again to download it anew"
        )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


@contextlib.contextmanager
def _explained(name: str, revision: str | None = None) -> Iterator[None]:
    """Say in one sentence what the hub answered, in the place of its library's errors."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import (  # type: ignore[attr-defined]
        GatedRepoError,
        HfHubHTTPError,
        HTTPError,
        OfflineModeIsEnabled,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    hub = HfApi().endpoint
    log_in = "log in (hf auth login) or set HF_TOKEN"
    try:
        yield
    except GatedRepoError as error:
        raise PermissionError(f"{name} is gated: accept its terms at {hub}/{name}, then {log_in}") from error
    except RevisionNotFoundError as error:
        raise FileNotFoundError(
            f"{name} at {hub} has no revision {revision!r}; leave @{revision} out for the newest"
        ) from error
    except RemoteEntryNotFoundError as error:
        raise FileNotFoundError(f"{name} at {hub} lacks a file that it lists; try again later") from error
    except RepositoryNotFoundError as error:
        raise FileNotFoundError(
            f"there is no repository {name} at {hub}, or it is private; check the name, or {log_in}"
        ) from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        remedy = {
            401: f"the token is not valid; {log_in} anew",
            403: "your token may not read it; ask its owner, or use another token",
            429: f"it was asked too often; wait some minutes, or {log_in}, for which the limit is higher",
        }.get(status, "try again later")
        raise OSError(f"{hub} answered {status} for {name}: {remedy}") from error
    except OfflineModeIsEnabled as error:
        raise FileNotFoundError(
            f"{name} was not downloaded to {constants.HF_HUB_CACHE} before, and HF_HUB_OFFLINE is set; "
            "unset it, or give the folder of its files"
        ) from error
    except HTTPError as error:
        raise ConnectionError(
            f"the connection to {hub} broke ({_reason(error)}); call again, and the download of {name} goes "
            "on where it stopped"
        ) from error


def _reason(error: BaseException | None) -> str:
    from huggingface_hub.errors import OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set"
    return (str(error).splitlines() or [""])[0] or type(error).__name__
