"""Updates the index and others' corrections while the page is open."""

from __future__ import annotations

import logging
import threading

import pyarrow as pa

from browse.collection import Collection
from browse.index import Progress
from browse.pictures import Pictures
from everymask.errors import EverymaskError
from everymask.files.storage import one_line

logger = logging.getLogger(__name__)

LOCAL_EVERY_S, REMOTE_EVERY_S = 3.0, 20.0


class Renewer:
    """A thread that looks again every few seconds while the block lasts.

    Args:
        collection: what it updates.
        pictures: where it deletes those of erased images.
        progress: receives the reading progress.
    """

    def __init__(self, collection: Collection, pictures: Pictures, progress: Progress) -> None:
        self._collection = collection
        self._pictures = pictures
        self._progress = progress
        self._every_s = LOCAL_EVERY_S if collection.store.root.is_local else REMOTE_EVERY_S
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *ending: object) -> None:
        self._ended.set()
        self._thread.join(timeout=self._every_s)

    def _work(self) -> None:
        while True:
            self._look_once()
            if self._ended.wait(self._every_s):
                return

    def _look_once(self) -> None:
        said = self._collection.trouble
        try:
            self._collection.renew(self._progress)
            self._collection.compact()
            self._pictures.forget_erased()
            self._collection.trouble = None
        except (EverymaskError, OSError, pa.ArrowException) as error:
            self._collection.trouble = one_line(error)
            if said != self._collection.trouble:
                logger.warning("the labels cannot be read again: %s", one_line(error))
