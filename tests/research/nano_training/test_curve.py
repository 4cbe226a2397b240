from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from everymask.research.nano_training.curve import draw_learning_curve


def rows(top: float) -> list[dict[str, object]]:
    figures = {"best": 0.6, "top": top, "best_root": 0.7, "top_root": 0.6, "correlation": 0.5}
    trained = [{"stage": "decoder", "step": step, "best": 0.5, "top": top} for step in (50, 100)]
    return [{"stage": "encoder", "step": 50, "loss": 1.0}, *trained, {"stage": "decoder", "step": 100, "val": figures}]


def test_the_curve_shows_what_was_logged(tmp_path: Path) -> None:
    pictures = []
    for top in (0.3, 0.5):
        metrics, picture = tmp_path / f"{top}.jsonl", tmp_path / f"{top}.png"
        metrics.write_text("\n".join(json.dumps(row) for row in rows(top)))
        draw_learning_curve(metrics, picture)
        pictures.append(Image.open(picture).convert("RGB").tobytes())
    assert pictures[0] != pictures[1]
