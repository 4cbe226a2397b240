"""Combined entries of the correction log: which of them count, and which contradict each other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from everymask.errors import InputError
from everymask.labels.correction import CARRIED, CorrectedMask, ImageCorrection, new_entry_id
from everymask.labels.rows import ImageRow


@dataclass
class CorrectionHistory:
    """Every entry of a store's log; grows as files are read.

    `entries` holds them by image id, in the order of their files; an entry in several files occurs once.
    """

    entries: dict[str, list[ImageCorrection]] = field(default_factory=dict)
    _known: set[str] = field(default_factory=set)

    def add(self, found: Iterable[ImageCorrection]) -> None:
        """Add entries, ignoring known ones."""
        for entry in found:
            if entry.entry_id not in self._known:
                self._known.add(entry.entry_id)
                self.entries.setdefault(entry.image_id, []).append(entry)

    def heads(self, image_id: str) -> list[ImageCorrection]:
        """An image's entries that no other is based on, the latest last; empty if nobody corrected it."""
        entries = self.entries.get(image_id, [])
        replaced = {base for entry in entries for base in entry.bases}
        return sorted(
            (entry for entry in entries if entry.entry_id not in replaced),
            key=lambda entry: (entry.imported_at, entry.entry_id),
        )

    def current(self) -> dict[str, ImageCorrection]:
        """The entry that counts for each corrected image, by image id."""
        return {image_id: self.heads(image_id)[-1] for image_id in self.entries}

    def conflicts(self) -> dict[str, list[ImageCorrection]]:
        """Images with several heads, and these heads, the one that counts last."""
        heads = {image_id: self.heads(image_id) for image_id in self.entries}
        return {image_id: several for image_id, several in heads.items() if len(several) > 1}


def on_top(entry: ImageCorrection, heads: Iterable[ImageCorrection]) -> ImageCorrection:
    """The entry, based on the heads that were seen when it was made."""
    return replace(entry, bases=tuple(head.entry_id for head in heads))


def undo(history: CorrectionHistory, image: ImageRow, annotator: str | None, now: str) -> ImageCorrection:
    """An entry that takes back the one that counts: the masks become those of its latest base again.

    Args:
        history: as it was shown.
        image: the row, as the model made it.
        annotator: who takes it back.
        now: UTC, ISO 8601.

    Raises:
        InputError: there is nothing to take back, or it was done before the labels were made anew.
    """
    heads = history.heads(image.image_id)
    by_id = {entry.entry_id: entry for entry in history.entries.get(image.image_id, ())}
    shown = _shown_by(heads[-1], by_id) if heads else None
    if shown is None or shown.tool == CARRIED or image.labels is None:
        raise InputError(f"{image.image_id} has no correction that could be taken back")
    last, base = heads[-1], _latest_base(shown, by_id)
    before = _shown_by(base, by_id) if base else None
    masks = before.masks if before else untouched(image)
    return replace(
        last,
        entry_id=new_entry_id(),
        bases=tuple(head.entry_id for head in heads),
        undoes=last.entry_id,
        annotator=annotator,
        corrected_at=now,
        imported_at=now,
        masks=masks,
    )


def untouched(image: ImageRow) -> tuple[CorrectedMask, ...]:
    """A row's masks as ones that nobody has judged."""
    assert image.labels is not None
    return tuple(
        CorrectedMask("kept", str(mask.mask_id), mask.mask_id, mask.rle, mask.class_id, mask.class_name, 1.0)
        for mask in image.labels.masks
    )


def _shown_by(entry: ImageCorrection, by_id: dict[str, ImageCorrection]) -> ImageCorrection | None:
    """The entry whose masks this one has, following undos back; None for the model's labels."""
    if entry.undoes is None or entry.undoes not in by_id:
        return entry
    undone = _shown_by(by_id[entry.undoes], by_id)
    base = _latest_base(undone, by_id) if undone else None
    return _shown_by(base, by_id) if base else None


def _latest_base(entry: ImageCorrection, by_id: dict[str, ImageCorrection]) -> ImageCorrection | None:
    bases = [by_id[base] for base in entry.bases if base in by_id]
    return max(bases, key=lambda base: (base.imported_at, base.entry_id), default=None)
