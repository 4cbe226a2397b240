"""`everymask COMMAND …`: runs the scripts of `data_jobs/`, the service and the pages.

It is a package of its own because the library may not import what is built on it. A command's module is imported only
when that command runs, so `everymask --help` answers at once.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from everymask import __version__


@dataclass(frozen=True)
class Row:
    """A row of the list of commands.

    Attributes:
        words: what the user types after `everymask`.
        place: `module:name` of a function from the words that follow to an exit code.
        summary: one line for the list of commands.
    """

    words: str
    place: str
    summary: str

    def load(self) -> Callable[[Sequence[str]], int]:
        module, name = self.place.split(":")
        return cast(Callable[[Sequence[str]], int], getattr(importlib.import_module(module), name))


COMMANDS = (
    Row("label", "data_jobs.label_dataset:command", "label a folder, a list, a table or a bucket of images"),
    Row("relabel", "data_jobs.relabel:command", "label once more from kept mask embeddings, with another class head"),
    Row("estimate", "data_jobs.estimate:command", "label a sample, and say what all will take"),
    Row("export", "data_jobs.export_labels:command", "turn a label store into a format that other tools read"),
    Row("upgrade", "data_jobs.upgrade_store:command", "copy a label store of an older format into today's"),
    Row("erase", "data_jobs.erase_images:command", "remove images from a label store for good"),
    Row("browse", "everymask_cli.browse:command", "look at a whole label store in a browser, and correct it there"),
    Row("review queue", "data_jobs.review:queue", "choose what a person should see first"),
    Row("review import", "data_jobs.review:import_", "take corrections back from an annotation tool"),
    Row("review report", "data_jobs.review:report", "say how much was changed in a queue"),
    Row("report", "data_jobs.report:command", "say what a store holds, and how wrong its labels can be"),
    Row("exemplars", "data_jobs.make_exemplars:command", "make, find or take pictures of your classes"),
    Row("train classes", "data_jobs.train_classes:command", "train a class head on exemplars or corrections"),
    Row("train nano", "data_jobs.train_nano:command", "train the built-in model"),
    Row("evaluate stored", "data_jobs.evaluate:stored", "measure a label store against ground truth"),
    Row("compare", "data_jobs.compare:command", "say which masks differ between two label stores"),
    Row("evaluate entities", "data_jobs.evaluate:entities", "measure E-SAM's modules, and SAM's automatic masks"),
    Row("evaluate classes", "data_jobs.evaluate:classes", "measure class heads, and SAM + CLIP"),
    Row("evaluate clicks", "data_jobs.evaluate:clicks", "measure a model's answers to clicks"),
    Row("evaluate proposals", "data_jobs.evaluate:proposals", "measure what the masks of a grid of clicks find"),
    Row("serve", "everymask_cli.serve:command", "start the HTTP service on this machine"),
    Row("ui", "ui.app:main", "start the web page of a running service"),
    Row("doctor", "everymask_cli.doctor:command", "say what this machine has, what is missing, and how to get it"),
    Row("selftest", "everymask_cli.selftest.command:command", "compare masks with those of a model's publisher"),
)


def usage(first: str = "") -> str:
    """The list of commands for `everymask --help`; with `first`, only those that begin with that word."""
    rows = [row for row in COMMANDS if not first or row.words.split()[0] == first]
    width = max(len(row.words) for row in rows)
    begin = f"everymask {first}".rstrip()
    return "\n".join(
        [
            f"usage: {begin} COMMAND [OPTIONS]     {begin} COMMAND --help     everymask --version",
            "",
            "Masks for image collections with the Segment Anything Model.",
            "",
            *(f"  {row.words:<{width}}  {row.summary}" for row in rows),
        ]
    )


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns its exit code, or 2 if there is no such command."""
    words = sys.argv[1:] if arguments is None else arguments
    if not words or words[0] in ("-h", "--help"):
        print(usage())
        return 0
    if words[0] == "--version":
        print(f"everymask {__version__}")
        return 0
    for row in COMMANDS:
        length = len(row.words.split())
        if " ".join(words[:length]) == row.words:
            return row.load()(words[length:])
    if words[1:] in (["-h"], ["--help"]) and any(row.words.startswith(f"{words[0]} ") for row in COMMANDS):
        print(usage(words[0]))
        return 0
    alike = [row.words for row in COMMANDS if row.words.split()[0] == words[0]]
    known = ", ".join(alike or [row.words for row in COMMANDS])
    print(f"error: everymask has no command {' '.join(words[:2])!r}; choose one of {known}", file=sys.stderr)
    return 2
