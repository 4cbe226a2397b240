"""The prompt decoder's learning curve as a picture."""

from __future__ import annotations

import json
from pathlib import Path

from matplotlib.figure import Figure

_TRAIN = {"best": "best of three", "top": "highest predicted IoU"}
_HELD_OUT = {
    "best": "best of three",
    "top": "highest predicted IoU",
    "best_root": "best of three, by root area",
    "top_root": "highest predicted IoU, by root area",
    "correlation": "correlation of predicted and real IoU",
}


def draw_learning_curve(metrics: Path, picture: Path) -> None:
    """Draw the decoder's figures in a `metrics.jsonl` over its steps: lines for training prompts, dots for one click
    per held-out segment, at cell resolution."""
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    rows = [line for line in lines if line["stage"] == "decoder"]
    trained, measured = [row for row in rows if "best" in row], [row for row in rows if "held_out" in row]
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, label in _TRAIN.items():
        axes.plot([row["step"] for row in trained], [row[name] for row in trained], label=f"train: {label}")
    for name, label in _HELD_OUT.items():
        axes.plot(
            [row["step"] for row in measured],
            [row["held_out"][name] for row in measured],
            "o--",
            label=f"held out: {label}",
        )
    axes.set(xlabel="step", ylabel="IoU, correlation", ylim=(0.2, 0.9))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(picture, dpi=90)
