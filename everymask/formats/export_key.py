"""What an export is made of, as a key: an export that was killed goes on only if all of it is as it was."""

from __future__ import annotations

import hashlib

import everymask
from everymask.formats.naming import NamePlan
from everymask.formats.splits import SplitPlan
from everymask.labels.store import LabelStore


def export_key(store: LabelStore, asked: tuple[object, ...], plan: NamePlan, splits: SplitPlan) -> str:
    """32 hexadecimal digits.

    Args:
        store: its parts and corrections count by name, size and time.
        asked: what was asked for; each has a `repr` that says all of it.
        plan: the images and their names.
        splits: of the images.
    """
    digest = hashlib.sha256(repr((everymask.__version__, *asked)).encode("utf-8", "surrogatepass"))
    files = [*store.parts(), *store.corrections.entries()]
    for info in files[0].filesystem.get_file_info([file.path for file in files]) if files else []:
        digest.update(repr((info.path, info.size, info.mtime_ns)).encode("utf-8", "surrogatepass"))
    for image_id in plan.numbers:
        line = repr((image_id, plan.name(image_id), splits.of.get(image_id)))
        digest.update(line.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:32]
