"""The comparison with `segment_anything` runs to its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import sam_decoder
from benchmarks.tables import made_table
from tests.tiny_sam import TINY


def test_every_contestant_has_a_row_with_its_agreement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sam_decoder, "RANDOM", TINY)
    path = tmp_path / "figures.json"
    config = sam_decoder.SamBenchmark(
        device="cpu", width=128, height=96, points_per_side=4, decoder_prompts=4, repeat=1, threads=1, json=path
    )
    figures = sam_decoder.run(config)
    contestants = ["segment_anything fp32", "everymask fp32", "everymask bf16"]
    rows = [f"{what}: {who}" for what in ("a prompt", "automatic masks") for who in contestants]
    assert list(figures) == [*rows, "E-SAM: everymask fp32", "E-SAM: everymask bf16"]
    assert figures["a prompt: everymask fp32"]["same"] == figures["automatic masks: everymask fp32"]["same"] == "100.0%"
    assert figures["a prompt: segment_anything fp32"]["faster"] == "1.0"
    assert all(float(row["processor-ms"].replace(",", "")) > 0 for row in figures.values())
    table = made_table(path, ["ms", "processor-ms", "faster", "same"])
    assert len(table.splitlines()) == 2 + len(figures) + 2
