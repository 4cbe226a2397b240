from __future__ import annotations

from importlib.util import find_spec
from urllib.parse import urlsplit

import pytest

from everymask.backbone.models import MODELS, model_help
from everymask.backbone.registry import load_backbone
from everymask.errors import ConfigurationError


def test_every_row_is_complete() -> None:
    for row in MODELS.values():
        assert find_spec(f"everymask.backbone.{row.family}") is not None
        if row.weights is None:
            continue
        assert urlsplit(row.weights.url).scheme == "https"
        if row.weights.token_variable is not None:
            continue
        assert len(bytes.fromhex(row.weights.sha256 or "")) == 32
        assert row.weights.size_bytes is not None
        amount, unit = row.size.split()[:2]
        assert float(amount) == pytest.approx(row.weights.size_bytes / {"MB": 1e6, "GB": 1e9}[unit], rel=0.05)


def test_the_help_has_a_line_for_every_model() -> None:
    lines = model_help().splitlines()
    for name, row in MODELS.items():
        (line,) = [line for line in lines if line.split()[0] == name]
        assert all(fact in line for fact in (row.size, row.licence, row.device, row.speed))


def test_an_unknown_model_is_answered_with_the_known_ones_and_their_sizes() -> None:
    with pytest.raises(ConfigurationError) as refusal:
        load_backbone("vit_x")
    for name, row in MODELS.items():
        assert f"{name} ({row.size})" in str(refusal.value)
    assert "vit_x" in str(refusal.value)
