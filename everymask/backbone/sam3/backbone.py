"""SAM 3 behind the backbone protocol: clicks as SAM 2 answers them, and names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch

from everymask.backbone.concepts import ConceptMasks, ConceptView
from everymask.backbone.protocol import ImageEmbedding
from everymask.backbone.sam.backbone import SamBackbone
from everymask.backbone.sam.config import SamConfig
from everymask.backbone.sam2 import make_parts
from everymask.backbone.sam2.frame import SquashedFrame
from everymask.backbone.sam3.architecture import Sam3
from everymask.backbone.sam3.detector import ConceptDetector, Detections
from everymask.errors import CheckpointError

_GREY = (0.5, 0.5, 0.5)


class Sam3Backbone(SamBackbone):
    """Implements `PromptableBackbone` and `FindsConcepts`; see there for shapes."""

    def __init__(
        self,
        sam: Sam3,
        *,
        name: str,
        weights_sha256: str,
        device: torch.device,
        config: SamConfig | None = None,
        read_detector: Callable[[], ConceptDetector] | None = None,
    ) -> None:
        """
        Args:
            sam: the tracker, which is taken over.
            name: as `SamBackbone` has it; so are `weights_sha256`, `device` and `config`.
            read_detector: reads the detector of the same weights, on the CPU; None where they have none.
        """
        config = config or SamConfig()
        frame = partial(SquashedFrame, mean=_GREY, deviation=_GREY, rounded=True)
        parts = make_parts(sam, device, config, frame)
        super().__init__(parts, name=name, weights_sha256=weights_sha256, device=device, config=config)
        self._sam: Sam3 | None = sam
        self._read_detector = read_detector
        self._detector: ConceptDetector | None = None

    def keep_for_concepts(self) -> None:
        if self._sam is not None:
            self._sam.keeps_trunk = True

    def forget_encoder(self) -> None:
        super().forget_encoder()
        self._sam = None

    def load_concepts(self) -> None:
        if self._detector is None:
            if self._read_detector is None:
                raise CheckpointError(f"these weights of {self.name} have no detector of concepts; load a file of them")
            self._detector = self._read_detector().to(self.device).eval().requires_grad_(False)
        self.keep_for_concepts()

    def check_names(self, names: Sequence[str]) -> None:
        for name in names:
            self.name_tokens(name)

    def name_tokens(self, name: str) -> list[int]:
        """The tokens of a name, at most `MAX_NAME_TOKENS`; raises as `check_names`."""
        return self._loaded.tokens(name)

    def view_for_concepts(self, embedding: ImageEmbedding) -> ConceptView:
        self._frame(embedding)  # refuses an embedding of other weights
        with self._running() as detector:
            return ConceptView(embedding, detector.see(embedding.features["trunk"]))

    def find_concepts(self, view: ConceptView, names: Sequence[str], least_score: float) -> list[ConceptMasks]:
        with self._running() as detector:
            return self._answers(detector.detect(view.features, names), least_score)

    def find_alike(
        self, view: ConceptView, boxes_xyxy: torch.Tensor, shown: torch.Tensor, name: str, least_score: float
    ) -> ConceptMasks:
        height, width = view.embedding.canvas.original_size_hw
        corners = boxes_xyxy.double() / torch.tensor([width, height, width, height])
        boxes = torch.cat([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], dim=1).float()
        with self._running() as detector:
            examples = detector.read_examples(view.features, boxes, shown)
            (answer,) = self._answers(detector.detect(view.features, [name], examples), least_score)
        return answer

    def _answers(self, found: Detections, least_score: float) -> list[ConceptMasks]:
        self._check_finite(found.scores, found.presence)
        answers = []
        for logits, scores, presence in zip(found.logits, found.scores, found.presence.tolist(), strict=True):
            kept = scores >= least_score
            # Indexing copies: the masks that are not kept take no memory any more.
            chosen = logits[kept].flatten(1)
            self._check_finite(chosen)
            answers.append(ConceptMasks(chosen, scores[kept], presence, float(scores[~kept].sum())))
        return answers

    @property
    def _loaded(self) -> ConceptDetector:
        if self._detector is None:
            raise ValueError("names are answered after load_concepts alone")
        return self._detector

    @contextmanager
    def _running(self) -> Iterator[ConceptDetector]:
        """The detector; bf16 on a GPU, as its publisher runs it."""
        on_gpu = self.device.type == "cuda"
        with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16, enabled=on_gpu):
            yield self._loaded
