"""Class heads as files in a directory: NAME.safetensors is class set NAME, there as soon as the file is."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path

from everymask.classes.head import ClassHead, load_head
from everymask.errors import ConfigurationError
from serve.errors import ServiceError

SUFFIX = ".safetensors"


@dataclass(frozen=True)
class HeadFile:
    """One head as it is on disk now.

    Attributes:
        name: the class set.
        version: changes when the file is replaced.
    """

    name: str
    version: str

    @property
    def model_id(self) -> str:
        """What the classifier loads it by: a replaced file is another model, so no replica answers with the old one."""
        return f"{self.name}@{self.version}"


class HeadDirectory:
    """The heads in one directory. A name from a client is only ever looked up in its listing, never made a path."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def list(self) -> list[HeadFile]:
        """Every head, by name; none when the directory is missing."""
        if not self._directory.is_dir():
            return []
        files = [_head_file(path) for path in self._directory.iterdir()]
        return sorted((file for file in files if file is not None), key=lambda file: file.name)

    def find(self, name: str) -> HeadFile:
        """The head of a class set.

        Raises:
            ServiceError: 404, naming those there are.
        """
        files = self.list()
        for file in files:
            if file.name == name:
                return file
        known = ", ".join(file.name for file in files) or "none yet"
        raise ServiceError(404, "class_set_unknown", f"there is no class set {name[:80]!r}; there are: {known}")

    def load(self, file: HeadFile) -> ClassHead:
        """Read a listed head.

        Raises:
            ConfigurationError: the file is missing, damaged, or no class head. The server's directory is not named.
        """
        try:
            return load_head(self._directory / f"{file.name}{SUFFIX}")
        except ConfigurationError as error:
            raise ConfigurationError(str(error).replace(f"{self._directory}/", "")) from None
        except Exception as error:  # whatever a damaged file can bring about: one head must not end the service
            reason = type(error).__name__
            raise ConfigurationError(f"the class head {file.name}{SUFFIX} cannot be read ({reason})") from None


def _head_file(path: Path) -> HeadFile | None:
    """The head at a path; None when it is none, or is gone by now."""
    # Files half-written by `save_head` begin with a dot; a name that is not Unicode could not be sent to anyone.
    if path.suffix != SUFFIX or path.name.startswith(".") or not path.name.isprintable():
        return None
    try:
        status = path.stat()
    except OSError:
        return None
    return HeadFile(path.stem, f"{status.st_mtime_ns:x}-{status.st_size:x}") if stat.S_ISREG(status.st_mode) else None
