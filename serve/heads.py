"""Class heads in the API: which exist, and whether they fit the running model."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from everymask.classes.head import HeadSpec, check_backbone
from everymask.errors import ConfigurationError, HeadMismatchError
from serve.head_files import HeadFile, HeadFolders
from serve.schema import HeadInfo
from serve.tasks import ModelDescription

_KEPT = 256
"""Specifications and problems remembered; a head's file is read again only when it changes."""


@dataclass(frozen=True)
class KnownHead:
    """A class head's description without its weights."""

    file: HeadFile
    spec: HeadSpec
    file_sha256: str | None


class Heads:
    """The heads in some folders, checked against the running backbone."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._heads = HeadFolders(folders)
        self._known: OrderedDict[str, KnownHead | ConfigurationError] = OrderedDict()

    def list(self, running: ModelDescription) -> list[HeadInfo]:
        """Every class head, with the reason if it cannot be used."""
        answers = []
        for file in self._heads.list():
            try:
                spec = self._head(file).spec
            except ConfigurationError as error:
                answers.append(HeadInfo(name=file.name, classes=[], usable=False, problem=str(error)))
                continue
            problem = _problem(spec, running)
            answers.append(
                HeadInfo(name=file.name, classes=list(spec.classes), usable=problem is None, problem=problem)
            )
        return answers

    def usable(self, name: str, running: ModelDescription) -> KnownHead:
        """A head by name that fits the running backbone.

        Raises:
            ServiceError: 404, there is no such head.
            HeadMismatchError: it was trained on another backbone or other weights.
            ConfigurationError: its file is damaged.
        """
        file = self._heads.find(name)
        head = self._head(file)
        check_backbone(head.spec, running.name, running.weights_sha256)
        return head

    def _head(self, file: HeadFile) -> KnownHead:
        known = self._known.get(file.model_id)
        if known is None:
            known = self._known[file.model_id] = self._read(file)
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)
        if isinstance(known, ConfigurationError):
            raise ConfigurationError(str(known))
        return known

    def _read(self, file: HeadFile) -> KnownHead | ConfigurationError:
        try:
            loaded = self._heads.load(file.model_id)
        except ConfigurationError as error:
            return error
        return KnownHead(file, loaded.spec, loaded.file_sha256)


def _problem(spec: HeadSpec, running: ModelDescription) -> str | None:
    try:
        check_backbone(spec, running.name, running.weights_sha256)
    except HeadMismatchError as error:
        return str(error)
    return None
