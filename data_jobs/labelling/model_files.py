"""The files of a model, by which a person knows it, where the configuration has digests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from data_jobs.labelling.config import LabelDatasetConfig, RelabelConfig
from everymask.files.storage import canonical_uri
from everymask.labels.provenance import RunRecord
from everymask.redaction import redact

_DIGESTS = {"head_sha256": "class head", "weights_sha256": "weights"}


@dataclass(frozen=True)
class ModelFiles:
    """The class head and the weights as the user named them; None for none, and for a model's published weights."""

    head: str | None
    checkpoint: str | None

    @classmethod
    def of(cls, config: LabelDatasetConfig | RelabelConfig) -> ModelFiles:
        """Those of a run."""
        return cls(config.head, None if isinstance(config, RelabelConfig) else config.model.checkpoint)

    def differences(self, record: RunRecord, before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
        """In which files two configurations differ, as `the class head was pets.safetensors, now pets2.safetensors`.

        Args:
            record: what the former run recorded of itself.
            before: its configuration.
            now: the one of this run.
        """
        names = {"head_sha256": ("head", self.head), "weights_sha256": ("checkpoint", self.checkpoint)}
        settings = record.settings or {}
        found = []
        for key, what in _DIGESTS.items():
            old, new = before.get(key), now.get(key)
            if old == new or (key == "weights_sha256" and before.get("model") != now.get("model")):
                continue
            setting, current = names[key]
            files = [settings.get(setting), current and canonical_uri(current)]
            was, is_now = _shown(files[0], old), _shown(files[1], new)
            if was == is_now and files[0] != files[1]:
                was, is_now = (redact(str(file)) for file in files)
            if was == is_now:
                found.append(f"{is_now} is another file now than the {what} of these labels")
            else:
                found.append(f"the {what} was {was}, now {is_now}")
        return found

    @staticmethod
    def others(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Two configurations without the digests of files."""
        first, second = ({key: value for key, value in one.items() if key not in _DIGESTS} for one in (before, now))
        return first, second


def _shown(file: Any, digest: Any) -> str:
    if file:
        return redact(str(file)).rpartition("/")[2]
    return "none" if digest is None else f"the published one ({str(digest)[:12]})"
