"""Files of figures and what produced them. Documents are made from these files and become invalid with the models."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from everymask.backbone.registry import load_backbone
from everymask.errors import InputError
from everymask.files.json_text import parse_json

_SOURCES = Path(__file__).resolve().parent


def write_figures(
    path: Path,
    figures: Mapping[str, Any],
    weights: Mapping[str, str],
    heads: Mapping[str, str] | None = None,
) -> None:
    """Write figures with the command, commit, date, processor, and digests of what was measured; OSError on failure.

    Args:
        figures: rows by name, values by column.
        weights: sha256 of the weights by model.
        heads: sha256 of class heads by name.
    """
    made = {
        "command": shown_command(sys.argv, os.environ.get("EVERYMASK_DATA")),
        "commit": _commit(),
        "date": datetime.now(UTC).date().isoformat(),
        "processor": torch.backends.cpu.get_cpu_capability(),
        "weights": dict(weights),
        "heads": dict(heads or {}),
        "figures": figures,
    }
    path.write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")


def read_figures(path: Path) -> dict[str, Any]:
    """Read what `write_figures` wrote; InputError if it is not such a file."""
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or not isinstance(content["figures"], dict) or "weights" not in content:
            raise ValueError("it has no figures with their weights")
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path} is no file of figures ({error}); write it with --json") from error
    return content


def weights_of(models: Iterable[str], checkpoint: str | None = None) -> dict[str, str]:
    """sha256 of the weights by model, for `write_figures`; the oracle has none. Raises as `load_backbone` does."""
    return {name: load_backbone(name, checkpoint, "cpu").weights_sha256 for name in models if name != "oracle"}


def shown_command(argv: list[str], data: str | None) -> str:
    """A command as documents show it: paths inside the ground-truth folder begin with DATA."""
    program = "everymask" if Path(argv[0]).name in ("everymask", "__main__.py") else f"python {argv[0]}"
    below = data.rstrip("/") + "/" if data else None
    arguments = [
        f"DATA/{argument.removeprefix(below)}" if below and argument.startswith(below) else argument
        for argument in argv[1:]
    ]
    return f"{program} {shlex.join(arguments)}".strip()


def _commit() -> str | None:
    """The commit of these sources; None if they are not a checkout."""
    asked = subprocess.run(["git", "rev-parse", "HEAD"], cwd=_SOURCES, capture_output=True, text=True, check=False)
    return asked.stdout.strip() if asked.returncode == 0 else None
