"""What a stage raises on a worker is the sentence that the driver prints."""

from __future__ import annotations

import pytest
from ray.data._internal.planner.plan_udf_map_op import _try_wrap_udf_exception
from ray.exceptions import RayError, RayTaskError

from data_jobs.runtime.exit_codes import user_error
from data_jobs.runtime.ray_data import prepare_ray_data
from everymask.errors import OutputError


def test_a_full_disk_on_a_worker_reaches_the_driver_as_its_sentence() -> None:
    prepare_ray_data()
    with pytest.raises(Exception, match="cannot write /full") as raised:
        _try_wrap_udf_exception(OutputError("cannot write /full"))  # as Ray Data does on the worker
    sent = RayTaskError("write_part", "", raised.value, "worker", 1, "127.0.0.1").to_bytes()
    assert str(user_error(RayError.from_bytes(sent).as_instanceof_cause())) == "cannot write /full"
