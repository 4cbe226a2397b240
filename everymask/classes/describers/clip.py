"""CLIP as a describer: how much the masks of a picture look like names."""

from __future__ import annotations

import warnings
from functools import cache, lru_cache
from typing import Any

import torch

from everymask.backbone.protocol import Canvas
from everymask.classes.config import ClipConfig
from everymask.classes.describers.crops import crop_masks, masks_over_picture
from everymask.errors import ConfigurationError

_SIDE_PX, _MARGIN, _VEIL = 224, 1.2, 0.7


class ClipDescriber:
    """A CLIP model and the names it knows, loaded once.

    Raises:
        ConfigurationError: transformers is not installed, the model cannot be loaded, or a name cannot be read.
    """

    def __init__(self, model: str, names: tuple[str, ...], prompt: str, device: torch.device) -> None:
        if len(names) < 2:
            raise ConfigurationError(
                f"CLIP compares names with each other, so it needs at least two; got {', '.join(names) or 'none'} (add "
                "background, for instance)"
            )
        self._model, self._processor = _load_clip(model, device)
        self._device = device
        self._texts = self._encode_names(names, prompt)

    @torch.inference_mode()
    def probabilities(
        self, picture: torch.Tensor, canvas: Canvas, masks: torch.Tensor, config: ClipConfig
    ) -> torch.Tensor:
        """How likely each mask shows each name, by CLIP's own zero-shot classification.

        Args:
            picture: (h, w, 3) uint8 RGB.
            canvas: the same image's canvas.
            masks: (M, P) bool, none empty.

        Returns:
            (M, number of names) float32, rows sum to 1, on the CPU.
        """
        rows = [torch.zeros(0, len(self._texts))]
        for chunk in torch.split(masks, config.batch_size):
            pixels = self._processor.image_processor(images=self._views(picture, canvas, chunk, config.view))
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self._device.type == "cuda"):
                seen = self._model.get_image_features(
                    pixel_values=torch.stack([torch.as_tensor(each) for each in pixels["pixel_values"]]).to(
                        self._device
                    )
                )
            images = torch.nn.functional.normalize(_tensor(seen).float(), dim=-1)
            logits = images @ self._texts.T * self._model.logit_scale.exp().float()
            rows.append(logits.softmax(dim=-1).cpu())
        return torch.cat(rows)

    def _encode_names(self, names: tuple[str, ...], prompt: str) -> torch.Tensor:
        """(number of names, D) float32 unit vectors."""
        texts = [prompt.replace("{c}", name) for name in names]
        longest = self._model.config.text_config.max_position_embeddings
        tokens = self._processor.tokenizer(texts, padding=True, return_tensors="pt")
        unknown = self._processor.tokenizer.unk_token_id
        lengths = tokens["attention_mask"].sum(dim=1).tolist()
        for name, row, length in zip(names, tokens["input_ids"], lengths, strict=True):
            if length > longest:
                raise ConfigurationError(
                    f"the class name {name[:40]!r} is too long for CLIP, which reads {longest} tokens"
                )
            if unknown is not None and unknown != self._processor.tokenizer.eos_token_id and (row == unknown).any():
                raise ConfigurationError(f"CLIP cannot read the class name {name!r}; write it in plain words")
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            features = self._model.get_text_features(**tokens.to(self._device))
        return torch.nn.functional.normalize(_tensor(features).float(), dim=-1)

    @staticmethod
    def _views(picture: torch.Tensor, canvas: Canvas, masks: torch.Tensor, view: str) -> list[Any]:
        if view == "crop":
            crops = crop_masks(picture.to(masks.device), canvas, masks, _SIDE_PX, _MARGIN, _VEIL)
            return [crop.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).cpu().numpy() for crop in crops]
        shown = masks_over_picture(picture.shape[:2], canvas, masks).cpu()
        return [(picture * mask[:, :, None]).numpy() for mask in shown]


@cache
def _load_clip(model: str, device: torch.device) -> tuple[Any, Any]:
    """A CLIP model and its processor, read once for all names."""
    from transformers import CLIPModel, CLIPProcessor

    try:
        load: Any = CLIPModel.from_pretrained
        return load(model).to(device).eval(), CLIPProcessor.from_pretrained(model)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"the CLIP model {model} cannot be loaded ({' '.join(str(error).split())}); name one of the hub, or a "
            "local folder"
        ) from error


@lru_cache(maxsize=64)
def clip_describer(model: str, names: tuple[str, ...], prompt: str, device: torch.device) -> ClipDescriber:
    """This process's describer for these names; the model is read once. Raises as `ClipDescriber`."""
    return ClipDescriber(model, names, prompt, device)


def _tensor(features: Any) -> torch.Tensor:
    """The pooled features, which transformers gives bare or in a record."""
    found: torch.Tensor = features if isinstance(features, torch.Tensor) else features.pooler_output
    return found
