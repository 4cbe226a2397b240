"""The parts of a Label Studio labelling configuration that a model needs: the image, and how masks are written."""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree import ElementTree

from everymask.formats.label_studio import TAGS, Kind
from serve.requests import invalid_request

_KINDS: tuple[Kind, ...] = ("bitmask", "brush", "polygon")
"""In order of fidelity."""


@dataclass(frozen=True)
class MaskControl:
    """Where masks go.

    Attributes:
        kind: how they are written.
        from_name: the control tag's name.
        to_name: the image tag's name.
        image_field: the field of a task's `data` that holds the image.
        labels: possible labels of a region, in order.
        head: the control tag's attribute `head`, with which a project chooses a class head.
    """

    kind: Kind
    from_name: str
    to_name: str
    image_field: str
    labels: tuple[str, ...]
    head: str | None


def read_mask_control(xml: str) -> MaskControl:
    """The first control tag for masks, with its image.

    Raises:
        ServiceError: 422, the configuration is not XML, or has no such tag.
    """
    # A document type may define entities that unfold into gigabytes.
    if "<!" in xml.replace("<!--", ""):
        raise invalid_request("the labelling configuration must not hold a document type")
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError as error:
        raise invalid_request(f"the labelling configuration is not XML ({error})") from None
    images = {tag.get("name", ""): tag for tag in root.iter("Image")}
    for kind in _KINDS:
        for control in root.iter(TAGS[kind]):
            image = images.get(control.get("toName", ""))
            labels = tuple(label.get("value", "") for label in control.iter("Label"))
            if image is not None and labels:
                return MaskControl(
                    kind=kind,
                    from_name=control.get("name", ""),
                    to_name=control.get("toName", ""),
                    image_field=image.get("value", "").removeprefix("$"),
                    labels=labels,
                    head=control.get("head"),
                )
    raise invalid_request(
        f"the labelling configuration has nowhere to put masks; give it an Image, and {', '.join(TAGS.values())} with "
        "labels"
    )
