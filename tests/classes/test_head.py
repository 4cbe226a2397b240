import json

import numpy as np
import pytest
import safetensors.torch
import torch

from everymask.classes.head import ClassHead, HeadSpec, check_backbone, load_head, save_head
from everymask.errors import ConfigurationError, HeadMismatchError, OutputError

SPEC = HeadSpec(("cat", "dog"), "nano", "c" * 64, "token+pooled", token_dim=4, feature_dim=5, hidden_dim=8)


@pytest.fixture
def head():
    torch.manual_seed(0)
    head = ClassHead(SPEC)
    head.standardise(torch.randn(50, 9) * 3 + 1)
    return head.eval()


def test_a_saved_head_comes_back_with_its_spec_and_answers(head, tmp_path):
    save_head(head, tmp_path / "new" / "pets.safetensors")
    loaded = load_head(tmp_path / "new" / "pets.safetensors")

    assert loaded.spec == SPEC
    tokens, pooled = np.ones((3, 4), np.float16), np.zeros((3, 5), np.float16)
    torch.testing.assert_close(loaded.probabilities(tokens, pooled), head.probabilities(tokens, pooled))
    assert loaded.probabilities(tokens, pooled).shape == (3, 3)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["pets.safetensors"]


def test_no_mask_gives_no_probability(head):
    assert head.probabilities(np.zeros((0, 0), np.float16), np.zeros((0, 0), np.float16)).shape == (0, 3)


def test_inputs_are_standardised_by_the_training_masks():
    head = ClassHead(HeadSpec(("a",), "nano", "", "token", 2, 0))
    inputs = torch.tensor([[0.0, 7.0], [4.0, 7.0]])
    head.standardise(inputs)
    assert head.input_mean.tolist() == [2.0, 7.0]
    assert head.input_deviation.tolist() == [2.0, 1.0]


def test_the_head_is_a_four_layer_perceptron():
    assert sum(isinstance(layer, torch.nn.Linear) for layer in ClassHead(SPEC).layers) == 4


def truncated(data: bytes) -> bytes:
    return data[:-20]


def renamed_format(data: bytes) -> bytes:
    return safetensors.torch.save(safetensors.torch.load(data), {"format": "something else"})


def later_version(data: bytes) -> bytes:
    return safetensors.torch.save(safetensors.torch.load(data), {"format": "everymask class head", "version": "99"})


def other_shape(data: bytes) -> bytes:
    spec = {**SPEC.__dict__, "hidden_dim": 16}
    metadata = {"format": "everymask class head", "version": "1", "head": json.dumps(spec)}
    return safetensors.torch.save(safetensors.torch.load(data), metadata)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncated, "damaged"),
        (lambda data: b"", "damaged"),
        (lambda data: b"\x89PNG not a head at all", "damaged"),
        (renamed_format, "no class head"),
        (later_version, "version 99"),
        (other_shape, "does not fit together"),
    ],
)
def test_a_damaged_file_is_one_clear_sentence(head, tmp_path, damage, message):
    path = tmp_path / "head.safetensors"
    save_head(head, path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ConfigurationError, match=message):
        load_head(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match="nowhere"):
        load_head(tmp_path / "nowhere.safetensors")


def test_a_head_with_nan_is_not_written(head, tmp_path):
    with torch.no_grad():
        head.layers[0].weight[0, 0] = torch.nan
    with pytest.raises(ConfigurationError, match="NaN"):
        save_head(head, tmp_path / "head.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_an_older_head_survives_a_failed_write(head, tmp_path):
    target = tmp_path / "folder"
    target.mkdir()
    (target / "kept").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        save_head(head, target)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize(("backbone", "sha256"), [("vit_b", "c" * 64), ("nano", "d" * 64)])
def test_another_backbone_or_other_weights_are_refused(backbone, sha256):
    with pytest.raises(HeadMismatchError, match="train the head again"):
        check_backbone(SPEC, backbone, sha256)


def test_classes_must_be_named_once():
    with pytest.raises(ConfigurationError, match="dog is named twice"):
        HeadSpec(("dog", "cat", "dog"), "nano", "", "token", 1, 1)
    with pytest.raises(ConfigurationError, match="no class"):
        HeadSpec((), "nano", "", "token", 1, 1)
