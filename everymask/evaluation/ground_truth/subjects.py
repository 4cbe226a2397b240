"""Which of the ground truth's own classes each measured class gathers."""

from __future__ import annotations

from pathlib import Path

from everymask.classes.taxonomy import Taxonomy
from everymask.errors import ConfigurationError


def subject_ids(known: dict[str, int], taxonomy: Taxonomy, source: Path) -> dict[int, int]:
    """class_id by the ground truth's own id of each subject of a taxonomy.

    Args:
        known: the ground truth's ids by class name.
        source: what to name in an error.

    Raises:
        ConfigurationError: the ground truth does not know a subject.
    """
    unknown = [subject for subject, _ in taxonomy.subjects if subject not in known]
    if unknown:
        raise ConfigurationError(
            f"{source} does not know {', '.join(unknown)}; its classes are {', '.join(sorted(known))}. Classes of your "
            "own are measured with --classes yours=theirs+theirs"
        )
    return {known[subject]: taxonomy.classes.index(name) for subject, name in taxonomy.subjects}
