"""What of the repository reaches the image's build, by the `.dockerignore` file beside the Dockerfile."""

from __future__ import annotations

import fnmatch
import os
import shutil
from pathlib import Path, PurePosixPath


class Ignored:
    """The rules of a `.dockerignore` file; of those that match, the last one counts."""

    def __init__(self, text: str) -> None:
        lines = [line.strip() for line in text.splitlines()]
        self._rules = [(line.lstrip("!"), not line.startswith("!")) for line in lines if line and line[0] != "#"]

    def __call__(self, path: str) -> bool:
        """Whether a path of the repository stays out."""
        prefixes = [str(parent) for parent in PurePosixPath(path).parents if str(parent) != "."] + [path]
        ignored = False
        for pattern, leaves_out in self._rules:
            if any(_matches(prefix, pattern) for prefix in prefixes):
                ignored = leaves_out
        return ignored


def _matches(path: str, pattern: str) -> bool:
    anywhere = pattern.removeprefix("**/")
    if anywhere != pattern:
        return fnmatch.fnmatch(PurePosixPath(path).name, anywhere)
    return path.count("/") == pattern.count("/") and fnmatch.fnmatch(path, pattern)


def copy_context(repository: Path, ignored: Ignored, target: Path) -> None:
    """Copy what the build may see. Folders that stay out are not looked into: no rule can let in what is below one."""
    for folder, names, files in os.walk(repository):
        here = Path(folder).relative_to(repository)
        names[:] = [name for name in names if not ignored(str(here / name))]
        for name in files:
            if not ignored(str(here / name)):
                (target / here).mkdir(parents=True, exist_ok=True)
                shutil.copy2(repository / here / name, target / here / name)
