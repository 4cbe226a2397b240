"""Training of a class head: a teacher by multiple-instance learning, then a student by uncertainty distillation."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch

from everymask.backbone.models import class_score_thresh
from everymask.backbone.protocol import PromptableBackbone
from everymask.classes.describers import imagenet
from everymask.classes.features import FeatureKind
from everymask.classes.head import ClassHead, HeadSpec
from everymask.classes.training.bags import UNNAMED, Bags, split_bags
from everymask.classes.training.corrections import NamedMasks
from everymask.classes.training.distillation import UncertaintyLoss, bad_masks, uncertainty_loss
from everymask.classes.training.localisation import object_labels, object_loss
from everymask.classes.training.mil import bag_scores, bag_targets, frame_loss, mil_loss, presence_loss
from everymask.errors import ConfigurationError

Stage = Literal["teacher", "student"]
_STEPS_WITHOUT_BAGS = 20
"""Steps of an epoch with corrections alone."""
_CORRECTIONS_PER_STEP = 128
"""Most corrected masks of objects in a step, and as many of background."""


@dataclass(frozen=True)
class TrainingConfig:
    """How a head is trained. The paper's batch size, learning rate, s, η and loss weights are lost from its text; ours
    were chosen on held-out exemplars and COCO training images (docs/decisions/classes.md).

    Examples:
        >>> settings = everymask.TrainingConfig(features="token+pooled+crop", score_thresh=0.6)
        >>> settings.hidden_dim
        256
    """

    features: FeatureKind = "token+pooled"
    """What the head reads of a mask. `token` is the paper's; `pooled`, image features averaged under the mask; `crop`,
    what an ImageNet encoder sees in a crop of it."""
    score_thresh: float | None = None
    """Least class probability of a labelled mask, kept in the head as its default. None: the backbone's, 0.7 for SAM,
    as in the paper, and 0.5 for nano."""
    distillation: bool = True
    """Train a student by uncertainty distillation; off, the teacher is the result (MIL only, table 4)."""
    hidden_dim: int = 256
    """Width of the hidden layers."""
    standardise_inputs: bool = True
    """Shift and scale inputs by the mean and deviation of the training masks (our choice)."""
    dropout: float = 0.1
    """Share of hidden activations dropped while training."""
    min_area: float = 0.03
    """Masks that cover a smaller share of their picture are ignored (our choice): most are parts or specks, of which an
    exemplar has more than wholes."""
    topk_divisor: int = 4
    """s: a bag of m masks is scored by its max(1, m // s) largest activations (eq. 1)."""
    background_share: float = 0.5
    """Share of background in the label of a single-object picture (eq. 2); 0 labels it with its object alone."""
    entropy_thresh: float = 0.5
    """η: masks whose teacher prediction has a higher normalised entropy are uncertain."""
    background_is_wrong: bool = False
    """Whether a sure background prediction of the teacher counts as wrong. By default it does not: most masks of an
    exemplar are background (our choice)."""
    uncertainty_weight: float = 0.3
    """Weight of the uncertainty loss beside the MIL loss."""
    uncertainty_loss: UncertaintyLoss = "uniform_divergence"
    """Eq. 3: negative_entropy, its obvious reading, or uniform_divergence (our choice)."""
    object_weight: float = 1.0
    """Weight, for the student, of the masks that the teacher's answers together identify as object or background (our
    choice)."""
    presence_weight: float = 0.5
    """Weight of the loss that asks for masks that are surely the object and surely background (our choice)."""
    frame_thresh: float = 0.3
    """Masks that cover a larger share of a picture's outermost pixels are taken for background (our choice)."""
    frame_weight: float = 1.0
    """Weight of the loss that calls them background. It alone tells a single class from its background; MIL cannot."""
    correction_weight: float = 0.3
    """Weight of corrected masks and of negatives beside exemplars (our choice). With more, classes that are rare in the
    corrections are forgotten (figures: docs/decisions/classes.md)."""
    epochs: int = 10
    """Most passes over the bags for the teacher, and as many for the student."""
    corrected_epochs: int = 20
    """The same with corrections: scenes take longer to learn, and exemplars alone are overfitted sooner."""
    patience: int = 4
    """Stop after this many epochs without a lower loss on held-out exemplars."""
    held_out_share: float = 0.15
    """Share of the exemplars of each class that is held out for early stopping and the report."""
    masks_per_bag: int | None = 64
    """Most masks of a picture in one step, drawn anew each epoch, for speed and regularisation (our choice). None takes
    all."""
    batch_size: int = 32
    """Bags a step."""
    learning_rate: float = 1e-3
    """Adam learning rate."""
    weight_decay: float = 1e-4
    """AdamW weight decay (our choice); 0 is plain Adam."""
    seed: int = 0
    """Seeds the split, the order of the bags, the initial weights and dropout."""

    def __post_init__(self) -> None:
        for name in (
            "hidden_dim",
            "topk_divisor",
            "epochs",
            "corrected_epochs",
            "patience",
            "masks_per_bag",
            "batch_size",
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigurationError(f"{name} must be at least 1, not {value}")
        for name in ("dropout", "entropy_thresh", "frame_thresh", "held_out_share", "min_area", "background_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigurationError(f"{name} must be in [0, 1], not {getattr(self, name)}")
        if self.score_thresh is not None and not 0 <= self.score_thresh <= 1:
            raise ConfigurationError(f"score_thresh must be in [0, 1], not {self.score_thresh}")
        if not self.learning_rate > 0:
            raise ConfigurationError(f"learning_rate must be positive, not {self.learning_rate}")


@dataclass(frozen=True)
class Epoch:
    """One pass over the training bags.

    Attributes:
        training_loss: mean over batches, dropout on.
        held_out_loss: `picture_loss` of held-out bags; None when none are held out.
        held_out_accuracy: share of held-out pictures whose highest-scored object class is theirs.
    """

    stage: Stage
    number: int
    training_loss: float
    held_out_loss: float | None
    held_out_accuracy: float | None


@dataclass(frozen=True)
class TrainingResult:
    """The result of training.

    Attributes:
        head: the student, or the teacher without distillation; ready for inference.
        teacher: the head trained by MIL alone.
        history: every epoch of every stage.
        held_out: the bags that were held out.
        confusion: (C, C) int64, held-out pictures by true (row) and highest-scored (column) class.
    """

    head: ClassHead
    teacher: ClassHead
    history: tuple[Epoch, ...]
    held_out: Bags
    confusion: torch.Tensor


def head_spec(classes: tuple[str, ...], backbone: PromptableBackbone, config: TrainingConfig) -> HeadSpec:
    """The specification of a head trained on a backbone's masks."""
    spec = HeadSpec(
        classes,
        backbone.name,
        backbone.weights_sha256,
        config.features,
        backbone.token_dim,
        backbone.feature_dim,
        config.hidden_dim,
        score_thresh=class_score_thresh(backbone.name) if config.score_thresh is None else config.score_thresh,
    )
    return replace(spec, crop_dim=imagenet.DIM, describer=imagenet.IDENTITY) if spec.reads_crops else spec


def train_head(
    bags: Bags,
    spec: HeadSpec,
    config: TrainingConfig,
    progress: Callable[[Epoch], None] | None = None,
    corrections: NamedMasks | None = None,
) -> TrainingResult:
    """Train on stored bags; on the CPU, where it takes a minute or two.

    Args:
        bags: bags of every class in `spec`; none (`no_bags`) if there are corrections of every class.
        spec: classes and backbone; `spec.features` says what the bags hold.
        config: the same seed and bags give the same head.
        progress: called after every epoch.
        corrections: masks of known class, for teacher and student.

    Raises:
        ConfigurationError: the inputs or the loss became NaN or infinite; nothing was written.
    """
    known = [bags.inputs] if corrections is None else [bags.inputs, corrections.inputs]
    if not all(bool(torch.isfinite(inputs).all()) for inputs in known):
        raise ConfigurationError("the stored mask embeddings hold NaN or infinity; delete the bags and make them again")
    training, held_out = split_bags(bags.of_area(config.min_area), config.held_out_share, config.seed)
    history: list[Epoch] = []

    def report(epoch: Epoch) -> None:
        history.append(epoch)
        if progress is not None:
            progress(epoch)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        teacher = head = _fit("teacher", training, held_out, corrections, spec, config, None, report)
        # Distillation is about masks that nobody has named.
        if config.distillation and len(bags):
            named = [_named(part, teacher) if config.object_weight else part for part in (training, held_out)]
            head = _fit("student", named[0], named[1], corrections, spec, config, teacher, report)
    return TrainingResult(head, teacher, tuple(history), held_out, _confusion(head, held_out, config))


def _fit(
    stage: Stage,
    training: Bags,
    held_out: Bags,
    corrections: NamedMasks | None,
    spec: HeadSpec,
    config: TrainingConfig,
    teacher: ClassHead | None,
    report: Callable[[Epoch], None],
) -> ClassHead:
    """Train a fresh head and return its best epoch."""
    head = ClassHead(spec, config.dropout)
    if config.standardise_inputs:
        inputs = [training.inputs] if corrections is None else [training.inputs, corrections.inputs]
        head.standardise(torch.cat(inputs))
    optimiser = torch.optim.AdamW(head.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    best_loss, best_state, since_best = float("inf"), copy.deepcopy(head.state_dict()), 0
    for number in range(1, (config.epochs if corrections is None else config.corrected_epochs) + 1):
        head.train()
        total = 0.0
        for index in _steps(training, config):
            loss = torch.zeros(())
            if len(index):
                loss = _bag_loss(head, training[index], teacher, config)
            if corrections is not None:
                loss = loss + _correction_loss(
                    head, corrections.sample(_CORRECTIONS_PER_STEP, head.num_classes), config
                )
            if not bool(torch.isfinite(loss)):
                raise ConfigurationError(
                    f"the {stage}'s loss became {loss.item()} in epoch {number}; lower --learning-rate "
                    f"(now {config.learning_rate:g})"
                )
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            total += float(loss.detach()) * max(1, len(index))
        epoch = Epoch(
            stage, number, total / (len(training) or _STEPS_WITHOUT_BAGS), *_held_out_figures(head, held_out, config)
        )
        report(epoch)
        watched = epoch.training_loss if epoch.held_out_loss is None else epoch.held_out_loss
        if corrections is not None and epoch.held_out_loss is not None:
            with torch.no_grad():
                watched += float(_correction_loss(head.eval(), corrections, config))
        if watched < best_loss:
            best_loss, best_state, since_best = watched, copy.deepcopy(head.state_dict()), 0
        else:
            since_best += 1
            if since_best >= config.patience:
                break
    head.load_state_dict(best_state)
    return head.eval()


def _steps(training: Bags, config: TrainingConfig) -> Sequence[torch.Tensor]:
    """The bags of each step of an epoch, (K,) int64; empty with corrections alone."""
    order = torch.randperm(len(training))
    return torch.split(order, config.batch_size) if len(training) else [order] * _STEPS_WITHOUT_BAGS


def _bag_loss(head: ClassHead, bags: Bags, teacher: ClassHead | None, config: TrainingConfig) -> torch.Tensor:
    """The loss of some masks of some bags; a student's, if there is a teacher."""
    batch = bags if config.masks_per_bag is None else bags.sample(config.masks_per_bag)
    logits = head(batch.inputs)
    loss = picture_loss(logits, batch, config)
    if teacher is None:
        return loss
    with torch.no_grad():
        bad = bad_masks(teacher(batch.inputs), batch.mask_class_ids, config.entropy_thresh, config.background_is_wrong)
    certainty = uncertainty_loss(logits[bad & (batch.labels == UNNAMED)], config.uncertainty_loss)
    return loss + config.uncertainty_weight * certainty


def _correction_loss(head: ClassHead, corrections: NamedMasks, config: TrainingConfig) -> torch.Tensor:
    return config.correction_weight * object_loss(head(corrections.inputs), corrections.labels)


@torch.no_grad()
def _named(bags: Bags, teacher: ClassHead) -> Bags:
    return replace(bags, labels=object_labels(teacher(bags.inputs).softmax(dim=-1), bags))


def picture_loss(logits: torch.Tensor, bags: Bags, config: TrainingConfig) -> torch.Tensor:
    """The loss of (N, C + 1) logits of masks given the class of each picture: eq. 2 and our three additions."""
    scores = bag_scores(logits, bags.sizes, config.topk_divisor)
    loss = mil_loss(scores, bag_targets(bags.class_ids, logits.shape[-1] - 1, config.background_share))
    loss = loss + config.presence_weight * presence_loss(logits, bags.sizes, bags.class_ids, config.topk_divisor)
    loss = loss + config.frame_weight * frame_loss(logits, bags.frame_share, config.frame_thresh)
    return loss + config.object_weight * object_loss(logits, bags.labels)


@torch.no_grad()
def _held_out_figures(head: ClassHead, held_out: Bags, config: TrainingConfig) -> tuple[float | None, float | None]:
    if len(held_out) == 0:
        return None, None
    logits = head.eval()(held_out.inputs)
    right = predicted_classes(logits, held_out, config) == held_out.class_ids
    return float(picture_loss(logits, held_out, config)), float(right.float().mean())


def predicted_classes(logits: torch.Tensor, bags: Bags, config: TrainingConfig) -> torch.Tensor:
    """(B,) int64, the object class with the highest score (eq. 1) in each bag."""
    return bag_scores(logits, bags.sizes, config.topk_divisor)[:, :-1].argmax(dim=1)


@torch.no_grad()
def _confusion(head: ClassHead, held_out: Bags, config: TrainingConfig) -> torch.Tensor:
    confusion = torch.zeros(head.num_classes, head.num_classes, dtype=torch.int64)
    if len(held_out):
        predicted = predicted_classes(head(held_out.inputs), held_out, config)
        confusion.index_put_((held_out.class_ids, predicted), torch.ones_like(predicted), accumulate=True)
    return confusion
