"""The queries for pictures of a subject: several, by pose, part and view.

For "person", search engines and diffusion models give faces; for "car", cars from the side. A head finds only what its
exemplars show, so each subject gets several queries (our choice; the paper uses its name alone).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from everymask.errors import ConfigurationError

COMMON: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "airplane": ("airplane", "airplane on the runway", "airplane in the sky", "propeller airplane"),
        "bicycle": ("bicycle", "parked bicycle", "person riding a bicycle", "bicycle from behind"),
        "bird": ("bird", "flying bird", "bird on a branch", "bird in the water"),
        "boat": ("boat", "sailing boat", "fishing boat in a harbour", "rowing boat"),
        "bus": ("bus", "bus from the front", "bus from behind", "double-decker bus"),
        "car": ("car", "car from the front", "car from behind", "parked car in a street", "car in traffic"),
        "cat": ("cat", "sleeping cat", "cat from behind", "walking cat"),
        "chair": ("chair", "office chair", "armchair", "chair at a table", "folding chair", "chair from behind"),
        "cow": ("cow", "grazing cow", "lying cow", "cow from behind"),
        "dog": ("dog", "running dog", "lying dog", "dog from behind"),
        "horse": ("horse", "grazing horse", "person riding a horse", "horse from the front"),
        "motorcycle": (
            *("motorcycle", "motorcycle from the front", "person riding a motorcycle", "parked motorcycle in a street"),
        ),
        "person": (
            *("person", "person walking", "person from behind", "sitting person", "person in a street"),
            *("person riding a bicycle", "child playing"),
        ),
        "sheep": ("sheep", "grazing sheep", "lying sheep", "sheep from behind"),
        "train": ("train", "train at a station", "locomotive", "train in a landscape"),
        "truck": ("truck", "truck from the front", "truck from behind", "pickup truck"),
    }
)
"""For subjects whose pictures otherwise look alike."""
_VIEWS = ("{c} from behind", "{c} from the front", "{c} from above", "part of a {c}", "{c} in the distance")
"""For any subject."""


@dataclass(frozen=True)
class Queries:
    """Queries by subject.

    Attributes:
        given: the user's; they replace the common ones.
    """

    given: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def of(self, subject: str) -> tuple[str, ...]:
        """One or more different queries, used in turn."""
        return self.given.get(subject) or COMMON.get(subject) or (subject,)


def read_queries(path: str | Path) -> Queries:
    """The queries in a JSON file of {subject: [query, …]}.

    Raises:
        ConfigurationError: it cannot be read, or holds something else.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"the queries in {path} cannot be read ({error}); write a JSON object") from error
    if not isinstance(content, dict) or not all(_is_list_of_words(words) for words in content.values()):
        raise ConfigurationError(f'{path} must hold queries by subject, such as {{"person": ["person walking"]}}')
    return Queries({subject: tuple(dict.fromkeys(words)) for subject, words in content.items()})


def _is_list_of_words(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(word, str) and word.strip() for word in value)


def further_queries(subject: str, asked: Collection[str], most: int = 3) -> list[str]:
    """At most `most` other views of a subject, which no query in `asked` contains."""
    views = dict.fromkeys((*COMMON.get(subject, ()), *(view.replace("{c}", subject) for view in _VIEWS)))
    return [view for view in views if view != subject and not any(view in words for words in asked)][:most]
