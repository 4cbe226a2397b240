"""LICENSES.txt beside every export: the terms under which its labels were made."""

from __future__ import annotations

from collections import Counter
from pathlib import PurePosixPath

from everymask.backbone.models import MODELS
from everymask.labels.provenance import read_run
from everymask.labels.store import LabelStore

LICENCES_FILE = "LICENSES.txt"
_SAM_LICENSE = (
    "read the SAM License (https://github.com/facebookresearch/sam3/blob/main/LICENSE) before you use or pass on what "
    "the model made; it asks for a copy of its terms and a mention of SAM in publications, and prohibits some uses, "
    "military ones among them"
)


def licences_name(main: str) -> str:
    """Name of the licence file; it lies beside an export's main file, or inside an export's folder."""
    return f"{PurePosixPath(main).stem}.{LICENCES_FILE}" if main else LICENCES_FILE


def licences(store: LabelStore, exemplars: str | None = None) -> str:
    """The licence text of an export: images, model, and the pictures that its classes were learnt from.

    `exemplars` is the folder of exemplars that trained the class head, if known.

    Raises:
        ConfigurationError: run.json is damaged, or the folder holds no exemplars.
    """
    record = read_run(store)
    config = record.config if record else {}
    name = config.get("model", "")
    name = name.get("name", "") if isinstance(name, dict) else name
    lines = ["Images: under the licences that they came with; everymask gives none.", ""]
    model = MODELS.get(str(name))
    if model is None:
        lines.append("Model: not recorded.")
    else:
        lines.append(f"Model: {name}, {model.licence}.")
        if model.licence == "SAM License":
            lines.append(f"Model terms: {_SAM_LICENSE}.")
    if exemplars is not None:
        # It loads PyTorch: seconds and half a GiB that no other export needs, in each of its processes.
        from everymask.classes.exemplars.manifest import load_exemplars

        lines += ["", "Classes were learnt from these pictures:"]
        origins = [(item.file, item.origin) for item in load_exemplars(exemplars)]
        counts = Counter(origin.license or f"no licence stated ({origin.source})" for _, origin in origins)
        lines += [f"  {count:,} x {licence}" for licence, count in sorted(counts.items())]
        lines += [
            f"  {file}: {origin.license}, {origin.creator or 'creator unnamed'}, {origin.landing_url or origin.url}"
            for file, origin in origins
            if origin.license
        ]
    elif config.get("class_names") or config.get("head_sha256"):
        lines += ["", "Classes were learnt from exemplars; `--exemplars DIR` names their licences and creators here."]
    return "\n".join([*lines, ""])
