"""Remove images from a label store for good: rows, mask embeddings, corrections and previews.

    everymask erase --labels labels --image-ids holiday/beach.jpg party/1.jpg
    everymask erase --labels labels --image-ids ids.txt --embeddings embeddings

It ends with the exports and set-aside files that may still hold them. A later run over the same input passes them over.
Killed, the same command goes on. Exit codes: 0 done; 2 an id that the store does not have, or no label store.
"""

from __future__ import annotations

import shlex
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from data_jobs.labelling.output import OutputLock
from data_jobs.labelling.update import finish_begun
from data_jobs.runtime.command import Command
from data_jobs.runtime.exit_codes import DONE
from data_jobs.runtime.outcome import next_step
from everymask.classes.embeddings import erase_embeddings
from everymask.errors import InputError
from everymask.files.storage import canonical_uri, one_line
from everymask.labels.erasure import erase
from everymask.labels.provenance import read_run
from everymask.labels.store import LabelStore
from everymask.redaction import redact
from everymask.wording import counted


@dataclass(frozen=True)
class EraseConfig:
    """Remove images from a label store for good."""

    labels: str
    """Folder or address of the label store."""
    image_ids: tuple[str, ...]
    """Ids of the images, or one .txt file with an id a line."""
    embeddings: tuple[str, ...] = ()
    """Folders or addresses of mask embeddings that also hold the images."""


def run(config: EraseConfig) -> int:
    """Erase, and say what is left to do; returns the exit code. Raises as `everymask.labels.erasure.erase`."""
    store = LabelStore(canonical_uri(config.labels))
    ids = _ids(config.image_ids)
    finish_begun(store)
    with ExitStack() as locks:
        for one in store.stores():
            one.checkpoint.make_folder()
            locks.enter_context(OutputLock(one))
        done = erase(store, ids)
        kept = sum(erase_embeddings(place, frozenset(ids)) for place in config.embeddings)
    print(
        f"{redact(store.uri)}: {counted(len(ids), 'image')} erased; gone are {counted(done.rows, 'row')}, "
        f"{counted(kept, 'mask embedding')}, the corrections in {counted(done.correction_files, 'file')} "
        "and the previews"
    )
    for made in done.exports:
        print(f"may still hold them: {made.output} ({made.format}, made {made.made_at}); export it again")
    for file in done.quarantined:
        print(f"may still hold them: {file}; delete it")
    record = read_run(store)
    if not config.embeddings and record and any("--save-embeddings" in one.command for one in record.attempts):
        print("the run kept mask embeddings; give --embeddings to erase the images there, too")
    next_step(f"everymask browse {shlex.quote(config.labels)}")
    return DONE


def _ids(given: tuple[str, ...]) -> list[str]:
    if len(given) != 1 or not given[0].endswith(".txt"):
        return list(dict.fromkeys(given))
    try:
        lines = Path(given[0]).read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{given[0]} cannot be read ({one_line(error)}); give a text file with an id a line"
        ) from error
    return list(dict.fromkeys(line for line in lines if line))


command = Command(
    "erase",
    EraseConfig,
    run,
    "Remove images from a label store for good: rows, mask embeddings, corrections and previews. It names the exports "
    "that may still hold them, and later runs pass them over.",
    interrupted="the same command goes on",
)

if __name__ == "__main__":
    sys.exit(command(sys.argv[1:]))
