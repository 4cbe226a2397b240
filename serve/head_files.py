"""Class heads as files in folders: NAME.safetensors is head NAME, available as soon as the file exists."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from everymask.classes.head import ClassHead, load_head
from everymask.errors import ConfigurationError
from serve.errors import ServiceError

SUFFIX = ".safetensors"


@dataclass(frozen=True)
class HeadFile:
    """One head's current file.

    Attributes:
        name: what clients ask for.
        version: changes when the file is replaced.
        folder: where it lies; the first in the list with that name.
    """

    name: str
    version: str
    folder: Path

    @property
    def model_id(self) -> str:
        """The classifier's key for it; a replaced file gets another, so no replica answers with the old one."""
        return f"{self.name}@{self.version}"


class HeadFolders:
    """The heads in a list of folders. Client names are looked up in a listing, never used as paths."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = tuple(folders)

    def list(self) -> list[HeadFile]:
        """Every head, by name. If two folders hold the name, the first wins; a missing folder has none."""
        found: dict[str, HeadFile] = {}
        for folder in self._folders:
            for path in folder.iterdir() if folder.is_dir() else ():
                file = _head_file(path)
                if file is not None:
                    found.setdefault(file.name, file)
        return [found[name] for name in sorted(found)]

    def find(self, name: str) -> HeadFile:
        """A head by name; ServiceError 404, naming the existing ones, if there is none."""
        files = self.list()
        for file in files:
            if file.name == name:
                return file
        known = ", ".join(file.name for file in files) or "none yet"
        raise ServiceError(404, "head_unknown", f"there is no class head {name[:80]!r}; there are: {known}")

    def load(self, model_id: str) -> ClassHead:
        """Read the head that `HeadFile.model_id` names, in its current version.

        Raises:
            ConfigurationError: the file is missing, damaged, or no class head; the server's folders are not named.
        """
        name = model_id.rpartition("@")[0]
        folder = next((file.folder for file in self.list() if file.name == name), None)
        if folder is None:
            raise ConfigurationError(f"the class head {name}{SUFFIX} is not there any more")
        try:
            return load_head(folder / f"{name}{SUFFIX}")
        except ConfigurationError as error:
            raise ConfigurationError(str(error).replace(f"{folder}/", "")) from None
        except Exception as error:  # whatever a damaged file can bring about: one head must not end the service
            reason = type(error).__name__
            raise ConfigurationError(f"the class head {name}{SUFFIX} cannot be read ({reason})") from None


def _head_file(path: Path) -> HeadFile | None:
    """The head at a path; None if it is not one, or is gone."""
    # Files half-written by `save_head` begin with a dot; a name that is not Unicode could not be sent to anyone.
    if path.suffix != SUFFIX or path.name.startswith(".") or not path.name.isprintable():
        return None
    try:
        status = path.stat()
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return HeadFile(path.stem, f"{status.st_mtime_ns:x}-{status.st_size:x}", path.parent)
