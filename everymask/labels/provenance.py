"""The origin of a label store: run.json, and how configurations are compared."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from everymask.errors import ConfigurationError, InputError
from everymask.files.json_text import parse_json
from everymask.labels.parts import read_header
from everymask.labels.schema import FORMAT_VERSION
from everymask.labels.store import LabelStore, PartSummary
from everymask.labels.visible import UPDATED_FILE
from everymask.redaction import redact_all

_PACKAGES = ("everymask", "numpy", "pillow", "pyarrow", "pycocotools", "ray", "scikit-image", "torch")


@dataclass(frozen=True)
class RunAttempt:
    """One start of the command; a resumed run has several.

    Attributes:
        command: as typed, without secrets of addresses.
        started_at: UTC, ISO 8601.
        device: of the model.
        versions: Python's and those of the packages that shape the result.
        seconds: wall clock; None while it runs, and for good if it was killed.
        labelled: rows this attempt added.
        summary: what it did and spent (`everymask.labels.run_summary`); None if it is not known.
        precision: number format that the model computed in; None if unknown, or without a model.
        exit_code: where a scheduler must not try again (`data_jobs.label_once`), else None.
    """

    command: str
    started_at: str
    device: str
    versions: dict[str, str]
    seconds: float | None = None
    labelled: int | None = None
    summary: dict[str, Any] | None = None
    precision: str | None = None
    exit_code: int | None = None


@dataclass(frozen=True)
class RunRecord:
    """The contents of run.json.

    Attributes:
        config: everything that changes a label: input, method, its options, model and weights, class head, limits.
        attempts: oldest first.
        counts: of the whole store; None until an attempt has finished.
        settings: every setting of the last attempt, for `everymask label --config run.json`; None if unknown.
        rebuilt: why it was rebuilt from the parts; None if it was read from run.json. Not written.
    """

    config: dict[str, Any]
    attempts: list[RunAttempt] = field(default_factory=list)
    counts: PartSummary | None = None
    settings: dict[str, Any] | None = None
    rebuilt: str | None = None

    @property
    def config_sha256(self) -> str:
        """Digest of `config`, independent of the order of keys."""
        return hashlib.sha256(json.dumps(self.config, sort_keys=True).encode()).hexdigest()


def package_versions() -> dict[str, str]:
    """Versions of Python and of installed packages that shape the result."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def write_run(store: LabelStore, record: RunRecord) -> None:
    """Write run.json atomically, without secrets of addresses; OutputError if full or not writable."""
    content = {
        "format": FORMAT_VERSION,
        "config_sha256": record.config_sha256,
        "config": record.config,
        "counts": asdict(record.counts) if record.counts else None,
        "settings": record.settings,
        "attempts": [asdict(attempt) for attempt in record.attempts],
    }
    store.run_file.write((json.dumps(redact_all(content), indent=2) + "\n").encode())


def read_run(store: LabelStore) -> RunRecord | None:
    """The store's run record; None if no run has begun.

    That of new labels, where these are complete and not yet in place. If run.json is lost or damaged, the configuration
    is rebuilt from the parts, and `rebuilt` says why.

    Raises:
        ConfigurationError: run.json is damaged and the parts are too old to hold a configuration; it is of a newer
            format; or the parts have two configurations.
    """
    store = next(iter(store.stores())) if store.root.child(UPDATED_FILE).kind() == "file" else store
    try:
        return _parse(store.run_file.read()) if store.exists() else _from_parts(store, "it was missing")
    except (ValueError, KeyError, TypeError) as error:
        problem = f"it was damaged ({_reason(error)})"
        record = _from_parts(store, problem)
    if record is None:
        raise ConfigurationError(
            f"{store.run_file} is no record of a run: {problem}; put back a copy of it, or choose another output. "
            "Labels beside it are kept"
        )
    return record


def _parse(data: bytes) -> RunRecord:
    content = parse_json(data)
    if content["format"] > FORMAT_VERSION:
        raise ConfigurationError(
            f"run.json has format {content['format']}; this everymask reads up to {FORMAT_VERSION}: upgrade it"
        )
    return RunRecord(
        config=dict(content["config"]),
        attempts=[_attempt(attempt) for attempt in content["attempts"]],
        counts=PartSummary(**content["counts"]) if content["counts"] else None,
        settings=content.get("settings"),
    )


def _attempt(written: Mapping[str, Any]) -> RunAttempt:
    """An attempt, without what a newer everymask says of it besides."""
    known = {entry.name for entry in fields(RunAttempt)}
    return RunAttempt(**{name: value for name, value in written.items() if name in known})


def _from_parts(store: LabelStore, problem: str) -> RunRecord | None:
    """The record that the store's parts agree on; None if none holds one."""
    found: dict[str, RunRecord] = {}
    for part in store.parts():
        with suppress(InputError):  # damaged or foreign; others may be sound
            if configuration := read_header(part).configuration:
                record = RunRecord(configuration, rebuilt=problem)
                found[record.config_sha256] = record
    if len(found) > 1:
        first, second, *_ = (record.config for record in found.values())
        raise ConfigurationError(
            f"{store.run_file} cannot be rebuilt ({problem}): its parts are of different runs "
            f"({'; '.join(differences(first, second))}); put back a copy of it, or move parts away"
        )
    return next(iter(found.values()), None)


def _reason(error: Exception) -> str:
    return f"it has no {error}" if isinstance(error, KeyError) else str(error)


def differences(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The settings in which two configurations differ, as `entities.points_per_side was 32, now 16`."""
    found = []
    for key in sorted(before.keys() | now.keys()):
        old, new, name = before.get(key), now.get(key), f"{prefix}{key}"
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += differences(old, new, f"{name}.")
        elif old != new:
            was, is_now = ("not set" if value is None else json.dumps(value) for value in (old, new))
            found.append(f"{name} was {was}, now {is_now}")
    return found
