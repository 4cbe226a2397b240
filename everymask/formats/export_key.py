"""A key of everything an export depends on: a killed export resumes only if the key is unchanged."""

from __future__ import annotations

import hashlib

import everymask
from everymask.formats.naming import NamePlan
from everymask.formats.splits import SplitPlan
from everymask.labels.store import LabelStore


def export_key(store: LabelStore, asked: tuple[object, ...], plan: NamePlan, splits: SplitPlan) -> str:
    """32 hexadecimal digits from the store, the request, the images' names and the splits.

    The store's parts and corrections count by name, size and time; the `repr` of each item of `asked` must be complete.
    """
    digest = hashlib.sha256(repr((everymask.__version__, *asked)).encode("utf-8", "surrogatepass"))
    files = [*store.parts(), *store.corrections.entries()]
    for info in files[0].filesystem.get_file_info([file.path for file in files]) if files else []:
        digest.update(repr((info.path, info.size, info.mtime_ns)).encode("utf-8", "surrogatepass"))
    for image_id in plan.numbers:
        line = repr((image_id, plan.name(image_id), splits.of.get(image_id)))
        digest.update(line.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:32]
