from __future__ import annotations

from pathlib import Path

import pytest

from tests.backbone.sam3.tiny import save_tiny_sam3


@pytest.fixture(scope="session")
def tiny_sam3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_sam3(tmp_path_factory.mktemp("sam3"))
