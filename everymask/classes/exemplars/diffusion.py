"""Exemplars made by a text-to-image diffusion model (section 3.4: Stable Diffusion v1-4, "a photo of a {c}")."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from PIL import Image

from everymask.backbone.registry import choose_device
from everymask.classes.exemplars.manifest import Origin
from everymask.classes.exemplars.queries import Queries
from everymask.classes.taxonomy import Taxonomy
from everymask.errors import ConfigurationError
from everymask.wording import counted

PRECISIONS = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


@dataclass(frozen=True)
class DiffusionConfig:
    """How pictures are made."""

    model: str = "CompVis/stable-diffusion-v1-4"
    """A diffusers text-to-image model: an id on the Hugging Face Hub or a local folder. The default is the paper's."""
    prompt: str = "a photo of a {c}"
    """Text prompt; {c} stands for the subject's query."""
    images_per_subject: int = 200
    """Pictures of every subject, as in the paper."""
    first_seed: int = 0
    """Picture i of a subject is made from seed first_seed + i alone, so each is reproducible."""
    batch_size: int = 4
    """Pictures made at once."""
    num_inference_steps: int = 50
    """Denoising steps."""
    guidance_scale: float = 7.5
    """Weight of the prompt (classifier-free guidance)."""
    size_px: int = 512
    """Height and width of a picture; a multiple of 8."""
    precision: Literal["auto", "float16", "bfloat16", "float32"] = "auto"
    """Precision of weights and activations; auto is float16 on a GPU and float32 elsewhere."""

    def __post_init__(self) -> None:
        if "{c}" not in self.prompt:
            raise ConfigurationError(f"the prompt {self.prompt!r} does not say where the class goes; write {{c}} there")
        for name in ("images_per_subject", "batch_size", "num_inference_steps"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.size_px < 8 or self.size_px % 8:
            raise ConfigurationError(f"size_px must be a multiple of 8, not {self.size_px}")


def planned_pictures(taxonomy: Taxonomy, config: DiffusionConfig, queries: Queries) -> list[Origin]:
    """Every picture of a run, in order, with prompt and seed. The queries of a subject take turns."""
    return [
        Origin(
            subject,
            "diffusion",
            prompt=config.prompt.replace("{c}", words[number % len(words)]),
            seed=config.first_seed + number,
            model=config.model,
            license="made by the model; see its licence",
        )
        for subject, words in ((subject, queries.of(subject)) for subject, _ in taxonomy.subjects)
        for number in range(config.images_per_subject)
    ]


class PictureGenerator:
    """A diffusion pipeline, loaded once.

    Args:
        config: the model and its settings.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        ConfigurationError: diffusers is not installed, or the model cannot be loaded.
    """

    def __init__(self, config: DiffusionConfig, device: str = "auto") -> None:
        self._config = config
        self._device = choose_device(device)
        automatic = "float16" if self._device.type == "cuda" else "float32"
        precision = PRECISIONS[automatic if config.precision == "auto" else config.precision]
        try:
            from diffusers import AutoPipelineForText2Image
        except ImportError as error:
            raise ConfigurationError(
                "pictures are made with the package diffusers; pip install 'everymask[synthesis]'"
            ) from error
        try:
            load: Callable[..., Any] = AutoPipelineForText2Image.from_pretrained
            pipeline = load(config.model, dtype=precision)
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"the diffusion model {config.model} cannot be loaded ({error}); name a diffusers model or its folder"
            ) from error
        self._pipeline = pipeline.to(self._device)
        self._pipeline.set_progress_bar_config(disable=True)

    def __call__(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[bytes]:
        """Make one JPEG file per prompt and seed. A picture does not depend on the others in its batch.

        Raises:
            ConfigurationError: the batch does not fit into memory.
        """
        # Noise is drawn on the CPU, so that a seed means the same picture on every device.
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        try:
            pictures = self._pipeline(
                list(prompts),
                generator=generators,
                num_inference_steps=self._config.num_inference_steps,
                guidance_scale=self._config.guidance_scale,
                height=self._config.size_px,
                width=self._config.size_px,
            ).images
        except torch.OutOfMemoryError as error:
            raise ConfigurationError(
                f"{counted(len(prompts), 'picture')} of {self._config.size_px} px at once: too much for GPU memory; "
                "lower --diffusion.batch-size"
            ) from error
        return [_to_jpeg(picture) for picture in pictures]


def _to_jpeg(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.convert("RGB").save(stream, "JPEG", quality=95, subsampling=0)
    return stream.getvalue()
