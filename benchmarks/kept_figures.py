"""Figures that took long, kept in --work, so that a measurement that was killed goes on where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from everymask.files.durable import write_file

_REPOSITORY = Path(__file__).resolve().parent.parent


def kept_figures(folder: Path, of: dict[str, Any], measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `measure` gives; where the same code has measured the same before, what it gave then.

    Args:
        folder: where figures are kept.
        of: all that they depend on beside the code, as JSON has it; paths may be among it.
        measure: gives figures that JSON can hold. They come back as JSON has them: tuples are lists.
    """
    question = json.dumps({"code": _code_sha256(), **of}, sort_keys=True, default=str)
    path = folder.resolve() / f"{hashlib.sha256(question.encode()).hexdigest()}.json"
    if not path.exists():
        write_file(str(path), json.dumps({"of": json.loads(question), "figures": measure()}).encode())
    figures: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["figures"]
    return figures


@cache
def _code_sha256() -> str:
    """Digest of the library and the benchmarks: figures of other code are none of this one's."""
    digest = hashlib.sha256()
    for folder in ("everymask", "benchmarks"):
        for path in sorted((_REPOSITORY / folder).rglob("*.py")):
            digest.update(f"{path.relative_to(_REPOSITORY)}\n".encode() + path.read_bytes())
    return digest.hexdigest()
