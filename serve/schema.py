"""The HTTP answers and bodies, field by field; OpenAPI is made from these. Names are those of the label store."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from everymask.classes.examples import MAX_EXAMPLES

MaskFormat = Literal["rle", "polygon", "png"]
Method = Literal["entities", "amg"]

Point = Annotated[list[float], Field(min_length=2, max_length=2)]

MAX_CLICKS = 1000
"""Most clicks of one prompt, whatever `requests.max_clicks` allows."""


class ApiModel(BaseModel):
    model_config = ConfigDict(extra="forbid")


class RleMask(ApiModel):
    """COCO compressed run-length encoding, full image resolution."""

    size: list[int] = Field(description="[height, width] in pixels")
    counts: str = Field(description="column-major, as pycocotools reads it")


class Mask(ApiModel):
    """One mask. Of `rle`, `polygon` and `png_base64` exactly the one that `mask_format` asked for is there."""

    rle: RleMask | None = None
    polygon: list[list[float]] | None = Field(
        default=None,
        description="COCO polygons [x0, y0, x1, y1, …] in pixels, one per part; holes are joined in by zero-width cuts",
    )
    png_base64: str | None = Field(
        default=None, description="1-bit PNG of the whole image's size, white inside the mask"
    )
    id: str | None = Field(
        default=None, description="24 hexadecimal digits: the same mask of the same file by the same settings, anywhere"
    )
    bbox: list[int] = Field(description="[x, y, width, height] in pixels")
    area: int = Field(description="pixels in the mask")
    predicted_iou: float | None = Field(
        default=None, description="the model's own estimate of the mask's IoU; names have none by SAM 3"
    )
    stability_score: float = Field(description="IoU of the mask thresholded high and low, [0, 1]")
    point_coords: list[float] = Field(description="(x, y) in pixels, the prompt the mask came from")
    score: float = Field(description="what the masks are ranked by, [0, 1]")
    class_id: int | None = None
    class_name: str | None = None
    uncertainty: float | None = Field(default=None, description="normalised entropy of the class probabilities, [0, 1]")
    agreement: float | None = Field(
        default=None, description="IoU of an entity with the pixels its own logits claim, [0, 1]"
    )


class LabelsAnswer(ApiModel):
    """Every mask of one image, in descending score."""

    image_id: str = Field(description="sha256 of the image file; send it instead of the image to reuse its embedding")
    width: int
    height: int
    coverage: float = Field(description="share of the image's pixels in at least one mask, [0, 1]")
    embedding_cache: Literal["hit", "miss"] = Field(description="whether the image's embedding was reused")
    seconds: float = Field(description="from the request's first byte to its answer, in the service")
    model: str
    masks: list[Mask]


class SemanticMap(ApiModel):
    """One class for every pixel."""

    png_base64: str = Field(
        description="PNG of the image's size, 0 background and class_id + 1 elsewhere; 8-bit palette up to 255 classes"
    )
    palette: list[list[int]] = Field(description="[red, green, blue] of background and of every class, as in the PNG")


class ClassesAnswer(LabelsAnswer):
    """Masks with classes, and the semantic map."""

    head: str | None = None
    """Left out where names were asked for."""
    classes: list[str]
    missed: float = Field(ge=0, description="how many masks of these classes were probably left out")
    presence: list[float] | None = Field(
        default=None,
        description="how sure SAM 3 is that the image shows each of these classes at all, [0, 1]; it is in the scores",
    )
    semantic_map: SemanticMap | None = None


class ImageBody(ApiModel):
    """An image as JSON. One of the two is needed; with both, the image is the fallback for an unknown id."""

    image_base64: str | None = Field(default=None, description="the image file, base64", examples=["iVBORw0KGgo…"])
    image_id: str | None = Field(default=None, description="of an earlier answer", pattern="^[0-9a-f]{64}$")


class Prompt(ApiModel):
    """Clicks and a box that together mean one object."""

    # The first bad click is told, not every one: thousands of them would make a long answer, slowly.
    point_coords: list[Point] = Field(
        default_factory=list, max_length=MAX_CLICKS, fail_fast=True, description="(x, y) in pixels"
    )
    point_labels: list[Literal[0, 1]] | None = Field(
        default=None,
        max_length=MAX_CLICKS,
        fail_fast=True,
        description="1: belongs to the object, 0: does not; all 1 when left out",
    )
    box: Annotated[list[float], Field(min_length=4, max_length=4)] | None = Field(
        default=None, description="(x0, y0, x1, y1) in pixels, half-open"
    )
    multimask_output: bool = Field(default=True, description="all three candidates, best first, or the best alone")


class ClassesBody(ImageBody):
    """An image, and boxes in it as examples of what is looked for."""

    example_boxes: list[Annotated[list[float], Field(min_length=4, max_length=4)]] | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_EXAMPLES,
        fail_fast=True,
        description="boxes (x0, y0, x1, y1) in pixels around objects: SAM 3 finds everything like them; with `names`, "
        "one name that says what they are",
    )
    example_labels: list[Literal[0, 1]] | None = Field(
        default=None,
        max_length=MAX_EXAMPLES,
        fail_fast=True,
        description="1: this is meant, 0: this is not; all 1 when left out",
    )


class PointsBody(ImageBody, Prompt):
    """Clicks on an image."""


class ModelInfo(ApiModel):
    """The running model."""

    name: str
    weights_sha256: str
    device: str


class LimitsInfo(ApiModel):
    """What the service refuses."""

    max_bytes: int
    max_pixels: int
    max_clicks: int
    time_limit_s: float


class ModelsAnswer(ApiModel):
    """What runs here, and its limits."""

    models: list[ModelInfo]
    methods: list[str]
    names_by: Literal["clip", "concepts"] | None = Field(
        default=None, description="what answers names at /v1/classes; left out where nothing does"
    )
    mask_formats: list[str]
    limits: LimitsInfo


class HeadInfo(ApiModel):
    """One class head."""

    name: str
    classes: list[str]
    usable: bool
    problem: str | None = Field(default=None, description="why it cannot be used with the running model")


class HeadsAnswer(ApiModel):
    """Every class head that is there now."""

    heads: list[HeadInfo]
    folders: list[str] = Field(description="where they are looked for, as the service's configuration says")


class Health(ApiModel):
    """Liveness."""

    status: Literal["ok"] = "ok"


class Readiness(ApiModel):
    """Whether requests would be answered now."""

    status: Literal["ready", "not ready"]
    deployments: dict[str, str] = Field(description="state of each part")


class ErrorDetail(ApiModel):
    """What went wrong."""

    code: str = Field(description="stable, for programs")
    message: str = Field(description="one sentence, for people")
    request_id: str = Field(description="as in the X-Request-ID header and the service's log")


class ErrorAnswer(ApiModel):
    """Every answer with a status of 400 and above."""

    error: ErrorDetail
