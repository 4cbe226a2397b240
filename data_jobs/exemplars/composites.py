"""Composites of exemplars and the user's pictures: made, described like exemplars, and named."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from everymask.classes.embeddings import StoredEmbeddings
from everymask.classes.exemplars.manifest import Exemplar, Origin
from everymask.classes.head import ClassHead
from everymask.classes.training.composites import (
    CompositePlan,
    PastedObjects,
    Read,
    compose,
    find_objects,
    plan_composites,
    shows_no_class,
)
from everymask.errors import ConfigurationError
from everymask.files.location import Location
from everymask.images.decoding import decode_image
from everymask.wording import counted

_READ_AT_ONCE = 64
"""Pictures in memory while composites are made."""


def planned_composites(
    scenes: Sequence[StoredEmbeddings],
    exemplars: Sequence[StoredEmbeddings],
    class_ids: Mapping[str, int],
    head: ClassHead,
    count: int,
    seed: int,
) -> list[CompositePlan]:
    """Plan which objects of which exemplars go into which of the user's pictures.

    Args:
        scenes: mask embeddings of the user's pictures.
        exemplars: those of exemplars.
        class_ids: each exemplar's class, by image id.
        head: trained on the exemplars; finds the objects, and the scenes that show none.
        count: number of composites.
        seed: of the draw.

    Raises:
        ConfigurationError: every scene may show a class, or no object is found.
    """
    empty = [record.image_id for record in scenes if shows_no_class(record.embeddings, head)]
    objects = find_objects(exemplars, class_ids, head)
    if not empty or not objects:
        raise ConfigurationError(
            f"no composite can be made: {len(empty):,} of {counted(len(scenes), 'scene')} without any of the classes, "
            f"and {len(objects):,} of {counted(len(exemplars), 'exemplar')} with an object that is found; give other "
            "--scenes, or --composites 0 to learn from none and only look at them"
        )
    print(
        f"{counted(count, 'composite')} of the objects in {len(objects):,} of {counted(len(exemplars), 'exemplar')}, "
        f"pasted into the {len(empty):,} of {counted(len(scenes), 'scene')} without any of the classes",
        flush=True,
    )
    return plan_composites(empty, objects, count, seed)


def write_composites(
    plans: Sequence[CompositePlan], files: Mapping[str, Path], folder: str
) -> list[tuple[Exemplar, PastedObjects]]:
    """Write the planned pictures to a local folder, made if missing; returns each with its pasted objects.

    `files` are the files of scenes and exemplars, by image id. Raises OutputError if a picture cannot be written.
    """

    @lru_cache(maxsize=_READ_AT_ONCE)
    def read(image_id: str) -> NDArray[np.uint8]:
        return decode_image(files[image_id].read_bytes())

    return [_write(plan, read, folder) for plan in plans]


def _write(plan: CompositePlan, read: Read, folder: str) -> tuple[Exemplar, PastedObjects]:
    pixels, pasted = compose(plan, read)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=95)
    data = stream.getvalue()
    file = f"{plan.image_id}.jpg"
    Location.at(f"{folder}/{file}").write(data)
    return Exemplar(file, "", hashlib.sha256(data).hexdigest(), "", Origin("", "folder")), pasted
