"""The official SAM behind the backbone protocol."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from segment_anything.modeling import Sam

from everymask.backbone.protocol import MASKS_PER_PROMPT, ImageEmbedding, PromptMasks
from everymask.backbone.sam.config import SamConfig
from everymask.backbone.sam.features import distinct_rows, pool_tokens, sample_tokens
from everymask.backbone.sam.frame import Frame, network_input
from everymask.backbone.sam.image_encoder import ImageEncoder
from everymask.backbone.sam.prompt_decoder import PromptDecoder
from everymask.errors import ConfigurationError, ModelOutputError

logger = logging.getLogger(__name__)


class SamBackbone:
    """A SAM of the official architecture, of any size. Implements `PromptableBackbone`; see there for shapes.

    An embedding holds one tensor, `image`: (C, S/16, S/16), float32 from a CPU, float16 from a GPU.
    """

    def __init__(
        self, sam: Sam, *, name: str, weights_sha256: str, device: torch.device, config: SamConfig | None = None
    ) -> None:
        """Takes over `sam`, which is of no use to the caller afterwards."""
        self.config = config or SamConfig()
        self._name = name
        self._weights_sha256 = weights_sha256
        self._device = device
        self._image_size = int(sam.image_encoder.img_size)
        self._patch_size = int(sam.image_encoder.patch_embed.proj.kernel_size[0])
        image_position = sam.prompt_encoder.get_dense_pe()[0]
        self._decoder = PromptDecoder(sam.mask_decoder, image_position, device, self.config.decoder_dtype)
        self._prompt_encoder = sam.prompt_encoder.to(device)
        if device.type == "cpu":
            _keep_freed_memory()
        self._encoder = ImageEncoder(sam.image_encoder, self.config.encoder_dtype(device)).to(device)

    @property
    def name(self) -> str:
        return self._name

    @property
    def weights_sha256(self) -> str:
        return self._weights_sha256

    @property
    def token_dim(self) -> int:
        return int(self._prompt_encoder.embed_dim)

    @property
    def feature_dim(self) -> int:
        return int(self._prompt_encoder.embed_dim)

    @property
    def device(self) -> torch.device:
        return self._device

    @torch.no_grad()
    def embed(self, images: Sequence[NDArray[np.uint8]]) -> list[ImageEmbedding]:
        if not images:
            return []
        frames = [Frame((image.shape[0], image.shape[1]), self._image_size, self._patch_size) for image in images]
        resized = [frame.resize(image) for frame, image in zip(frames, images, strict=True)]
        pixels = torch.stack([network_input(image, self._image_size, self._device) for image in resized])
        features = self._encoder(pixels)
        self._check_finite(features)
        if self._device.type != "cpu":
            features = features.half()
        return [
            ImageEmbedding(
                canvas=frame.canvas(),
                canvas_image=frame.canvas_image(image),
                # A copy of its own: a slice would keep the whole batch alive, and be pickled with it.
                features={"image": own.clone()},
                weights_sha256=self._weights_sha256,
            ).to(self._device)
            for frame, image, own in zip(frames, resized, features, strict=True)
        ]

    @torch.no_grad()
    def decode_points(self, embedding: ImageEmbedding, point_coords: torch.Tensor) -> PromptMasks:
        frame = self._frame(embedding)
        coords = frame.to_input(point_coords.to(self._device))[:, None]  # (N, 1, 2)
        labels = torch.ones(coords.shape[:2], dtype=torch.int64, device=self._device)
        prompts, _ = self._prompt_encoder(points=(coords, labels), boxes=None, masks=None)
        return self._decode(embedding, prompts, point_coords)

    @torch.no_grad()
    def decode_clicks(
        self,
        embedding: ImageEmbedding,
        point_coords: torch.Tensor,
        point_labels: torch.Tensor,
        box_xyxy: torch.Tensor | None = None,
    ) -> PromptMasks:
        if len(point_coords) == 0 and box_xyxy is None:
            raise ValueError("a prompt needs at least one click or a box; got neither")
        frame = self._frame(embedding)
        points = box = None
        if len(point_coords):
            coords = frame.to_input(point_coords.to(self._device))[None]
            points = (coords, point_labels.to(self._device)[None])
        if box_xyxy is not None:
            # SAM's box ends on its last pixel, whose centre it takes by adding half a pixel.
            corners = box_xyxy.to(self._device).view(2, 2).double() - torch.tensor([[0], [1]], device=self._device)
            box = frame.to_input(corners).view(1, 4)
        prompts, _ = self._prompt_encoder(points=points, boxes=box, masks=None)
        origin = point_coords[:1] if box_xyxy is None or len(point_coords) else box_xyxy.view(2, 2).mean(0)[None]
        return self._decode(embedding, prompts.float(), origin)

    def distinct_points(
        self, embedding: ImageEmbedding, point_coords: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return distinct_rows(point_coords)

    def sample_features(self, embedding: ImageEmbedding, point_coords: torch.Tensor) -> torch.Tensor:
        return sample_tokens(self._frame(embedding), embedding.features["image"], point_coords.to(self._device))

    def pool_features(self, embedding: ImageEmbedding, masks: torch.Tensor) -> torch.Tensor:
        pixels = embedding.canvas.to_pixels(masks.to(self._device))
        return pool_tokens(self._frame(embedding), embedding.features["image"], pixels)

    def full_resolution_logits(self, embedding: ImageEmbedding, logits: torch.Tensor) -> torch.Tensor:
        return self._frame(embedding).to_original(embedding.canvas.to_pixels(logits))

    def _frame(self, embedding: ImageEmbedding) -> Frame:
        if embedding.weights_sha256 != self._weights_sha256:
            raise ConfigurationError(
                f"this embedding was made with weights {embedding.weights_sha256[:12]}, but {self._name} runs "
                f"{self._weights_sha256[:12]}; embed the image again"
            )
        return Frame(embedding.canvas.original_size_hw, self._image_size, self._patch_size)

    def _decode(self, embedding: ImageEmbedding, prompts: torch.Tensor, point_coords: torch.Tensor) -> PromptMasks:
        """Answer prompts (N, T, C), `points_per_batch` at a time or as many as memory holds."""
        frame = self._frame(embedding)
        height, width = frame.canvas_size_hw
        dtype = self.config.decoder_dtype
        image = embedding.features["image"].flatten(1).t().float() + self._prompt_encoder.no_mask_embed.weight
        state = self._decoder.prepare(image.to(dtype), frame.token_size_hw)
        count = prompts.shape[0]
        logits = torch.empty(count, MASKS_PER_PROMPT, height * width, device=self._device)
        predicted_iou = torch.empty(count, MASKS_PER_PROMPT, device=self._device)
        tokens = torch.empty(count, MASKS_PER_PROMPT, self.token_dim, device=self._device)
        size = self.config.prompts_at_a_time(self._device)
        start = 0
        while start < count:
            chunk = slice(start, start + size)
            try:
                answer = self._decoder.decode(state, prompts[chunk].to(dtype))
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if size == 1 or not _is_out_of_memory(error):
                    raise
                size //= 2
                logger.warning("%s ran out of memory; decoding %d prompts at a time", self._name, size)
                continue
            logits[chunk] = answer.logits[..., :height, :width].flatten(2)
            predicted_iou[chunk] = answer.predicted_iou
            tokens[chunk] = answer.tokens
            start += size
        self._check_finite(logits, predicted_iou, tokens)
        return PromptMasks(logits, predicted_iou, tokens, point_coords.to(self._device, torch.float32))

    def _check_finite(self, *tensors: torch.Tensor) -> None:
        if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors):
            raise ModelOutputError(
                f"{self._name} answered with NaN or infinity; its weights may be damaged, or the precision too low: "
                "fetch the checkpoint again, or use fp32"
            )


def _keep_freed_memory() -> None:
    """Let the allocator reuse buffers of a few MiB instead of returning them to the system after each use.

    glibc maps blocks above a threshold anew each time, and first touching their pages takes a third of the decoder's
    time. The threshold rises to the size of any such block that is freed, up to 32 MiB; elsewhere this does nothing.
    """
    torch.empty(31 << 20, dtype=torch.uint8)


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
