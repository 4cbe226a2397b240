"""The classes of an export: numbered from 0 by `class_id`, without gaps, stable between runs."""

from __future__ import annotations

from collections.abc import Mapping

from everymask.errors import ConfigurationError, InputError
from everymask.labels.provenance import read_run
from everymask.labels.store import LabelStore
from everymask.masks.checked import MAX_CLASSES, check_class_name
from everymask.records import LabelledMask

ENTITY_CLASS = "entity"
"""Class name of masks without a class."""


class ClassNames:
    """Class names by index, from run.json (`known`, in order of index) and from every mask."""

    def __init__(self, known: list[str] | None = None) -> None:
        self._names = dict(enumerate(known or []))

    @classmethod
    def of_store(cls, store: LabelStore) -> ClassNames:
        """The names recorded by the run; none for entities. Raises ConfigurationError if run.json is damaged."""
        record = read_run(store)
        known = (record.config.get("class_names") if record else None) or []
        try:
            if not isinstance(known, list) or len(known) > MAX_CLASSES:
                raise InputError(f"its class_names are no list of at most {MAX_CLASSES:,} names")
            for name in known:
                check_class_name(name)
        except InputError as error:
            raise ConfigurationError(f"{store.run_file}: {error}; restore it") from error
        return cls(known)

    def index(self, mask: LabelledMask) -> int:
        """A mask's class index, 0 for entities; learns its name.

        Raises:
            ConfigurationError: one class_id has two names, or is out of range.
        """
        index = 0 if mask.class_id is None else mask.class_id
        self._learn(index, self.name(mask))
        return index

    def merge(self, known: Mapping[int, str]) -> None:
        """Learn names from elsewhere; raises as `index` does."""
        for index, name in known.items():
            self._learn(index, name)

    def known(self) -> dict[int, str]:
        """The names known so far, by index."""
        return dict(self._names)

    def _learn(self, index: int, name: str) -> None:
        if not 0 <= index < MAX_CLASSES:
            raise ConfigurationError(f"class {name!r} has the id {index}; ids lie below {MAX_CLASSES:,}")
        if self._names.setdefault(index, name) != name:
            raise ConfigurationError(
                f"class {index} is {self._names[index]!r} in one row and {name!r} in another; the store mixes class "
                "heads, so label it again with one"
            )

    @staticmethod
    def name(mask: LabelledMask) -> str:
        """A mask's class name, `entity` for entities."""
        return ENTITY_CLASS if mask.class_name is None else mask.class_name

    def dense(self) -> list[str]:
        """Names in order of index, gaps filled with `class N`; at least `entity`."""
        names = [self._names.get(index, f"class {index}") for index in range(max(self._names, default=-1) + 1)]
        return names or [ENTITY_CLASS]
