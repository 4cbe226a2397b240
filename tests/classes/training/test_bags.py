from __future__ import annotations

import numpy as np
import pytest

from everymask.classes.config import ClassesConfig
from everymask.classes.embeddings import StoredEmbeddings
from everymask.classes.segmenter import describe_masks
from everymask.classes.taxonomy import Taxonomy
from everymask.classes.training.bags import make_bags, no_bags
from everymask.errors import ConfigurationError
from tests.classes.toy import ColourBackbone, picture


def stored(image_id: str, *names: str) -> StoredEmbeddings:
    backbone = ColourBackbone()
    image = picture([(name, (4 + 14 * i, 4, 14 + 14 * i, 30)) for i, name in enumerate(names)])
    embeddings = describe_masks(backbone, backbone.embed([image])[0], ClassesConfig())
    if not names:
        embeddings = embeddings[np.zeros(0, dtype=np.int64)]
    return StoredEmbeddings(image_id, image_id, "", embeddings)


RECORDS = [
    stored("a", "cherry"),
    stored("b", "cherry", "plum"),
    stored("c", "lime"),
    stored("empty"),
    stored("other", "plum"),
]
SUBJECTS = {"a": "cherry", "b": "cherry", "c": "lime", "empty": "lime", "other": "plum"}


def test_bags_hold_the_masks_of_the_pictures_of_the_chosen_classes() -> None:
    bags = make_bags(RECORDS, SUBJECTS, Taxonomy.parse("lime,cherry"), "token+pooled")
    assert bags.image_ids == ("a", "b", "c")
    assert bags.class_ids.tolist() == [1, 1, 0]
    assert bags.sizes.tolist() == [len(record.embeddings) for record in RECORDS[:3]]
    assert bags.inputs.shape == (int(bags.sizes.sum()), 6)
    assert bags.mask_class_ids.tolist() == [1] * int(bags.sizes[:2].sum()) + [0] * int(bags.sizes[2])
    assert make_bags(RECORDS, SUBJECTS, Taxonomy.parse("lime"), "token").inputs.shape[1] == 3


def test_subjects_can_be_gathered_into_one_class_without_new_embeddings() -> None:
    bags = make_bags(RECORDS, SUBJECTS, Taxonomy.parse("fruit=cherry+plum,lime"), "token")
    assert bags.class_ids.tolist() == [0, 0, 1, 0]


def test_no_bags_have_the_types_of_some() -> None:
    some, none = make_bags(RECORDS, SUBJECTS, Taxonomy.parse("cherry,lime"), "token"), no_bags(3)
    for name in ("inputs", "frame_share", "occupancy", "labels", "sizes", "class_ids"):
        one, other = getattr(some, name), getattr(none, name)
        assert (one.dtype, one.shape[1:]) == (other.dtype, other.shape[1:]), name
        assert len(other) == 0


def test_a_class_without_an_exemplar_is_named() -> None:
    with pytest.raises(ConfigurationError, match="class pear has no exemplar"):
        make_bags(RECORDS, SUBJECTS, Taxonomy.parse("cherry,pear"), "token")


def test_a_class_whose_exemplars_give_no_mask_is_named() -> None:
    with pytest.raises(ConfigurationError, match="class lime give no mask"):
        make_bags([RECORDS[0], RECORDS[3]], SUBJECTS, Taxonomy.parse("cherry,lime"), "token")
