from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from everymask.classes.training.bags import UNNAMED, Bags, split_bags
from everymask.classes.training.distillation import bad_masks
from everymask.classes.training.train import TrainingConfig, TrainingResult, head_spec, train_head
from everymask.classes.uncertainty import normalised_entropy
from everymask.errors import ConfigurationError
from tests.classes.toy import ColourBackbone
from tests.classes.training.synthetic import BACKGROUND, CONFIG, DIM, OBJECT, spec, synthetic_bags


@pytest.fixture(scope="module")
def trained() -> TrainingResult:
    bags, _ = synthetic_bags(3, 24)
    return train_head(bags, spec(3), CONFIG)


def test_masks_are_named_right_though_only_pictures_were_labelled(trained: TrainingResult) -> None:
    fresh, kinds = synthetic_bags(3, 10, seed=1)
    with torch.no_grad():
        predicted = trained.head(fresh.inputs).argmax(dim=1)
    assert (predicted[kinds == OBJECT] == fresh.mask_class_ids[kinds == OBJECT]).all()
    assert (predicted[kinds == BACKGROUND] == 3).all()


def test_teacher_then_student_and_the_held_out_pictures_are_told_apart(trained: TrainingResult) -> None:
    assert [epoch.stage for epoch in trained.history] == sorted(
        (epoch.stage for epoch in trained.history), key=["teacher", "student"].index
    )
    assert {epoch.stage for epoch in trained.history} == {"teacher", "student"}
    assert len(trained.held_out) == 18
    assert trained.confusion.tolist() == [[6, 0, 0], [0, 6, 0], [0, 0, 6]]


def test_the_student_is_less_sure_where_its_teacher_was_not_to_be_relied_on() -> None:
    bags, kinds = synthetic_bags(3, 24)
    # Another class's object in a third of the pictures: a teacher that learnt well is surely "wrong" there.
    foreign = torch.arange(0, len(kinds), 24) + 7
    bags.inputs[foreign] = 0
    bags.inputs[foreign, (bags.mask_class_ids[foreign] + 1) % 3] = 4.0
    teacher = train_head(bags, spec(3), replace(CONFIG, distillation=False)).head
    student = train_head(bags, spec(3), replace(CONFIG, uncertainty_weight=1.0, object_weight=0.0)).head
    with torch.no_grad():
        bad = bad_masks(teacher(bags.inputs), bags.mask_class_ids, CONFIG.entropy_thresh, False)
        before = normalised_entropy(teacher(bags.inputs[bad]).softmax(dim=1)).mean()
        after = normalised_entropy(student(bags.inputs[bad]).softmax(dim=1)).mean()
    assert bad.any()
    assert after > before + 0.1


def bags_of_parts_and_wholes(per_class: int, seed: int) -> tuple[Bags, torch.Tensor]:
    """Two classes: five masks of sure parts, one whole that looks more like background than like them, six of
    background around it; which masks are wholes, (N,) bool."""
    bags, _ = synthetic_bags(2, per_class, seed)
    generator = torch.Generator().manual_seed(seed)
    count = 2 * per_class
    inputs = torch.randn(count, 12, DIM, generator=generator) * 0.3
    occupancy = torch.zeros(12, 8, 8)
    for part in range(5):
        inputs[torch.arange(count), part, bags.class_ids] += 4
        occupancy[part, part] = torch.tensor([0, 1, 1, 1, 1, 1, 0, 0])
    inputs[torch.arange(count), 5, bags.class_ids] += 1
    inputs[:, 5, DIM - 1] -= 3
    occupancy[5, :5, 1:6] = 1
    inputs[:, 6:, DIM - 1] -= 4
    occupancy[6:9, 5:] = 1
    occupancy[9:, :, 6:] = 1
    whole = torch.zeros(count, 12, dtype=torch.bool)
    whole[:, 5] = True
    sizes = torch.full((count,), 12)
    return (
        Bags(
            inputs.flatten(0, 1),
            torch.zeros(12 * count),
            (occupancy.flatten(1) * 255).to(torch.uint8).repeat(count, 1),
            torch.full((12 * count,), UNNAMED),
            sizes,
            bags.class_ids,
            bags.image_ids,
        ),
        whole.flatten(),
    )


def test_the_student_names_whole_objects_of_which_its_teacher_named_the_parts() -> None:
    bags, _ = bags_of_parts_and_wholes(24, seed=0)
    result = train_head(bags, spec(2), CONFIG)
    fresh, whole = bags_of_parts_and_wholes(10, seed=1)
    right = fresh.mask_class_ids[whole]
    with torch.no_grad():
        by_teacher, by_student = (
            (head(fresh.inputs[whole]).argmax(dim=1) == right).float().mean() for head in (result.teacher, result.head)
        )
    assert by_teacher < 0.5
    assert by_student > 0.9


def test_masks_below_the_least_area_are_left_out_but_no_bag_is() -> None:
    bags, kinds = synthetic_bags(2, 3)
    bags.occupancy[kinds == OBJECT] //= 2
    assert bags.area[kinds == OBJECT].unique().tolist() == pytest.approx([127 / 255 / 8])
    larger = bags.of_area(0.1)
    assert larger.sizes.tolist() == [6] * 6
    assert torch.equal(larger.inputs, bags.inputs[kinds != OBJECT])
    assert bags.of_area(0.5).sizes.tolist() == [1] * 6


def test_the_same_seed_gives_the_same_head_and_leaves_the_global_seed_alone() -> None:
    bags, _ = synthetic_bags(2, 8)
    config = replace(CONFIG, epochs=2)
    torch.manual_seed(1)
    first = train_head(bags, spec(2), config).head.state_dict()
    drawn = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), drawn)
    second = train_head(bags, spec(2), config).head.state_dict()
    other = train_head(bags, spec(2), replace(config, seed=1)).head.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["layers.0.weight"], other["layers.0.weight"])


@pytest.mark.parametrize(
    ("backbone", "asked", "kept"),
    [("nano", None, 0.5), ("vit_h", None, 0.7), ("my_own", None, 0.7), ("nano", 0.2, 0.2)],
)
def test_a_head_keeps_the_threshold_of_its_backbone_or_the_one_asked_for(
    backbone: str, asked: float | None, kept: float
) -> None:
    model = ColourBackbone()
    model.name = backbone
    assert head_spec(("cat",), model, TrainingConfig(score_thresh=asked)).score_thresh == kept


def test_one_class_alone_is_told_from_background() -> None:
    bags, _ = synthetic_bags(1, 16)
    result = train_head(bags, spec(1), CONFIG)
    fresh, kinds = synthetic_bags(1, 5, seed=2)
    with torch.no_grad():
        predicted = result.head(fresh.inputs).argmax(dim=1)
    assert (predicted[kinds == OBJECT] == 0).all()
    assert (predicted[kinds == BACKGROUND] == 1).all()


def test_a_class_with_one_exemplar_is_trained_without_holding_it_out() -> None:
    bags, _ = synthetic_bags(2, 1)
    training, held_out = split_bags(bags, 0.5, seed=0)
    assert sorted(training.class_ids.tolist()) == [0, 1]
    assert len(held_out) == 0
    result = train_head(bags, spec(2), replace(CONFIG, epochs=2))
    assert all(epoch.held_out_loss is None for epoch in result.history)


def test_the_split_is_stratified_and_loses_nothing() -> None:
    bags, _ = synthetic_bags(3, 20)
    training, held_out = split_bags(bags, 0.25, seed=3)
    assert torch.bincount(held_out.class_ids).tolist() == [5, 5, 5]
    assert sorted(training.image_ids + held_out.image_ids) == sorted(bags.image_ids)
    position = bags.image_ids.index(held_out.image_ids[0])
    assert torch.equal(held_out.inputs[:8], bags.inputs[8 * position : 8 * position + 8])


def test_a_sample_keeps_every_bag_and_takes_its_own_masks() -> None:
    bags, _ = synthetic_bags(2, 3)
    bags.inputs[:, 0] = torch.arange(len(bags.inputs)).float()
    for most in (1, 3, 8, 100):
        sample = bags.sample(most)
        assert sample.sizes.tolist() == [min(most, 8)] * 6
        assert (sample.inputs[:, 0].long() // 8).tolist() == torch.arange(6).repeat_interleave(min(most, 8)).tolist()
        assert len(set(sample.inputs[:, 0].tolist())) == len(sample.inputs)
    assert not torch.equal(bags.sample(4).inputs, bags.sample(4).inputs)


def test_training_stops_when_held_out_pictures_no_longer_gain() -> None:
    bags, _ = synthetic_bags(2, 12)
    result = train_head(bags, spec(2), replace(CONFIG, epochs=500, patience=3, learning_rate=0.01, distillation=False))
    losses = [epoch.held_out_loss for epoch in result.history]
    assert len(losses) < 500
    assert losses.index(min(losses)) == len(losses) - 1 - 3


def test_inputs_with_nan_are_refused() -> None:
    bags, _ = synthetic_bags(2, 4)
    bags.inputs[3, 2] = torch.nan
    with pytest.raises(ConfigurationError, match="NaN or infinity"):
        train_head(bags, spec(2), CONFIG)


def test_a_loss_that_becomes_nan_stops_with_a_sentence() -> None:
    bags, _ = synthetic_bags(2, 8)
    with pytest.raises(ConfigurationError, match=r"lower --learning-rate"):
        train_head(bags, spec(2), replace(CONFIG, learning_rate=1e30))


def test_no_more_masks_of_a_bag_than_asked_are_learnt_from() -> None:
    bags, _ = synthetic_bags(2, 6)
    assert bags.sample(3).sizes.tolist() == [3] * 12
    short = replace(CONFIG, epochs=2, distillation=False)
    all_masks, one_mask = (train_head(bags, spec(2), replace(short, masks_per_bag=most)).head for most in (None, 1))
    assert not torch.equal(*(next(head.parameters()) for head in (all_masks, one_mask)))
