"""Models with SAM's prompt encoder and mask decoder, behind the backbone protocol."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from segment_anything.modeling import PromptEncoder, Sam

from everymask.backbone.constants import pinned
from everymask.backbone.protocol import MASKS_PER_PROMPT, ImageEmbedding, PreparedImage, PromptMasks
from everymask.backbone.sam.config import DTYPES, SamConfig
from everymask.backbone.sam.enlarging import enlarge
from everymask.backbone.sam.frame import Frame, ImageFrame
from everymask.backbone.sam.framed import FramedBackbone
from everymask.backbone.sam.prompt_decoder import ImageState, PromptDecoder
from everymask.errors import ConfigurationError, ModelOutputError

logger = logging.getLogger(__name__)


Features = Mapping[str, torch.Tensor]
"""An encoder's output: `image`, (B, C, S/p, S/p) for patches of p pixels, and for a decoder with skips `skip_coarse`,
(B, C/4, 2 S/p, 2 S/p), and `skip_fine`, (B, C/8, 4 S/p, 4 S/p)."""


@dataclass(frozen=True)
class SamParts:
    """The parts in which families with SAM's prompts differ, on their device.

    Attributes:
        encode: (B, 3, S, S) float32 network inputs → float32 features.
        frame: makes the frame of an image of (height, width) original pixels.
        padded_box: whether a prompt with a box also ends with SAM's padding token (SAM 2).
    """

    encode: Callable[[torch.Tensor], Features]
    prompt_encoder: PromptEncoder
    decoder: PromptDecoder
    frame: Callable[[tuple[int, int]], ImageFrame]
    padded_box: bool = False

    @classmethod
    def of_sam(
        cls,
        sam: Sam,
        encoder: Callable[[torch.Tensor], torch.Tensor],
        patch_size: int,
        device: torch.device,
        config: SamConfig,
    ) -> SamParts:
        """The parts of a model that is SAM's except for its image encoder; takes over the model.

        Args:
            sam: for its prompt encoder and mask decoder.
            encoder: (B, 3, S, S) float32 network inputs → (B, C, S/p, S/p) image tokens; on the device.
            patch_size: p, network input pixels along a side of an image token.
            config: precision.
        """
        image_size = int(sam.prompt_encoder.input_image_size[0])
        return cls(
            encode=lambda pixels: {"image": encoder(pixels)},
            prompt_encoder=sam.prompt_encoder.to(device),
            decoder=PromptDecoder(
                sam.mask_decoder, sam.prompt_encoder.get_dense_pe()[0], device, config.decoder_dtype(device)
            ),
            frame=partial(Frame, image_size=image_size, patch_size=patch_size),
        )


class SamBackbone(FramedBackbone):
    """A model with SAM's prompts. Implements `PromptableBackbone`, which gives the shapes.

    An embedding holds the encoder's `Features` of one image: float32 from a CPU, float16 from a GPU.
    """

    def __init__(
        self, parts: SamParts, *, name: str, weights_sha256: str, device: torch.device, config: SamConfig
    ) -> None:
        self.config = config
        self._name = name
        self._weights_sha256 = weights_sha256
        self._device = device
        self._encode: Callable[[torch.Tensor], Features] | None = parts.encode
        self._prompt_encoder = parts.prompt_encoder
        self._decoder = parts.decoder
        self._frame_of = parts.frame
        self._padded_box = parts.padded_box
        self._prompts_at_a_time = config.prompts_at_a_time(device)
        self._latest: tuple[Mapping[str, torch.Tensor] | None, ImageState | None] = (None, None)
        if device.type == "cpu":
            _keep_freed_memory()

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

    @property
    def precision(self) -> str:
        dtype = self.config.encoder_dtype(self._device)
        return next(name for name, known in DTYPES.items() if known == dtype)

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> list[ImageEmbedding]:
        return self.embed_prepared([self.prepare(image) for image in images])

    def prepare(self, image: NDArray[np.uint8]) -> PreparedImage:
        prepared = self._frame_of((image.shape[0], image.shape[1])).on_host(image)
        return replace(prepared, pixels=pinned(prepared.pixels, self._device))

    @torch.no_grad()
    def embed_prepared(self, images: Sequence[PreparedImage]) -> list[ImageEmbedding]:
        if not images:
            return []
        frames = [self._frame_of(image.size_hw) for image in images]
        inputs = [
            frame.to_network(image, image.pixels.to(self._device, non_blocking=True))
            for frame, image in zip(frames, images, strict=True)
        ]
        if self._encode is None:
            raise RuntimeError(f"the image encoder of {self._name} was forgotten; load the model again to embed images")
        features = self._encode(torch.stack([pixels for pixels, _ in inputs]))
        self._check_finite(*features.values())
        dtype = torch.float32 if self._device.type == "cpu" else torch.float16
        return [
            ImageEmbedding(
                canvas=frame.canvas(self._device),
                canvas_image=canvas_image,
                # A copy of its own: a slice would keep the whole batch alive, and be pickled with it.
                features={name: tensor[index].to(dtype, copy=True) for name, tensor in features.items()},
                weights_sha256=self._weights_sha256,
            )
            for index, (frame, (_, canvas_image)) in enumerate(zip(frames, inputs, strict=True))
        ]

    def full_resolution_logits(self, embedding: ImageEmbedding, logits: torch.Tensor) -> torch.Tensor:
        """See the protocol. On a CPU logits are enlarged in the fastest order of sums."""
        if self._device.type != "cpu" or not len(logits):
            return super().full_resolution_logits(embedding, logits)
        frame = self._frame(embedding)
        return enlarge(torch.unflatten(logits.float(), -1, frame.canvas_size_hw), *frame.sides())

    def forget_encoder(self) -> None:
        self._encode = None

    @torch.no_grad()
    def decode_points(self, embedding: ImageEmbedding, point_coords: torch.Tensor) -> PromptMasks:
        frame = self._frame(embedding)
        prompts = self._click_prompts(frame.to_input(point_coords.to(self._device)))
        return self._decode(embedding, prompts, point_coords)

    @torch.no_grad()
    def decode_sure_points(
        self, embedding: ImageEmbedding, point_coords: torch.Tensor, least_iou: float
    ) -> PromptMasks:
        """See `AnswersSurePoints`. On a GPU all are answered: to choose some, the host would wait for it."""
        frame = self._frame(embedding)
        prompts = self._click_prompts(frame.to_input(point_coords.to(self._device)))
        return self._decode(embedding, prompts, point_coords, least_iou if self._device.type == "cpu" else None)

    def _click_prompts(self, coords: torch.Tensor) -> torch.Tensor:
        """(N, 2) float64 clicks for an object each, in network pixels → (N, 2, C): the click, and the padding after it.

        What SAM's prompt encoder makes of them. That one looks up each label by a mask, for which a GPU would wait.
        """
        encoder = self._prompt_encoder
        side, _ = encoder.input_image_size
        # Centres of pixels, from -1 to 1 over the square input.
        places = (coords * (2 / side) + (1 / side - 1)).float()
        angles = 2 * math.pi * (places @ encoder.pe_layer.positional_encoding_gaussian_matrix)
        click = torch.cat([angles.sin(), angles.cos()], dim=-1) + encoder.point_embeddings[1].weight
        padding = encoder.not_a_point_embed.weight.expand_as(click)
        return torch.stack([click, padding], dim=1)

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
        if len(point_coords) or self._padded_box:
            coords = frame.to_input(point_coords.to(self._device).view(-1, 2))[None]
            points = (coords, point_labels.to(self._device)[None])
        if box_xyxy is not None:
            # SAM's box ends on its last pixel, whose centre it takes by adding half a pixel.
            corners = box_xyxy.to(self._device).view(2, 2).double() - torch.tensor([[0], [1]], device=self._device)
            box = frame.to_input(corners).view(1, 4)
        if self._padded_box and box is not None:
            # Points without a box are padded. The order of a prompt's tokens is of no consequence.
            padded, _ = self._prompt_encoder(points=points, boxes=None, masks=None)
            boxed, _ = self._prompt_encoder(points=None, boxes=box, masks=None)
            prompts = torch.cat([boxed, padded], dim=1)
        else:
            prompts, _ = self._prompt_encoder(points=points, boxes=box, masks=None)
        origin = point_coords[:1] if box_xyxy is None or len(point_coords) else box_xyxy.view(2, 2).mean(0)[None]
        return self._decode(embedding, prompts.float(), origin)

    def _frame(self, embedding: ImageEmbedding) -> ImageFrame:
        if embedding.weights_sha256 != self._weights_sha256:
            raise ConfigurationError(
                f"this embedding was made with weights {embedding.weights_sha256[:12]}, but {self._name} runs "
                f"{self._weights_sha256[:12]}; embed the image again"
            )
        return self._frame_of(embedding.canvas.original_size_hw)

    def _decode(
        self,
        embedding: ImageEmbedding,
        prompts: torch.Tensor,
        point_coords: torch.Tensor,
        least_iou: float | None = None,
    ) -> PromptMasks:
        """Answer prompts (N, T, C), `points_per_batch` at a time or as many as fit in memory."""
        frame = self._frame(embedding)
        height, width = frame.canvas_size_hw
        state = self._state(embedding, frame)
        dtype = self.config.decoder_dtype(self._device)
        prompts = prompts.to(dtype)
        count = prompts.shape[0]
        logits = torch.empty(count, MASKS_PER_PROMPT, height, width, device=self._device)
        predicted_iou = torch.empty(count, MASKS_PER_PROMPT, device=self._device)
        tokens = torch.empty(count, MASKS_PER_PROMPT, self.token_dim, device=self._device)
        start = 0
        while start < count:
            size = self._prompts_at_a_time
            chunk = slice(start, start + size)
            try:
                answer = self._decoder.decode(state, prompts[chunk], least_iou, logits[chunk])
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if size == 1 or not _is_out_of_memory(error):
                    raise
                self._prompts_at_a_time = max(1, min(size, count - start) // 2)
                logger.warning(
                    "%s ran out of memory; decoding %d prompts at a time", self._name, self._prompts_at_a_time
                )
                continue
            predicted_iou[chunk] = answer.predicted_iou
            tokens[chunk] = answer.tokens
            start += size
        self._check_finite(logits, predicted_iou, tokens)
        return PromptMasks(logits.flatten(2), predicted_iou, tokens, point_coords.to(self._device, torch.float32))

    def _state(self, embedding: ImageEmbedding, frame: ImageFrame) -> ImageState:
        """What all prompts on an image share; kept for the batches that follow on the same one."""
        features, state = self._latest
        if features is embedding.features and state is not None:
            return state
        dtype = self.config.decoder_dtype(self._device)
        features = embedding.features
        image = features["image"].float().flatten(1).t() + self._prompt_encoder.no_mask_embed.weight
        skips = None
        if "skip_fine" in features:
            skips = (features["skip_coarse"].to(dtype), features["skip_fine"].to(dtype))
        state = self._decoder.prepare(image.to(dtype), frame.token_size_hw, skips)
        self._latest = (features, state)
        return state

    def _check_finite(self, *tensors: torch.Tensor) -> None:
        # A sum is finite only if all that it adds up is; and a GPU is waited for once.
        if not math.isfinite(float(torch.stack([tensor.sum(dtype=torch.float32) for tensor in tensors]).sum())):
            raise ModelOutputError(
                f"{self._name} answered with NaN or infinity; its weights may be damaged, or the precision too low: "
                "fetch the checkpoint again, or use fp32"
            )


def _keep_freed_memory() -> None:
    """Let the allocator reuse buffers of a few MiB instead of returning them to the system after each use.

    glibc maps blocks above a threshold anew each time, and touching their pages takes a third of the decoder's time.
    Freeing such a block raises the threshold to its size, up to 32 MiB. Elsewhere this has no effect.
    """
    torch.empty(31 << 20, dtype=torch.uint8)


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
