"""Class sets as the API speaks of them: which there are, and whether they fit the running model."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

from everymask.classes.head import HeadSpec, check_backbone
from everymask.errors import ConfigurationError, HeadMismatchError
from serve.heads import HeadDirectory, HeadFile
from serve.refiner import ModelDescription
from serve.schema import ClassSet

_KEPT = 256
"""Specifications remembered; a head's file is read again only when it changes."""


class ClassSets:
    """The heads in a directory, against the running backbone."""

    def __init__(self, directory: Path) -> None:
        self._heads = HeadDirectory(directory)
        self._specs: OrderedDict[str, HeadSpec] = OrderedDict()

    def list(self, running: ModelDescription) -> list[ClassSet]:
        """Every class set; those that cannot be used say why."""
        answers = []
        for file in self._heads.list():
            try:
                spec = self._spec(file)
            except ConfigurationError as error:
                answers.append(ClassSet(name=file.name, classes=[], usable=False, problem=str(error)))
                continue
            problem = _problem(spec, running)
            answers.append(
                ClassSet(name=file.name, classes=list(spec.classes), usable=problem is None, problem=problem)
            )
        return answers

    def usable(self, name: str, running: ModelDescription) -> tuple[HeadFile, HeadSpec]:
        """The head of a class set that fits the running backbone.

        Raises:
            ServiceError: 404, there is no such class set.
            HeadMismatchError: it was trained on another backbone or other weights.
            ConfigurationError: its file is damaged.
        """
        file = self._heads.find(name)
        spec = self._spec(file)
        check_backbone(spec, running.name, running.weights_sha256)
        return file, spec

    def _spec(self, file: HeadFile) -> HeadSpec:
        spec = self._specs.get(file.model_id)
        if spec is None:
            spec = self._specs[file.model_id] = self._heads.load(file).spec
            while len(self._specs) > _KEPT:
                self._specs.popitem(last=False)
        return spec


def _problem(spec: HeadSpec, running: ModelDescription) -> str | None:
    try:
        check_backbone(spec, running.name, running.weights_sha256)
    except HeadMismatchError as error:
        return str(error)
    return None
