"""Readers of ground truth, one module a format.

`read_...` functions return a whole folder's truth for measuring labels; `..._pictures` functions list pictures with
label maps, read one at a time, for clicks and training.
"""

from __future__ import annotations

from everymask.evaluation.ground_truth.bsds import bsds_pictures, read_bsds
from everymask.evaluation.ground_truth.coco import (
    coco_instance_pictures,
    coco_panoptic_pictures,
    read_coco_instances,
    read_coco_panoptic,
)
from everymask.evaluation.ground_truth.entityseg import read_entityseg
from everymask.evaluation.ground_truth.objects import object_pictures
from everymask.evaluation.ground_truth.records import (
    UNLABELLED,
    VOID,
    AnnotatedPicture,
    ClassTruth,
    EntityTruth,
    InstanceTruth,
    PictureReference,
)
from everymask.evaluation.ground_truth.voc import read_voc, voc_pictures

__all__ = [
    "UNLABELLED",
    "VOID",
    "AnnotatedPicture",
    "ClassTruth",
    "EntityTruth",
    "InstanceTruth",
    "PictureReference",
    "bsds_pictures",
    "coco_instance_pictures",
    "coco_panoptic_pictures",
    "object_pictures",
    "read_bsds",
    "read_coco_instances",
    "read_coco_panoptic",
    "read_entityseg",
    "read_voc",
    "voc_pictures",
]
