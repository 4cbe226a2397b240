from __future__ import annotations

import json
from pathlib import Path

import pytest

from everymask.classes.exemplars.queries import COMMON, Queries, further_queries, read_queries
from everymask.errors import ConfigurationError


def test_a_users_queries_count_in_place_of_the_common_ones(tmp_path: Path) -> None:
    path = tmp_path / "queries.json"
    path.write_text(json.dumps({"person": ["nurse", "surgeon", "nurse"]}))
    queries = read_queries(path)
    assert queries.of("person") == ("nurse", "surgeon")
    assert queries.of("car") == COMMON["car"]
    assert queries.of("unicorn") == ("unicorn",)
    assert Queries().of("person") == COMMON["person"]


@pytest.mark.parametrize(
    "content", ["[]", '{"person": []}', '{"person": "walking"}', '{"person": [" "]}', "{", "[" * 9999]
)
def test_what_is_no_list_of_queries_is_one_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / "queries.json").write_text(content)
    with pytest.raises(ConfigurationError, match=r"queries\.json"):
        read_queries(tmp_path / "queries.json")


def test_views_that_were_not_asked_for_are_named() -> None:
    asked = {"a photo of a person", "a photo of a person walking", "sitting person"}
    assert further_queries("person", asked) == ["person from behind", "person in a street", "person riding a bicycle"]
    assert further_queries("unicorn", {"unicorn"}, most=1) == ["unicorn from behind"]
    assert not set(further_queries("car", COMMON["car"])) & set(COMMON["car"])
