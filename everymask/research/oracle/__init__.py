"""A stand-in with SAM's geometry that answers clicks from annotations instead of weights.

It shows how E-SAM's modules and AMG treat masks with known errors. It measures the modules, not SAM: its figures say
nothing about what SAM reaches on any picture.
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
