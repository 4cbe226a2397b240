"""Labelling a store anew while its labels count (`everymask.labels.updating`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from data_jobs.labelling.id_set import IdSet
from data_jobs.labelling.output import OutputLock, prepare
from data_jobs.labelling.run_configuration import comparable
from data_jobs.runtime.waiting import waiting
from everymask.errors import ConfigurationError
from everymask.labels.corrections import has_corrections
from everymask.labels.erasure import copy_erased
from everymask.labels.provenance import read_run
from everymask.labels.store import LabelStore
from everymask.labels.updating import (
    classes_before,
    drop_update,
    is_begun,
    is_switched,
    put_in_place,
    switch,
    update_of,
)
from everymask.redaction import redact
from everymask.review.carrying import carry_over, check_carriable
from everymask.wording import counted

_SHOWN = 3


def place_of_labels(store: LabelStore, configuration: Callable[[], Mapping[str, Any]]) -> LabelStore:
    """Where a run with `--update` labels: the update of a store, or the store itself if it has these labels, or none.

    Args:
        store: the output, which is locked.
        configuration: of the run, complete.

    Raises:
        ConfigurationError: corrections cannot be carried over to such labels.
        OutputError: the store is not writable.
    """
    record = read_run(store)
    if record is None:
        return store
    now = configuration()
    if comparable(record.config, now) == now:
        if is_begun(store) and _same(update_of(store), now):
            drop_update(store)  # it is in place; a kill came before it was deleted
        return store
    if has_corrections(store):
        check_carriable(record.config.get("class_names"), now.get("class_names"))
    update = update_of(store)
    prepare(update, overwrite=False)
    copy_erased(store, update)
    print(
        f"labelling {redact(store.uri)} anew; what it holds counts until all is labelled"
        + (", then people's corrections are carried over" if has_corrections(store) else ""),
        flush=True,
    )
    return update


def _same(store: LabelStore, configuration: Mapping[str, Any]) -> bool:
    record = read_run(store)
    return record is not None and record.config == configuration


def finish_begun(store: LabelStore) -> None:
    """Put an update in place that counts already, where a run was killed at that.

    Raises:
        ConfigurationError: another run is doing it.
        InputError: the log or the labels cannot be read.
        OutputError: the store is not writable.
    """
    if is_switched(store):
        with OutputLock(store), waiting(f"putting the new labels of {redact(store.uri)} in place"):
            if is_switched(store):
                _put_in_place(store)


def take_over(store: LabelStore) -> None:
    """Let a store's complete update take the place of its labels, with people's corrections. Raises as `finish_begun`.

    Raises:
        ConfigurationError: the store has images that the update lacks; nothing was changed.
    """
    _check_complete(store)
    switch(store)
    with waiting(f"putting the new labels of {redact(store.uri)} in place"):
        carried = _put_in_place(store)
    if carried:
        print(f"the corrections of {counted(carried, 'image')} were carried over", flush=True)


def _put_in_place(store: LabelStore) -> int:
    record = read_run(store)
    now = record.config.get("class_names") if record else None
    carried = carry_over(store, classes_before(store), now)
    put_in_place(store)
    return carried


def _check_complete(store: LabelStore) -> None:
    made = IdSet()
    for ids in _ids(update_of(store)):
        known, _ = made.find(ids)
        made.add_all([image_id for image_id, there in zip(ids, known, strict=True) if not there])
    missing, shown = 0, list[str]()
    for ids in _ids(store):
        lost = [image_id for image_id, there in zip(ids, made.find(ids)[0], strict=True) if not there]
        missing += len(lost)
        shown += lost[: _SHOWN - len(shown)]
    if missing:
        names = ", ".join(shown) + (", …" if missing > len(shown) else "")
        raise ConfigurationError(
            f"{counted(missing, 'image')} of {redact(store.uri)} {'is' if missing == 1 else 'are'} not in the input "
            f"any more ({names}), and the labels there would be lost; the store stays as it was. Give an input that "
            "has all of them, or erase them with `everymask erase`, then run the same command again"
        )


def _ids(store: LabelStore) -> Iterator[list[str]]:
    for part in store.parts():
        yield store.read_columns(part, ["image_id"])["image_id"].to_pylist()
