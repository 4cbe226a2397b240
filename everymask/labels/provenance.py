"""Where a label store comes from: run.json, and what counts as another configuration."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from everymask.errors import ConfigurationError
from everymask.labels.schema import FORMAT_VERSION
from everymask.labels.store import LabelStore, PartSummary
from everymask.redaction import redact_all
from everymask.storage import write_whole

_PACKAGES = ("everymask", "numpy", "pillow", "pyarrow", "pycocotools", "ray", "scikit-image", "torch")


@dataclass(frozen=True)
class RunAttempt:
    """One start of the command; a run that was killed and resumed has several.

    Attributes:
        command: as it was typed, but for the secrets of addresses.
        started_at: UTC, ISO 8601.
        seconds: wall clock; None while it runs, and for ever if it was killed.
        labelled: rows this attempt added.
        device: what the model ran on.
        versions: of Python and the packages that shape the result.
    """

    command: str
    started_at: str
    device: str
    versions: dict[str, str]
    seconds: float | None = None
    labelled: int | None = None


@dataclass(frozen=True)
class RunRecord:
    """The contents of run.json.

    Attributes:
        config: everything that changes a label: input, method, its options, model and weights, class head, limits.
        attempts: oldest first.
        counts: of the whole store; None until an attempt has finished.
    """

    config: dict[str, Any]
    attempts: list[RunAttempt] = field(default_factory=list)
    counts: PartSummary | None = None

    @property
    def config_sha256(self) -> str:
        """Digest of `config` that does not depend on the order of its keys."""
        return hashlib.sha256(json.dumps(self.config, sort_keys=True).encode()).hexdigest()


def package_versions() -> dict[str, str]:
    """Versions of Python and of every installed package that shapes the result."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def write_run(store: LabelStore, record: RunRecord) -> None:
    """Write run.json, whole or not at all, without the secrets of addresses.

    Raises:
        OutputError: the place is full or not writable.
    """
    content = {
        "format": FORMAT_VERSION,
        "config_sha256": record.config_sha256,
        "config": record.config,
        "counts": asdict(record.counts) if record.counts else None,
        "attempts": [asdict(attempt) for attempt in record.attempts],
    }
    text = json.dumps(redact_all(content), indent=2) + "\n"
    write_whole(store.filesystem, f"{store.root}/run.json", text.encode())


def read_run(store: LabelStore) -> RunRecord | None:
    """The record of the store's run; None where no run has begun.

    Raises:
        ConfigurationError: run.json is damaged or of a newer format.
    """
    if not store.exists():
        return None
    try:
        with store.filesystem.open_input_file(f"{store.root}/run.json") as file:
            content = json.loads(file.read())
        if content["format"] > FORMAT_VERSION:
            raise ConfigurationError(
                f"{store.uri}/run.json has format {content['format']}; this everymask reads up to {FORMAT_VERSION}: "
                "upgrade it"
            )
        return RunRecord(
            config=content["config"],
            attempts=[RunAttempt(**attempt) for attempt in content["attempts"]],
            counts=PartSummary(**content["counts"]) if content["counts"] else None,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"{store.uri}/run.json is damaged ({error}); choose another output, or start over with --overwrite"
        ) from error


def differences(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Every setting in which two configurations differ: `entities.points_per_side was 32, now 16`."""
    found = []
    for key in sorted(before.keys() | now.keys()):
        old, new, name = before.get(key), now.get(key), f"{prefix}{key}"
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += differences(old, new, f"{name}.")
        elif old != new:
            found.append(f"{name} was {json.dumps(old)}, now {json.dumps(new)}")
    return found
