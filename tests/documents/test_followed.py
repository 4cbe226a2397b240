"""The documents are followed: what a page has people type is typed, in its order, or a reason says why not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.documents.fenced import PAGES, REPOSITORY, commands_of
from tests.documents.reasons import REASONS, reason_not_to_run
from tests.documents.walking import Walk, Walker
from tests.documents.world import bucket, furnish, furnish_bucket, furnish_clips, furnish_tables

_LABEL_PETS = "everymask label --input photos --output runs/pets --method classes --head runs/pets.safetensors"
_LABELS = "everymask label --input photos --output labels --method classes --head everyday"
WALKS = [
    Walk("README.md"),
    Walk("docs/start.md"),
    Walk("docs/browse.md", before=("everymask label --input photos --output runs/photos", "everymask serve")),
    Walk("docs/classes.md"),
    Walk("docs/how-to/bucket.md"),
    Walk("docs/how-to/correct-and-retrain.md", before=(_LABEL_PETS,)),
    Walk("docs/how-to/label-studio.md", before=(_LABEL_PETS,)),
    Walk("docs/how-to/sam3-by-names.md"),
    Walk("docs/how-to/selftest.md"),
    Walk("docs/how-to/serve.md"),
    Walk("docs/how-to/tables.md", alternatives=True),
    Walk("docs/how-to/tar-shards.md"),
    Walk("docs/how-to/videos.md", alternatives=True),
    Walk("docs/how-to/your-classes.md"),
    Walk("docs/labelling.md"),
    Walk("docs/review.md", before=(f"{_LABELS} --save-embeddings embeddings",)),
    Walk("docs/service.md"),
]


def test_every_command_is_followed_or_a_reason_says_why_not() -> None:
    followed = {REPOSITORY / walk.page for walk in WALKS}
    left = [
        f"{page.relative_to(REPOSITORY)}: {command}"
        for page in PAGES
        for command in commands_of(page)
        if page not in followed and reason_not_to_run(command) is None
    ]
    assert left == []


def test_every_reason_is_needed() -> None:
    every = [command for page in PAGES for command in commands_of(page)]
    assert [pattern for pattern in REASONS if not any(re.fullmatch(pattern, command) for command in every)] == []


def test_a_page_that_is_followed_has_something_to_type() -> None:
    assert [walk.page for walk in WALKS if all(map(reason_not_to_run, commands_of(REPOSITORY / walk.page)))] == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("walk", WALKS, ids=[walk.page for walk in WALKS])
def test_a_page_can_be_followed(walk: Walk, tmp_path: Path) -> None:
    furnish(tmp_path)
    furnish_tables(tmp_path)
    with bucket() as there:
        furnish_bucket(tmp_path, there)
        if walk.page.endswith("videos.md"):
            furnish_clips(tmp_path, there)
        Walker(tmp_path, there.asked).follow(walk)
