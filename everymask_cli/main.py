"""`everymask COMMAND …`: calls the same mains as the scripts of `data_jobs/`, the service and the page.

A package of its own, since the library may not import what is built on it. A command's module is imported only when
that command runs, so that `everymask --help` answers at once.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass

from everymask import __version__


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        words: what the user types after `everymask`.
        module: where its `main(arguments, program)` is; it returns the exit code.
        summary: one line for the list of commands.
    """

    words: tuple[str, ...]
    module: str
    summary: str


COMMANDS = (
    Command(("label",), "data_jobs.label_dataset", "label a folder, a list, a table or a bucket of images"),
    Command(("export",), "data_jobs.export_labels", "turn a label store into a format that other tools read"),
    Command(("review",), "data_jobs.review", "choose what a person should see first, and take their corrections back"),
    Command(("exemplars",), "data_jobs.make_exemplars", "make, find or take pictures of your classes"),
    Command(("train", "classes"), "data_jobs.train_classes", "train a class head on exemplars"),
    Command(("train", "nano"), "data_jobs.train_nano", "train the built-in model"),
    Command(("evaluate",), "data_jobs.evaluate", "measure labels against ground truth"),
    Command(("serve",), "everymask_cli.serve", "start the HTTP service on this machine"),
    Command(("ui",), "ui.app", "start the web page of a running service"),
)


def usage() -> str:
    """The list of commands, as `everymask --help` prints it."""
    width = max(len(" ".join(command.words)) for command in COMMANDS)
    lines = [f"  {' '.join(command.words):<{width}}  {command.summary}" for command in COMMANDS]
    return "\n".join(
        [
            "usage: everymask COMMAND [OPTIONS]     everymask COMMAND --help     everymask --version",
            "",
            "Masks for image collections with the Segment Anything Model.",
            "",
            *lines,
        ]
    )


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code: that of the command it calls, 2 for a command that does not exist."""
    words = sys.argv[1:] if arguments is None else arguments
    if not words or words[0] in ("-h", "--help"):
        print(usage())
        return 0
    if words[0] == "--version":
        print(f"everymask {__version__}")
        return 0
    for command in COMMANDS:
        length = len(command.words)
        if tuple(words[:length]) == command.words:
            run = importlib.import_module(command.module).main
            code: int = run(words[length:], f"everymask {' '.join(command.words)}")
            return code
    known = ", ".join(" ".join(command.words) for command in COMMANDS)
    print(f"error: everymask has no command {words[0]!r}; choose one of {known}", file=sys.stderr)
    return 2
