"""A hub on this machine: speaks the Hugging Face hub's protocol over HTTP, and fails when told to.

Written after the hub's documented routes and what `huggingface_hub` reads: /api/models/…/revision, /resolve
with ETag, X-Repo-Commit, X-Linked-Etag and X-Linked-Size, large files on another host, ranges, tokens.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

LFS_BYTES = 2000
"""Files from this size on lie in the large file storage."""


def git_digest(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclasses.dataclass
class HubRepo:
    """A repository's files by commit, and who may read them."""

    commits: dict[str, dict[str, bytes]]
    """The last one is the newest: branch "main"."""
    token: str = ""
    """Who reads it must send it; empty: it is public."""
    is_gated: bool = False

    def commit(self, revision: str) -> str | None:
        return (
            list(self.commits)[-1] if revision == "main" else (revision if revision in self.commits else None)
        )


@dataclasses.dataclass
class LocalHub:
    """What the hub holds, what it shall do wrong, and what it was asked for."""

    repos: dict[str, HubRepo]
    url: str = ""
    storage_url: str = ""
    """Of the large files: another host."""
    breaks: list[int] = dataclasses.field(default_factory=list)
    """For each of the next large files' bodies, at which byte of the file the connection ends."""
    is_reset: bool = False
    """Whether it ends by a reset instead of in order."""
    answers: list[tuple[int, dict[str, str]]] = dataclasses.field(default_factory=list)
    """Status and headers of the next answers, instead of what was asked for."""
    wrong: dict[str, bytes] = dataclasses.field(default_factory=dict)
    """What is sent for a file instead of its content."""
    ignores_ranges: bool = False
    served: Counter[str] = dataclasses.field(default_factory=Counter)
    """Bytes of bodies by name of the file."""
    requests: list[str] = dataclasses.field(default_factory=list)
    tokens_at_storage: list[str] = dataclasses.field(default_factory=list)
    """Tokens that reached the storage, which is another host and must see none."""


@contextlib.contextmanager
def local_hub(repos: dict[str, HubRepo]) -> Iterator[LocalHub]:
    """Serve repositories until the block ends."""
    hub = LocalHub(repos)

    class Handler(_Handler):
        pass

    Handler.hub = hub
    with _serving("127.0.0.1", Handler) as hub.url, _serving("127.0.0.2", Handler) as hub.storage_url:
        yield hub


def use_hub(served: LocalHub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `huggingface_hub` in this process use a hub and a cache, as HF_ENDPOINT and HF_HOME do."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", served.url)
    template = served.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache / "token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)


@contextlib.contextmanager
def _serving(host: str, handler: type[_Handler]) -> Iterator[str]:
    with ThreadingHTTPServer((host, 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://{host}:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 5.0
    hub: LocalHub

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hub, path = self.hub, unquote(urlsplit(self.path).path)
        hub.requests.append(f"{self.command} {path}")
        if path.startswith("/storage/"):
            self._send_stored(path.removeprefix("/storage/"))
            return
        if hub.answers:
            status, headers = hub.answers.pop(0)
            self._send(status, b"", headers)
            return
        parts = path.strip("/").split("/")
        name = "/".join(parts[2:4] if parts[:2] == ["api", "models"] else parts[:2])
        repo = hub.repos.get(name)
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if repo is None or (repo.token and token not in (repo.token, "refused")):
            self._fail(401, "RepoNotFound", "Repository not found")
        elif token == "refused":
            self._fail(401, "", "Invalid credentials in Authorization header")
        elif repo.is_gated:
            self._fail(403, "GatedRepo", f"Access to model {name} is restricted")
        elif parts[:2] == ["api", "models"]:
            self._send_listing(name, repo, parts[5] if len(parts) > 5 else "main")
        else:
            self._send_file(repo, parts[3], "/".join(parts[4:]))

    def _send_listing(self, name: str, repo: HubRepo, revision: str) -> None:
        commit = repo.commit(revision)
        if commit is None:
            self._fail(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return
        siblings = []
        for file, content in repo.commits[commit].items():
            facts = {"rfilename": file, "size": len(content), "blobId": git_digest(content)}
            if len(content) >= LFS_BYTES:
                digest = hashlib.sha256(content).hexdigest()
                facts["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 134}
            siblings.append(facts)
        listing = {"_id": "0", "id": name, "sha": commit, "private": bool(repo.token), "siblings": siblings}
        self._send(200, json.dumps(listing).encode(), {"Content-Type": "application/json"})

    def _send_file(self, repo: HubRepo, revision: str, file: str) -> None:
        commit = repo.commit(revision)
        if commit is None or file not in repo.commits[commit]:
            code = "RevisionNotFound" if commit is None else "EntryNotFound"
            self._fail(404, code, code)
            return
        content = repo.commits[commit][file]
        headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if len(content) < LFS_BYTES:
            self._send(200, content, {**headers, "ETag": f'"{git_digest(content)}"'}, name=file)
            return
        digest = hashlib.sha256(content).hexdigest()
        headers |= {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(content))}
        # As of a file that could be had by the hub's own protocol of chunks (Xet) as well.
        token = f"{self.hub.url}/api/models/xet-read-token/{commit}"
        headers |= {"X-Xet-Hash": digest, "Link": f'<{token}>; rel="xet-auth"'}
        location = f"{self.hub.storage_url}/storage/{digest}/{file}?signature=1"
        self._send(302, b"", {**headers, "Location": location, "ETag": '"of the redirect"'})

    def _send_stored(self, path: str) -> None:
        digest, _, file = path.partition("/")
        if token := self.headers.get("Authorization"):
            self.hub.tokens_at_storage.append(token)
        everything = (
            c for repo in self.hub.repos.values() for files in repo.commits.values() for c in files.values()
        )
        content = next(c for c in everything if hashlib.sha256(c).hexdigest() == digest)
        content = self.hub.wrong.get(file, content)
        first, headers, status = 0, {"ETag": f'"{digest}"'}, 200
        wanted = self.headers.get("Range", "")
        if wanted.startswith("bytes=") and not self.hub.ignores_ranges:
            first = int(wanted.removeprefix("bytes=").split("-")[0])
            if first >= len(content):
                self._send(416, b"", {"Content-Range": f"bytes */{len(content)}"})
                return
            status = 206
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        end = len(content)
        if self.hub.breaks and self.command == "GET":
            end = max(first, self.hub.breaks.pop(0))
        self._send(status, content[first:], headers, file, end - first)

    def _fail(self, status: int, code: str, message: str) -> None:
        self._send(status, b"", {"X-Error-Code": code, "X-Error-Message": message})

    def _send(
        self,
        status: int,
        body: bytes,
        headers: dict[str, str],
        name: str = "",
        sent_bytes: int | None = None,
    ) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        sent = body[:sent_bytes]
        with contextlib.suppress(OSError):
            self.wfile.write(sent)
            self.wfile.flush()
        if name:
            self.hub.served[name] += len(sent)
        if len(sent) < len(body):
            if self.hub.is_reset:
                # Closing with this set sends a reset, see socket(7).
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
