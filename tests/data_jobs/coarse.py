"""Options of a job that takes seconds: SAM's own masks on a coarse grid, with all of them kept."""

from __future__ import annotations

AMG = ["--method", "amg", "--amg.points-per-side", "4", "--amg.pred-iou-thresh", "0"]
AMG += ["--amg.stability-score-thresh", "0", "--actors", "1", "--device", "cpu"]
