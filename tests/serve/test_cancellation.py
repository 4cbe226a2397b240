"""Work that nobody waits for any more is not done, wherever in the graph it was waiting."""

from __future__ import annotations

import time

import httpx
import pytest
from PIL import Image

from tests.serve.pictures import encoded, picture_file
from tests.serve.running_service import RunningService, await_that, standing_still

pytestmark = pytest.mark.serve

ENCODED = "ray_everymask_encoder_images_total{}"


def slow_to_decode() -> bytes:
    """A file that takes the encoder longer to read than a cancellation takes to arrive."""
    noise = Image.effect_noise((1400, 1400), 60).convert("RGB")
    return encoded(noise, "JPEG", quality=60, progressive=True)


def settled(service: RunningService) -> float:
    """How many images were encoded, once that has stood still: it is reported every second, after the answers."""
    await_that(lambda: service.metrics().get(ENCODED, 0) > 0)
    count, since = service.metrics()[ENCODED], time.monotonic()
    while time.monotonic() < since + 4:
        time.sleep(0.2)
        if (now := service.metrics()[ENCODED]) != count:
            count, since = now, time.monotonic()
    return count


def test_neither_a_client_that_left_nor_one_that_waited_too_long_occupies_the_encoder(service: RunningService) -> None:
    file = slow_to_decode()
    with service.client() as http:
        assert http.post("/v1/entities", files={"image": picture_file(700)}).status_code == 200
        before = settled(service)

        with standing_still(service.replica_pid("Encoder")):
            left = {"x-request-id": "client-that-left"}
            with pytest.raises(httpx.ReadTimeout):
                http.post("/v1/entities", files={"image": file}, headers=left, timeout=2)
            late = http.post("/v1/entities", files={"image": file}, headers={"x-request-id": "waited-too-long"})
        assert (late.status_code, late.json()["error"]["code"]) == (504, "timed_out")

        # The encoder is as fit as before, and all it has encoded since is what somebody waits for.
        after = picture_file(701)
        assert http.post("/v1/entities", files={"image": after}).status_code == 200
        assert settled(service) == before + 1
    for request_id in ("client-that-left", "waited-too-long"):
        calls = [entry for entry in service.log_entries(request_id) if entry["deployment"] == "everymask_Encoder"]
        assert not [entry for entry in calls if entry["message"].startswith("CALL embed OK")], calls
