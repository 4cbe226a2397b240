"""Bodies that cost more to read than they are worth, without the service around them."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from typing import Any

import pytest
from starlette.requests import Request

from everymask.images.decoding import ImageLimits
from serve.errors import ServiceError
from serve.requests import read_request
from serve.schema import PointsBody


def request(body: bytes, content_type: str) -> Request:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    headers = [(b"content-type", content_type.encode())]
    scope = {"type": "http", "app": None, "method": "POST", "path": "/", "query_string": b"", "headers": headers}
    return Request(scope, receive)


def refused(body: bytes, content_type: str = "application/json") -> ServiceError:
    with pytest.raises(ServiceError) as error:
        asyncio.run(read_request(request(body, content_type), PointsBody, ImageLimits()))
    assert error.value.status == 422
    assert len(error.value.message) < 500
    return error.value


def form(name: str, value: str) -> tuple[bytes, str]:
    body = f'--x\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n{value}\r\n--x--\r\n'
    return body.encode(), "multipart/form-data; boundary=x"


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_deeply_nested_json_is_refused(opening: str) -> None:
    nested = opening * 10_000
    assert "point_coords" in refused(*form("point_coords", nested)).message
    refused(f'{{"point_coords": {opening * 15_000}'.encode())


@pytest.mark.parametrize("item", ["0", "[]", "[1]", '["x", 1]', "{}"])
@pytest.mark.parametrize("field", ["point_coords", "point_labels"])
def test_a_megabyte_of_bad_values_costs_little(field: str, item: str) -> None:
    for count in (3_000, 1_000_000 // len(item)):
        body = f'{{"{field}": [{",".join([item] * count)}]}}'.encode()
        tracemalloc.start()
        refused(body)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 4 * len(body) + 4_000_000


def test_a_long_list_in_a_form_field_is_refused() -> None:
    refused(*form("point_coords", json.dumps([[1, 1]] * 50_000)))


def test_a_long_name_is_not_repeated() -> None:
    name = "k" * 50_000
    assert name[:81] not in refused(json.dumps({name: 1}).encode()).message
    assert name[:81] not in refused(*form(name[:4000], "1")).message


def test_an_image_of_many_megabytes_is_no_long_list() -> None:
    body = json.dumps({"image_base64": "AAAA" * 2_000_000, "point_coords": [[1, 1]]}).encode()
    fields, data = asyncio.run(read_request(request(body, "application/json"), PointsBody, ImageLimits()))
    assert data == bytes(6_000_000)
    assert fields.point_coords == [[1, 1]]
