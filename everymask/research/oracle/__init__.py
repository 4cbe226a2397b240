"""A stand-in for SAM with SAM's geometry, which answers clicks from annotations instead of from weights.

It tells how E-SAM's modules and AMG treat masks whose errors are known. It measures the modules, not SAM: figures made
with it say nothing about what SAM itself reaches on any picture.
"""

from everymask.research.oracle.backbone import OracleBackbone
from everymask.research.oracle.errors import EXACT, LIKE_SAM, ORACLE_ERRORS, OracleErrors
from everymask.research.oracle.scene import Scene, annotated_scene, drawn_scene, picture_digest

__all__ = [
    "EXACT",
    "LIKE_SAM",
    "ORACLE_ERRORS",
    "OracleBackbone",
    "OracleErrors",
    "Scene",
    "annotated_scene",
    "drawn_scene",
    "picture_digest",
]
