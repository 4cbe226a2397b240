"""Maps the ground truth's own classes to the measured classes."""

from __future__ import annotations

from pathlib import Path

from everymask.classes.taxonomy import Taxonomy
from everymask.errors import ConfigurationError


def subject_ids(known: dict[str, int], taxonomy: Taxonomy, source: Path) -> dict[int, int]:
    """class_id of each taxonomy subject, by the ground truth's own id.

    `known` are the ground truth's ids by class name; `source` is named in errors.

    Raises:
        ConfigurationError: the ground truth lacks a subject.
    """
    unknown = [subject for subject, _ in taxonomy.subjects if subject not in known]
    if unknown:
        raise ConfigurationError(
            f"{source} does not know {', '.join(unknown)}; its classes are {', '.join(sorted(known))}. Classes of your "
            "own are measured with --classes yours=theirs+theirs"
        )
    return {known[subject]: taxonomy.classes.index(name) for subject, name in taxonomy.subjects}
