"""Figures as rows of a table."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everymask.evaluation.entity_ap import EntityMatches
from everymask.evaluation.semantic import SemanticFigures

Figures = dict[str, dict[str, Any]]
"""Rows by name, values by column; shares are floats in [0, 1]."""


def entity_row(matches: EntityMatches, max_dets: int | None, bootstrap: int) -> dict[str, Any]:
    """AP^e of one set of labels: `ap` with its 95 % interval, `ap50`, `ap75`, and counts."""
    figures = asdict(matches.figures())
    row = {"ap": figures.pop("ap"), **interval("ap", matches, bootstrap)}
    if max_dets is not None:
        row[f"ap_{max_dets}"] = float(matches.average_precisions(max_dets=max_dets).mean())
    return row | figures


def interval(name: str, matches: EntityMatches, bootstrap: int) -> dict[str, float]:
    """Ends of the bootstrap's 95 % interval of AP^e; {} without a bootstrap."""
    if not bootstrap:
        return {}
    return ends(name, matches.bootstrap(bootstrap))


def ends(name: str, drawn: NDArray[np.float64]) -> dict[str, float]:
    """Ends of a figure's 95 % interval from its bootstrap, ignoring sets without an object."""
    low, high = np.nanquantile(drawn, (0.025, 0.975))
    return {f"{name}_low": float(low), f"{name}_high": float(high)}


def class_rows(figures: SemanticFigures) -> Figures:
    """IoU, AP and AP50 of each class, and their means in the first row."""
    instances = sum(row.instances for row in figures.classes.values())
    means: dict[str, Any] = {"IoU": figures.miou, "AP": figures.mean_ap, "AP50": figures.map50, "instances": instances}
    return {"mean": means} | {
        name: {"IoU": row.iou, "AP": row.ap, "AP50": row.ap50, "instances": row.instances}
        for name, row in figures.classes.items()
    }


def table(figures: Figures) -> str:
    """Figures as aligned columns, with shares in percent."""
    columns = list(next(iter(figures.values())))
    width = max(len(name) for name in figures)
    widths = [max(len(column), 7) + 2 for column in columns]
    lines = [" " * width + "".join(f"{column:>{space}}" for column, space in zip(columns, widths, strict=True))]
    for name, row in figures.items():
        cells = (f"{100 * value:.1f}" if isinstance(value, float) else _plain(value) for value in row.values())
        lines.append(
            f"{name:<{width}}" + "".join(f"{cell:>{space}}" for cell, space in zip(cells, widths, strict=True))
        )
    return "\n".join(lines)


def _plain(value: object) -> str:
    return "-" if value is None else str(value)
