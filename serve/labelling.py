"""Labelling requests behind every endpoint: the graph's answers, with the mask ids that a job would give."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass, replace
from typing import Any

from everymask.classes.examples import ALIKE, ExamplePrompt
from everymask.errors import ConfigurationError
from everymask.labelling.config import LabelConfig
from everymask.labelling.methods.table import find_method
from everymask.labelling.region_sizes import limit_region_sizes
from everymask.labelling.settings import click_settings, label_settings
from everymask.labels.mask_ids import settings_digest, with_mask_ids
from everymask.records import ImageLabels
from serve.errors import ServiceError
from serve.graph import Graph
from serve.heads import Heads
from serve.metrics import StageTimer
from serve.names import config_by_examples, config_by_names
from serve.schema import HeadInfo, Method
from serve.settings import NO_EXAMPLES, NO_NAMES, ServiceSettings
from serve.tasks import AlikeTask, ClickTask, EverythingTask, ModelDescription, NamesTask, Outcome, RequestImage

MAX_NAMES = 100
"""Most names of one request."""
MAX_NAME_LENGTH = 300
"""Most characters of a name; CLIP reads 77 tokens, SAM 3 reads 32."""


@dataclass(frozen=True)
class ImageAnswer:
    """Masks of an image with their origin.

    Attributes:
        image_id: hex sha256 of the file.
        model: registry name of the backbone.
        classes: of the requested head; None for other requests.
    """

    image_id: str
    outcome: Outcome[ImageLabels]
    model: str
    classes: tuple[str, ...] | None = None


@dataclass(frozen=True)
class RegionSizes:
    """Requested sizes in pixels, as in `LabelConfig`; None: the service's own."""

    min_region_area: int | None = None
    max_region_area: int | None = None


_OWN_SIZES = RegionSizes()


class Labelling:
    def __init__(self, graph: Graph, settings: ServiceSettings) -> None:
        self._graph = graph
        self._settings = settings
        self._config = settings.labels
        self._heads = Heads(settings.head_folders)
        self._stage = StageTimer()

    async def describe(self) -> ModelDescription:
        return await self._graph.describe()

    async def states(self) -> dict[str, str]:
        """State of each part of the graph; `HEALTHY` if it answers."""
        return await self._graph.states()

    async def heads(self) -> list[HeadInfo]:
        return await asyncio.to_thread(self._heads.list, await self.describe())

    async def everything(self, image: RequestImage, method: Method, sizes: RegionSizes = _OWN_SIZES) -> ImageAnswer:
        """Masks of everything; ServiceError 422 if the sizes contradict each other."""
        config = replace(self._sized(sizes), method=method)
        running = await self.describe()
        outcome = await self._limited(await self._graph.label(image, EverythingTask(method)), config)
        return self._answer(image, outcome, running, self._made_by(config, running))

    async def clicked(self, image: RequestImage, task: ClickTask) -> ImageAnswer:
        running = await self.describe()
        outcome = await self._graph.label(image, task)
        return self._answer(
            image, outcome, running, click_settings(running.name, running.weights_sha256, self._settings.precision)
        )

    async def of_classes(
        self,
        image: RequestImage,
        head: str,
        score_thresh: float | None = None,
        sizes: RegionSizes = _OWN_SIZES,
    ) -> ImageAnswer:
        """Masks of a head's classes.

        Raises:
            ServiceError: 404, there is no such head; 422, the sizes contradict each other.
            ConfigurationError: it cannot be used.
        """
        config = replace(self._sized(sizes), method="classes")
        if score_thresh is not None:
            config = replace(config, classes=replace(config.classes, score_thresh=score_thresh))
        running = await self.describe()
        known = await asyncio.to_thread(self._heads.usable, head, running)
        outcome = await self._limited(
            await self._graph.classify(image, known.file, known.spec.reads_crops, score_thresh), config
        )
        names = known.spec.classes
        settings = self._made_by(config, running, known.file_sha256, names, known.spec.score_thresh)
        return self._answer(image, outcome, running, settings, names)

    async def of_names(
        self,
        image: RequestImage,
        names: tuple[str, ...],
        score_thresh: float | None = None,
        sizes: RegionSizes = _OWN_SIZES,
    ) -> ImageAnswer:
        """Masks that fit some names.

        Raises:
            ServiceError: 422, the service answers no names, or the names or sizes are invalid.
            InputError: a name cannot be read.
        """
        method = self._settings.names_by
        if method is None:
            raise ServiceError(422, "invalid_request", NO_NAMES)
        if method == "clip" and not 2 <= len(names) <= MAX_NAMES:
            raise ServiceError(
                422,
                "invalid_request",
                f"CLIP compares names with each other: give 2 to {MAX_NAMES}, such as names=cat,background; got "
                f"{len(names)}",
            )
        if len(names) > MAX_NAMES:
            raise ServiceError(422, "invalid_request", f"at most {MAX_NAMES} names are answered; got {len(names)}")
        _check_length(names)
        task = NamesTask(names, score_thresh)
        try:
            config = config_by_names(self._sized(sizes), method, task)
        except ConfigurationError as error:
            raise ServiceError(422, "invalid_request", str(error)) from error
        classes = find_method(method).implementation().class_names(config, None)
        assert classes is not None
        return await self._of_task(image, task, config, classes)

    async def of_examples(
        self,
        image: RequestImage,
        examples: ExamplePrompt,
        names: tuple[str, ...] = (),
        score_thresh: float | None = None,
        sizes: RegionSizes = _OWN_SIZES,
    ) -> ImageAnswer:
        """Masks of everything that is like the objects in some boxes; `names` says what they are called, if anything.

        Raises:
            ServiceError: 422, the service finds no concepts, or the name or sizes are invalid.
            InputError: the name cannot be read, or a box reaches outside the image.
        """
        if self._settings.names_by != "concepts":
            raise ServiceError(422, "invalid_request", NO_EXAMPLES)
        _check_length(names)
        task = AlikeTask(examples, names, score_thresh)
        try:
            config = config_by_examples(self._sized(sizes), task)
        except ConfigurationError as error:
            raise ServiceError(422, "invalid_request", str(error)) from error
        return await self._of_task(image, task, config, config.concepts.class_names or ALIKE)

    async def _of_task(
        self, image: RequestImage, task: NamesTask | AlikeTask, config: LabelConfig, classes: tuple[str, ...]
    ) -> ImageAnswer:
        running = await self.describe()
        outcome = await self._limited(await self._graph.label(image, task), config)
        settings = self._made_by(config, running, class_names=classes)
        return self._answer(image, outcome, running, settings, classes)

    def _made_by(
        self,
        config: LabelConfig,
        running: ModelDescription,
        head_sha256: str | None = None,
        class_names: tuple[str, ...] | None = None,
        head_score_thresh: float | None = None,
    ) -> dict[str, Any]:
        """The settings of masks, by which they get their ids."""
        precision = self._settings.precision
        return label_settings(
            config, running.name, running.weights_sha256, head_sha256, class_names, head_score_thresh, precision
        )

    def _sized(self, sizes: RegionSizes) -> LabelConfig:
        asked = {name: value for name, value in asdict(sizes).items() if value is not None}
        try:
            return replace(self._config, **asked)
        except ConfigurationError as error:
            raise ServiceError(422, "invalid_request", str(error)) from error

    async def _limited(self, outcome: Outcome[ImageLabels], config: LabelConfig) -> Outcome[ImageLabels]:
        """Masks of the requested sizes. The refiner keeps masks of any size, for other requests."""
        if not config.min_region_area and config.max_region_area is None:
            return outcome
        spent = dict(outcome.spent)
        with self._stage("sizes", spent):
            labels = await asyncio.to_thread(
                limit_region_sizes, outcome.result, config.min_region_area, config.max_region_area
            )
        return replace(outcome, result=labels, spent=spent)

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


def _check_length(names: tuple[str, ...]) -> None:
    if any(len(name) > MAX_NAME_LENGTH for name in names):
        raise ServiceError(422, "invalid_request", f"a name has more than {MAX_NAME_LENGTH} characters; shorten it")
