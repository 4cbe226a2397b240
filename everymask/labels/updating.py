"""Labels made anew take the place of a store's labels at once, however the run is killed.

    STORE/update/         a label store of its own: the new labels, while they are made
    STORE/updated.json    written when they are complete: from then on they count; what stood there may be gone

Then the files of the new store are copied to where they belong, and both of these go. Each step may be repeated, so
`finish_update` goes on where a kill ended it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from everymask.errors import InputError, OutputError
from everymask.files.json_text import parse_json
from everymask.files.location import Location
from everymask.files.storage import one_line, split_query
from everymask.labels.provenance import read_run, write_run
from everymask.labels.schema import FORMAT_VERSION
from everymask.labels.store import LabelStore
from everymask.labels.visible import UPDATE_FOLDER, UPDATED_FILE
from everymask.redaction import redact

_AT_ONCE = 4


def update_of(store: LabelStore) -> LabelStore:
    """Where the new labels of a store are made."""
    place, query = split_query(store.uri)
    return LabelStore(f"{place}/{UPDATE_FOLDER}{query}")


def is_begun(store: LabelStore) -> bool:
    """Whether new labels of a store are being made, or were when a run was killed."""
    return update_of(store).exists()


def is_switched(store: LabelStore) -> bool:
    """Whether the new labels count, and wait for being put in place."""
    return _marker(store).kind() == "file"


def switch(store: LabelStore) -> None:
    """Let the complete update count from now on.

    Raises:
        InputError: there is no update, or its run.json is damaged.
        OutputError: the store is not writable.
    """
    update = update_of(store)
    before, now = read_run(store), read_run(update)
    if now is None:
        raise InputError(f"{redact(store.uri)} has no update to put in place")
    attempts = before.attempts if before else []
    if now.attempts[: len(attempts)] != attempts:
        write_run(update, replace(now, attempts=[*attempts, *now.attempts]))
    content = {"format": FORMAT_VERSION, "class_names": before.config.get("class_names") if before else None}
    _marker(store).write((json.dumps(content) + "\n").encode())


def classes_before(store: LabelStore) -> list[str] | None:
    """The classes of the labels that the update takes the place of; None for entities. InputError if damaged."""
    marker = _marker(store)
    try:
        found = parse_json(marker.read())["class_names"]
        if not isinstance(found, list | None):
            raise TypeError("its class_names are no list")
        return found
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{marker} cannot be read ({one_line(error)}); restore it") from error


def put_in_place(store: LabelStore) -> None:
    """Copy the files of an update that counts to where they belong, and delete the former labels.

    Raises:
        OutputError: the store is not writable.
    """
    update = update_of(store)
    try:
        former = [file for file in store.labels.entries() if store.is_ours(file)]
        _all(Location.delete, [*former, store.shards, store.estimate_file])
        _all(lambda file: _copy(file, update, store), [*_files(update.labels), *_files(update.shards)])
        store.run_file.write(update.run_file.read())
        for folder in (store.labels, store.shards):
            if folder.kind() == "folder":
                folder.sync()
    except OSError as error:
        raise _not_writable(store, error) from error
    drop_update(store)


def drop_update(store: LabelStore) -> None:
    """Delete what is made of an update. Raises OutputError: the store is not writable."""
    try:
        _marker(store).delete()
        if store.root.kind() == "folder":
            store.root.sync()
        update_of(store).root.delete()
    except OSError as error:
        raise _not_writable(store, error) from error


def _marker(store: LabelStore) -> Location:
    return store.root.child(UPDATED_FILE)


def _files(place: Location) -> Iterator[Location]:
    """Every file below a folder, without drafts."""
    for entry in place.entries():
        if entry.kind() == "folder":
            yield from _files(entry)
        elif not entry.name.startswith("."):
            yield entry


def _copy(file: Location, source: LabelStore, target: LabelStore) -> None:
    target.root.child(file.path.removeprefix(source.root.path).strip("/")).write(file.read())


def _all(do: Callable[[Location], None], places: list[Location]) -> None:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(do, places))


def _not_writable(store: LabelStore, error: OSError) -> OutputError:
    return OutputError(f"cannot write {redact(store.uri)} ({one_line(error)}); give write access there")
