"""Look at a whole label store in a browser, and correct it there."""

from __future__ import annotations

import getpass
import hashlib
import os
import secrets
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated
from urllib.parse import urlencode

import uvicorn

from browse.app import Page, build_app
from browse.collection import Collection
from browse.guard import LOCAL_NAMES, MIN_KEY_LENGTH
from browse.pictures import Pictures
from browse.renewing import Renewer
from data_jobs.runtime.command import Command
from data_jobs.runtime.exit_codes import DONE
from data_jobs.runtime.options import AddressOptions
from data_jobs.runtime.settings import JOINED
from everymask.backbone.weights import cache_directory
from everymask.errors import ConfigurationError, InputError
from everymask.files.storage import canonical_uri
from everymask.formats.splits import read_split_file
from everymask.images.decoding import ImageLimits
from everymask.labels.address_policy import address_policy
from everymask.labels.store import LabelStore
from everymask.redaction import redact
from everymask.review.queue import read_queue
from everymask.wording import counted
from ui.client import ServiceClient

KEY_VARIABLE = "EVERYMASK_BROWSE_KEY"
SERVICE_KEY_VARIABLE = "EVERYMASK_API_KEY"
QUEUE = "queue"
"""The split that a queue's images are shown as."""
_PROGRESS_EVERY_S = 3.0


@dataclass(frozen=True)
class BrowseOptions:
    """Look at a whole label store in a browser, and correct it there."""

    labels: str
    """Folder or address of the label store."""
    service: str | None = None
    """Address of a running service (`everymask serve`), which turns clicks into masks. Its API key, if any, is read
    from EVERYMASK_API_KEY."""
    annotator: str | None = None
    """Name under which corrections are kept; by default your login name. Each person can set their own in the page."""
    splits: str | None = None
    """The splits.csv of an export, to filter images by."""
    queue: str | None = None
    """A review queue, or the sample of `everymask report`: the page opens with its images, as the split `queue`."""
    host: str = "127.0.0.1"
    """Address to listen on. Any but this machine's own needs a key: EVERYMASK_BROWSE_KEY, or a generated one that is
    printed."""
    port: int = 7870
    """Port to listen on."""
    cache: Path | None = None
    """Folder for the index and the thumbnails; by default in EVERYMASK_CACHE, or ~/.cache/everymask."""
    addresses: Annotated[AddressOptions, JOINED] = field(default_factory=AddressOptions)


def run(options: BrowseOptions) -> int:
    """Serve the page until interrupted; returns the exit code.

    Raises:
        ConfigurationError: the port is in use, or options contradict each other.
        InputError: there is no label store, or the splits cannot be read.
    """
    store = LabelStore(options.labels)
    if not store.exists() and not store.parts():
        raise InputError(f"{store.uri} is not a label store: it has neither run.json nor labels/*.parquet")
    if options.service is not None and not options.service.startswith(("http://", "https://")):
        raise ConfigurationError(f"--service {options.service} is no http(s) address, such as http://127.0.0.1:8000")
    key = _key(options.host, os.environ)
    splits = _splits(options, store)
    folder = (options.cache or cache_directory() / "browse") / _name_of(store)
    collection = Collection(store, folder, splits)
    policy = address_policy(store, options.addresses.local_root, options.addresses.allow_private_networks)
    pictures = Pictures(store, policy, ImageLimits(), folder / "thumbnails")
    service = ServiceClient(options.service, os.environ.get(SERVICE_KEY_VARIABLE)) if options.service else None
    page = Page(collection, pictures, service, options.annotator or _login_name())
    with _listening(options.host, options.port) as listener:
        port = listener.getsockname()[1]
        settings = uvicorn.Config(
            build_app(page, [options.host], key),
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            lifespan="off",
        )
        host = f"[{options.host}]" if ":" in options.host else options.host
        asked = urlencode(({"key": key} if key else {}) | ({"split": QUEUE} if options.queue else {}))
        print(f"open http://{host}:{port}/{asked and f'?{asked}'}", flush=True)
        with Renewer(collection, pictures, _Progress()):
            uvicorn.Server(settings).run(sockets=[listener])
    return DONE


def _splits(options: BrowseOptions, store: LabelStore) -> dict[str, str]:
    """The split of each image by id, as far as files say."""
    if options.queue is None:
        return read_split_file(options.splits) if options.splits else {}
    if options.splits is not None:
        raise ConfigurationError("--queue and --splits both say which split an image is of; give one of them")
    queue = read_queue(options.queue)
    if not queue.is_of(store):
        raise ConfigurationError(f"{options.queue} is a queue of {queue.labels}, not of {redact(store.uri)}")
    return dict.fromkeys(queue.image_ids, QUEUE)


class _Progress:
    """Reports the index's progress every few seconds."""

    def __init__(self) -> None:
        self._said = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._said >= _PROGRESS_EVERY_S:
            self._said = now
            print(f"reading the labels: {done:,} of {counted(total, 'part')}", file=sys.stderr, flush=True)


def _key(host: str, environment: Mapping[str, str]) -> str | None:
    """The page's key; None if only this machine reaches it and none was given."""
    given = environment.get(KEY_VARIABLE)
    if given is not None and len(given) < MIN_KEY_LENGTH:
        raise ConfigurationError(f"{KEY_VARIABLE} has fewer than {MIN_KEY_LENGTH} characters; give a longer one")
    if given is None and host not in LOCAL_NAMES | {"::1"}:
        return secrets.token_urlsafe(24)
    return given


def _listening(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigurationError(
            f"{host}:{port} cannot be used ({reason}); perhaps a page is running there already: stop it, or choose "
            "another --port"
        ) from error


def _name_of(store: LabelStore) -> str:
    return hashlib.sha256(canonical_uri(store.uri).encode()).hexdigest()[:24]


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "somebody"


command = Command(
    "browse",
    BrowseOptions,
    run,
    "Look at a whole label store in a browser, and correct it there; Ctrl-C stops it.",
    interrupted="every step is kept",
    first="labels",
)
