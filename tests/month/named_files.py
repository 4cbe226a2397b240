"""Every file of a label store and of its mask embeddings is named by something, or it is an orphan."""

from __future__ import annotations

from pathlib import Path

from everymask.classes.embeddings import SETTINGS_FILE, load_embeddings, open_embeddings
from everymask.labels.correction_log import read_history
from everymask.labels.erasure import erased_digests, made_exports
from everymask.labels.shards import shards_of
from everymask.labels.store import LabelStore


def orphans(store: LabelStore) -> list[str]:
    """The files of a finished store, below it, that nothing names; empty folders among them."""
    named = {store.run_file.path, *(part.path for part in store.parts())}
    for shard in shards_of(store.root):
        assert shard.seal() is not None, f"shard {shard.name} is not sealed"
        named |= {file.path for file in shard.files()}
    if named_shards := shards_of(store.root):
        assert {group.shard for group in store.groups()} == set(named_shards)
        named.add(store.listing_file.path)
    read_history(store)  # every file of the log can be read
    named |= {file.path for file in store.corrections.entries()}
    exports = [file.path for file in store.root.child("exports").entries()]
    assert len(exports) == len(made_exports(store))
    assert all(Path(made.output).exists() for made in made_exports(store))
    erased = [file.path for file in store.root.child("erased").entries()]
    assert len(erased) == len(erased_digests(store))
    lock = store.checkpoint.child("lock").path  # of the next run; it stays, as another may wait for it
    named |= {*exports, *erased, lock}
    return [str(path) for path in sorted(Path(store.root.path).rglob("*")) if _is_orphan(path, named)]


def _is_orphan(path: Path, named: set[str]) -> bool:
    if path.is_dir():
        return not any(path.iterdir())
    return str(path) not in named or path.name.startswith(".")


def embedding_orphans(store: LabelStore, folder: Path) -> list[str]:
    """Files of mask embeddings that nothing names, and embeddings of pictures that the store does not have."""
    shards, _ = open_embeddings(folder)
    named = {SETTINGS_FILE, *(shard.name for shard in shards)}
    files = [str(path) for path in sorted(folder.rglob("*")) if path.name not in named]
    labelled = {row.image_id: row.content_sha256 for row in store.images()}
    return files + [
        f"{record.image_id} of {record.content_sha256}"
        for record in load_embeddings(folder)
        if labelled.get(record.image_id) != record.content_sha256
    ]
