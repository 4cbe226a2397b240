import json

import numpy as np
import pytest
from PIL import Image

from everymask.errors import ConfigurationError
from everymask.evaluation.ground_truth import read_bsds, read_coco_panoptic
from everymask.masks.rle import decode_mask


def test_panoptic_segments_become_entities_and_unlabelled_pixels_none(tmp_path):
    ids = np.array([[7, 7, 300], [0, 70000, 300]])
    rgb = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
    (tmp_path / "panoptic").mkdir()
    Image.fromarray(rgb).save(tmp_path / "panoptic" / "1.png")
    segments = [{"id": 300, "iscrowd": 0}, {"id": 7, "iscrowd": 0}, {"id": 70000, "iscrowd": 1}]
    content = {
        "images": [{"id": 5, "file_name": "photo.jpg"}],
        "annotations": [{"image_id": 5, "file_name": "1.png", "segments_info": segments}],
    }
    (tmp_path / "panoptic.json").write_text(json.dumps(content))
    truth = read_coco_panoptic(tmp_path)["photo.jpg"]
    assert truth.size_hw == (2, 3)
    assert truth.iscrowd == (False, False, True)
    for segment, entity in zip(segments, truth.entities, strict=True):
        np.testing.assert_array_equal(decode_mask(entity), ids == segment["id"])


def test_every_annotator_is_read(tmp_path):
    (tmp_path / "segments").mkdir()
    for annotator in range(2):
        Image.fromarray(np.full((2, 3), annotator, dtype=np.uint16)).save(tmp_path / "segments" / f"12_{annotator}.png")
    truth = read_bsds(tmp_path)
    assert [label_map[0, 0] for label_map in truth["12.jpg"]] == [0, 1]


def test_a_folder_without_ground_truth_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"holds no panoptic\.json"):
        read_coco_panoptic(tmp_path)
    with pytest.raises(ConfigurationError, match="holds no segments"):
        read_bsds(tmp_path)


@pytest.mark.shared_data
def test_real_annotations_agree_with_their_own_areas(shared_data):
    folder = shared_data / "coco_panoptic" / "val"
    truth = read_coco_panoptic(folder)
    content = json.loads((folder / "panoptic.json").read_text())
    names = {image["id"]: image["file_name"] for image in content["images"]}
    for annotation in content["annotations"]:
        entities = truth[names[annotation["image_id"]]].entities
        assert [int(decode_mask(rle).sum()) for rle in entities] == [
            segment["area"] for segment in annotation["segments_info"]
        ]
