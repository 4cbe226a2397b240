"""What can be asked of an image, behind every endpoint: the graph's answers, their masks with the ids of a job's."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Any

from everymask.label_config import LabelConfig
from everymask.labels.identity import click_settings, label_settings, settings_digest, with_mask_ids
from everymask.records import ImageLabels
from serve.class_sets import ClassSets
from serve.graph import Graph
from serve.schema import ClassSet, Method
from serve.settings import ServiceSettings
from serve.tasks import ClickTask, LabelTask, ModelDescription, Outcome, RequestImage


@dataclass(frozen=True)
class ImageAnswer:
    """Masks of an image, and how they came about.

    Attributes:
        image_id: hex sha256 of the file.
        outcome: the masks.
        model: registry name of the backbone.
        classes: names of the class set that was asked for; None for other questions.
    """

    image_id: str
    outcome: Outcome[ImageLabels]
    model: str
    classes: tuple[str, ...] | None = None


class Labelling:
    """Asks the graph."""

    def __init__(self, graph: Graph, settings: ServiceSettings) -> None:
        self._graph = graph
        self._config = LabelConfig(entities=settings.entities, amg=settings.amg, classes=settings.classes)
        self._class_sets = ClassSets(settings.heads_directory)

    async def describe(self) -> ModelDescription:
        """The running model."""
        return await self._graph.describe()

    async def states(self) -> dict[str, str]:
        """State of each part of the graph, `HEALTHY` when it answers."""
        return await self._graph.states()

    async def class_sets(self) -> list[ClassSet]:
        """Every class set there is now."""
        return await asyncio.to_thread(self._class_sets.list, await self.describe())

    async def everything(self, image: RequestImage, method: Method) -> ImageAnswer:
        """Masks of everything."""
        running = await self.describe()
        outcome = await self._graph.label(image, LabelTask(method))
        config = replace(self._config, method=method)
        return self._answer(image, outcome, running, label_settings(config, running.name, running.weights_sha256))

    async def clicked(self, image: RequestImage, task: ClickTask) -> ImageAnswer:
        """Masks of one object."""
        running = await self.describe()
        outcome = await self._graph.label(image, task)
        return self._answer(image, outcome, running, click_settings(running.name, running.weights_sha256))

    async def of_classes(self, image: RequestImage, class_set: str, score_thresh: float | None = None) -> ImageAnswer:
        """Masks of the classes in a class set.

        Raises:
            ServiceError: 404, there is no such class set.
            ConfigurationError: it cannot be used.
        """
        running = await self.describe()
        head = await asyncio.to_thread(self._class_sets.usable, class_set, running)
        outcome = await self._graph.classify(image, head.file, score_thresh)
        classes = self._config.classes
        if score_thresh is not None:
            classes = replace(classes, score_thresh=score_thresh)
        config = replace(self._config, method="classes", classes=classes)
        names = head.spec.classes
        settings = label_settings(config, running.name, running.weights_sha256, head.file_sha256, names)
        return self._answer(image, outcome, running, settings, names)

    def _answer(
        self,
        image: RequestImage,
        outcome: Outcome[ImageLabels],
        running: ModelDescription,
        settings: dict[str, Any],
        classes: tuple[str, ...] | None = None,
    ) -> ImageAnswer:
        labels = with_mask_ids(outcome.result, image.image_id, settings_digest(settings))
        return ImageAnswer(image.image_id, replace(outcome, result=labels), running.name, classes)
