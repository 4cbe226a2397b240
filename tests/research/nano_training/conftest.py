"""The model and the picture that the tests of the backbone use."""

from __future__ import annotations

from tests.backbone.nano.conftest import nano, shapes

__all__ = ["nano", "shapes"]
