"""Checkpoint files: found, or downloaded on first use, verified and cached.

The cache is the directory named by `EVERYMASK_CACHE`, or `~/.cache/everymask`. A download goes to a `.part` file,
resumes after interruptions, and is moved into place only once its sha256 is right, so a file under its final name is
complete. A lock lets only one of several processes download.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import os
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from filelock import FileLock

from everymask.backbone.digests import remembered_sha256
from everymask.backbone.models import MODELS, WeightSource
from everymask.errors import CheckpointError

CACHE_VARIABLE = "EVERYMASK_CACHE"
_CHUNK_BYTES = 1 << 20
_TIMEOUT_S = 30.0
_ATTEMPTS = 5
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True)
class Weights:
    """A complete local checkpoint file, and its sha256 as a lower-case hex digest."""

    path: Path
    sha256: str


def cache_directory() -> Path:
    """The folder of downloaded weights, which need not exist yet."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "everymask"


def resolve_weights(
    source: WeightSource | str | Path, *, attempts: int = _ATTEMPTS, pause_s: float = 1.0, quiet: bool = False
) -> Weights:
    """A checkpoint's local file, downloaded into the cache on first use.

    Args:
        source: a published checkpoint, an http(s) URL, or a local file.
        attempts: consecutive tries without progress before giving up.
        pause_s: wait after the first failed try in seconds; doubles each time.
        quiet: no progress on stderr.

    Raises:
        CheckpointError: missing, not downloadable, not the expected bytes, or no room; it says which.
    """
    if isinstance(source, WeightSource):
        return _Download(source, attempts, pause_s, quiet).run()
    scheme = urlsplit(str(source)).scheme if "://" in str(source) else ""
    if scheme in ("http", "https"):
        return _Download(WeightSource(str(source)), attempts, pause_s, quiet).run()
    if scheme:
        raise CheckpointError(f"checkpoint {source}: {scheme}:// is not supported; give an http(s) URL or a local file")
    path = Path(source).expanduser()
    if not path.is_file():
        raise CheckpointError(f"checkpoint {path} does not exist; check the path given with --checkpoint")
    try:
        return Weights(path, remembered_sha256(path))
    except OSError as error:
        raise CheckpointError(f"checkpoint {path} cannot be read ({error.strerror}); check its permissions") from error


def model_weights(model: str, checkpoint: str | Path | None) -> Weights:
    """The file of a model's checkpoint: the given file or URL, else the published one. Raises as `resolve_weights`."""
    if checkpoint is not None:
        return resolve_weights(checkpoint)
    source = MODELS[model].weights
    assert source is not None, f"{model} comes with its weights"
    if source.token_variable is not None and not os.environ.get(source.token_variable):
        raise CheckpointError(
            f"the weights of {model} are gated, under the {MODELS[model].licence}: ask for access where they are "
            f"({source.url}), then set {source.token_variable}, or give a file with --checkpoint"
        )
    return resolve_weights(source)


def is_cached(source: WeightSource) -> bool:
    """Whether a published checkpoint is in the cache."""
    return _Download(source, attempts=1, pause_s=0.0, quiet=True).target.is_file()


class _Interrupted(Exception):
    """The transfer broke off or the server asked to come back: try again."""


class _Download:
    def __init__(self, source: WeightSource, attempts: int, pause_s: float, quiet: bool) -> None:
        self.source = source
        self.attempts = attempts
        self.pause_s = pause_s
        self.quiet = quiet
        file_name = unquote(urlsplit(source.url).path).rsplit("/", 1)[-1]
        if file_name in ("", ".", "..") or not file_name.isprintable():
            file_name = "weights"
        # The digest keeps apart files of one name from different places.
        identity = source.sha256 or hashlib.sha256(source.url.encode()).hexdigest()
        self.target = cache_directory() / identity[:16] / file_name
        self.part = self.target.with_name(file_name + ".part")
        self.validator = self.target.with_name(file_name + ".etag")

    def run(self) -> Weights:
        try:
            if self.target.is_file():  # Complete, and perhaps on a read-only volume, where no lock can be made.
                return self._verify(self.target)
            self.target.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self.target.with_name(self.target.name + ".lock")):
                if self.target.is_file():
                    return self._verify(self.target)
                self._fetch()
                weights = Weights(self.target, self._verify(self.part).sha256)
                os.replace(self.part, self.target)
                self.validator.unlink(missing_ok=True)
                return weights
        except OSError as error:
            if error.errno in _NO_SPACE:
                raise self._no_space() from error
            raise CheckpointError(
                f"the weights cache {self.target.parent} cannot be written ({error.strerror or error}); "
                f"set {CACHE_VARIABLE} to a writable directory"
            ) from error

    def _verify(self, path: Path) -> Weights:
        digest = remembered_sha256(path)
        if self.source.sha256 in (None, digest):
            return Weights(path, digest)
        path.unlink()
        self.validator.unlink(missing_ok=True)
        raise CheckpointError(
            f"{self.source.url} has sha256 {digest}, expected {self.source.sha256}; the bad copy was deleted: "
            "run again, and if it happens again, the server or a proxy on the way alters the file"
        )

    def _fetch(self) -> None:
        """Complete the `.part` file over as many connections as needed."""
        failures = 0
        while True:
            before = self._have()
            try:
                self._transfer()
                return
            except _Interrupted as interruption:
                failures = 1 if self._have() > before else failures + 1
                if failures >= self.attempts:
                    raise CheckpointError(
                        f"{self.source.url} could not be downloaded after {self.attempts} tries ({interruption}); "
                        "check the connection and run again (it continues where it stopped), "
                        "or give a local file with --checkpoint"
                    ) from interruption
                time.sleep(self.pause_s * 2 ** (failures - 1))

    def _have(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _transfer(self) -> None:
        """Request the missing part over one connection and append what arrives.

        Raises _Interrupted if another try may help, else CheckpointError.
        """
        try:
            with urllib.request.urlopen(self._request(), timeout=_TIMEOUT_S) as response:
                self._receive(response)
        except urllib.error.HTTPError as error:
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                self.part.unlink(missing_ok=True)
                raise _Interrupted("the partial download did not fit the file") from error
            if error.code < 500 and error.code not in (408, 429):
                raise CheckpointError(
                    f"{self.source.url} answered {error.code} {_reason(error)}; check the URL, "
                    "or download the file yourself and give it with --checkpoint"
                ) from error
            raise _Interrupted(f"{error.code} {_reason(error)}") from error
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            raise _Interrupted(str(getattr(error, "reason", None) or error or type(error).__name__)) from error

    def _request(self) -> urllib.request.Request:
        request = urllib.request.Request(self.source.url, headers={"User-Agent": "everymask"})
        if self.source.token_variable is not None:
            # Not sent on to wherever the server redirects.
            token = os.environ.get(self.source.token_variable, "")
            request.add_unredirected_header("Authorization", f"Bearer {token}")
        validator = self.validator.read_text() if self.validator.exists() else None
        if not self._have():
            return request
        if validator is None and self.source.sha256 is None:
            self.part.unlink()  # Nothing would tell whether the file changed since.
            return request
        request.add_header("Range", f"bytes={self._have()}-")
        if validator is not None:
            request.add_header("If-Range", validator)
        return request

    def _receive(self, response: http.client.HTTPResponse) -> None:
        resumed = response.status == http.HTTPStatus.PARTIAL_CONTENT
        start = self._have() if resumed else 0
        if resumed and not (response.headers.get("Content-Range") or "").startswith(f"bytes {start}-"):
            self.part.unlink()
            raise _Interrupted("the server sent another part of the file than was asked for")
        etag = response.headers.get("ETag")
        if etag and not etag.startswith("W/"):
            self.validator.write_text(etag)
        length = response.headers.get("Content-Length", "")
        total = self.source.size_bytes or (start + int(length) if length.isdecimal() else None)
        if total is not None and total - start > shutil.disk_usage(self.target.parent).free:
            raise self._no_space(total - start)
        progress = _Progress(self.target.name, total, self.quiet)
        with self.part.open("ab" if resumed else "wb") as file:
            done = start
            while chunk := response.read(_CHUNK_BYTES):
                done += len(chunk)
                if total is not None and done > total:
                    break
                file.write(chunk)
                progress.show(done)
        progress.finish()
        if total is not None and done > total:
            self.part.unlink()
            self.validator.unlink(missing_ok=True)
            raise CheckpointError(
                f"{self.source.url} sends more than the {total:,} bytes of the file; what came was deleted: check "
                "the URL, or download the file yourself and give it with --checkpoint"
            )
        if total is not None and done < total:
            raise _Interrupted(f"the connection closed after {done} of {total} bytes")

    def _no_space(self, needed: int | None = None) -> CheckpointError:
        amount = f" ({needed / 1e6:.0f} MB needed)" if needed else ""
        return CheckpointError(
            f"no space for {self.target.name} in {self.target.parent}{amount}; "
            f"free some, or set {CACHE_VARIABLE} to a directory on a larger disk"
        )


def _reason(error: urllib.error.HTTPError) -> str:
    """The reason on one line; Python describes a redirect loop on several."""
    return " ".join(str(error.reason).split())


class _Progress:
    """Progress on stderr: a bar in a terminal, a line every tenth in a log."""

    def __init__(self, name: str, total: int | None, quiet: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self.total = total
        self.quiet = quiet
        self.clock = clock
        self.live = sys.stderr.isatty()
        self.shown_at = clock()
        self.shown_tenth = 0

    def show(self, done: int) -> None:
        tenth = 10 * done // self.total if self.total else done // (100 << 20)
        due = self.clock() - self.shown_at > 0.2 if self.live else tenth > self.shown_tenth
        if self.quiet or not due:
            return
        self.shown_at, self.shown_tenth = self.clock(), tenth
        amount = f"{done / 1e6:.0f} MB"
        if self.total:
            share = done / self.total
            amount = f"[{'#' * int(30 * share):<30}] {share:4.0%} of {self.total / 1e6:.0f} MB"
        print(f"{self.name}: {amount}", end="\r" if self.live else "\n", file=sys.stderr, flush=True)

    def finish(self) -> None:
        if self.live and not self.quiet:
            print(file=sys.stderr)
