"""SAM 3's detector of concepts: names and an image → masks, scores, and whether the name is there at all.

The network is that of `transformers`. It is asked as the publisher's own package asks it (`sam3`, `Sam3Processor`): the
prompt of a name ends with the token of an empty example, which `transformers` leaves out where no box is given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import Sam3Config, Sam3Model
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.sam3.modeling_sam3 import Sam3VisionEncoderOutput

from everymask.backbone.concepts import MAX_NAME_TOKENS
from everymask.errors import ConfigurationError

Features = dict[str, torch.Tensor]
"""The detector's features of one image: `level_0` to `level_2`, finest first, (1, C, H, W) float32 each; their encoded
positions `position_0` to `position_2`; and `no_example`, (1, 1, C), the token of an empty example."""

_LEVELS = range(3)
_MOST_REMEMBERED = 1024
"""Names whose features are kept; 32 KiB each."""


@dataclass(frozen=True)
class Detections:
    """Answers to N names about one image, Q queries each.

    Attributes:
        logits: (N, Q, H', W') float32 mask logits.
        scores: (N, Q) float32 in [0, 1].
        presence: (N,) float32 in [0, 1].
    """

    logits: torch.Tensor
    scores: torch.Tensor
    presence: torch.Tensor


class ConceptDetector(nn.Module):
    """The detector without the image encoder, whose tokens it shares with the tracker."""

    def __init__(self, config: Sam3Config, tokenizer: Tokenizer) -> None:
        super().__init__()
        config.vision_config.backbone_config.num_hidden_layers = 0
        self.model = Sam3Model(config)
        self.model.vision_encoder.backbone = nn.Identity()
        self._tokenizer = tokenizer
        self._encoded: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    @property
    def device(self) -> torch.device:
        found: torch.device = self.model.text_projection.weight.device
        return found

    def tokens(self, name: str) -> list[int]:
        """The tokens of a name.

        Raises:
            ConfigurationError: there are more than the model takes.
        """
        found: list[int] = self._tokenizer.encode(name).ids
        if len(found) > MAX_NAME_TOKENS:
            raise ConfigurationError(
                f"the name {name[:40]!r} has {len(found)} tokens with the two marks around it, SAM 3 reads "
                f"{MAX_NAME_TOKENS}; say it in fewer words"
            )
        return found

    def see(self, trunk: torch.Tensor) -> Features:
        """The detector's features of an image, from the image encoder's tokens (C, S/p, S/p)."""
        levels, positions = self.model.vision_encoder.neck(trunk[None].to(self.device, torch.float32))
        # As the publisher does, the coarsest level is left out.
        levels, positions = levels[:-1], positions[:-1]
        features: Features = {}
        for level in _LEVELS:
            features |= {f"level_{level}": levels[level], f"position_{level}": positions[level]}
        nowhere, nothing = torch.zeros(0, 4), torch.zeros(0, dtype=torch.bool)
        return {**features, "no_example": self.read_examples(features, nowhere, nothing)}

    def read_examples(
        self, seen: Mapping[str, torch.Tensor], boxes_cxcywh: torch.Tensor, shown: torch.Tensor
    ) -> torch.Tensor:
        """The prompt that K boxes are.

        Args:
            seen: of the image.
            boxes_cxcywh: (K, 4) float32 centres and sizes, as shares of the image's width and height.
            shown: (K,) bool, whether a box shows what is meant.

        Returns:
            (1, K + 1, C); the last token closes the list.
        """
        encoded = self.model.geometry_encoder(
            box_embeddings=boxes_cxcywh[None].to(self.device),
            box_mask=torch.ones_like(shown)[None].to(self.device),
            box_labels=shown.long()[None].to(self.device),
            img_feats=[seen[f"level_{level}"] for level in _LEVELS],
            img_pos_embeds=[seen[f"position_{level}"] for level in _LEVELS],
        )
        found: torch.Tensor = encoded.last_hidden_state
        return found

    def detect(
        self, seen: Mapping[str, torch.Tensor], names: Sequence[str], examples: torch.Tensor | None = None
    ) -> Detections:
        """Answer N names about an image, all of them with the examples that `read_examples` has read."""
        count = len(names)
        features, masks = self._encode(names)
        examples = seen["no_example"] if examples is None else examples
        prompt = torch.cat([features, examples.expand(count, -1, -1).to(features)], dim=1)
        mask = torch.cat([masks, masks.new_ones(count, examples.shape[1])], dim=1)
        # The model leaves out the last level of those it is given.
        levels, positions = (
            tuple(seen[f"{kind}_{level}"].expand(count, -1, -1, -1) for level in (*_LEVELS, _LEVELS[-1]))
            for kind in ("level", "position")
        )
        answer = self.model(
            vision_embeds=Sam3VisionEncoderOutput(fpn_hidden_states=levels, fpn_position_encoding=positions),
            text_embeds=BaseModelOutputWithPooling(pooler_output=prompt),
            attention_mask=mask,
        )
        presence = answer.presence_logits.float().sigmoid()
        return Detections(answer.pred_masks.float(), answer.pred_logits.float().sigmoid() * presence, presence[:, 0])

    def _encode(self, names: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, 32, C) features of names and (N, 32) bool, which of them belong to tokens; each name is encoded once."""
        if len(self._encoded) > _MOST_REMEMBERED:
            self._encoded = {name: self._encoded[name] for name in names if name in self._encoded}
        new = [name for name in dict.fromkeys(names) if name not in self._encoded]
        if new:
            ids = torch.zeros(len(new), MAX_NAME_TOKENS, dtype=torch.int64)
            masks = torch.zeros(len(new), MAX_NAME_TOKENS, dtype=torch.bool)
            for row, name in enumerate(new):
                tokens = self.tokens(name)
                ids[row, : len(tokens)], masks[row, : len(tokens)] = torch.tensor(tokens), True
            ids, masks = ids.to(self.device), masks.to(self.device)
            features = self.model.get_text_features(ids, masks.long()).pooler_output
            self._encoded |= {name: (features[row], masks[row]) for row, name in enumerate(new)}
        chosen = [self._encoded[name] for name in names]
        return torch.stack([features for features, _ in chosen]), torch.stack([mask for _, mask in chosen])


def read_tokenizer(path: Path) -> Tokenizer:
    """The vocabulary in `tokenizer.json`.

    Raises:
        ConfigurationError: the file is no vocabulary.
    """
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises nothing narrower
        raise ConfigurationError(
            f"{path} is no tokenizer.json ({' '.join(str(error).split())[:200]}); take that of facebook/sam3"
        ) from error
