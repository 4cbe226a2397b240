from __future__ import annotations

import inspect

import pytest
from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError

import everymask.errors
from serve.errors import INTERNAL, DeviceLostError, ImageUnknownError, ServiceError, to_service_error


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (everymask.errors.InputError("the file is empty"), 422, "invalid_input"),
        (everymask.errors.ImageTooLargeError("too many pixels"), 413, "image_too_large"),
        (everymask.errors.HeadMismatchError("another backbone"), 409, "head_mismatch"),
        (everymask.errors.ModelOutputError("NaN"), 500, "model_output"),
        (everymask.errors.UnforeseenError("KeyError: 3"), 500, "internal_error"),
        (ImageUnknownError("unknown"), 404, "image_unknown"),
        (BackPressureError(9, 8), 429, "overloaded"),
        (TimeoutError(), 504, "timed_out"),
        (RayActorError(), 503, "unavailable"),
        (DeviceLostError("no GPU any more"), 503, "unavailable"),
        (ServiceError(418, "teapot", "short and stout"), 418, "teapot"),
        (ZeroDivisionError("secret detail"), 500, "internal_error"),
    ],
)
def test_each_error_has_its_status(error: Exception, status: int, code: str) -> None:
    answer = to_service_error(error, retry_after_s=3)
    assert (answer.status, answer.code) == (status, code)
    assert ("Retry-After" in answer.headers) == (status in (429, 503))


def test_every_error_of_the_library_has_a_row() -> None:
    classes = [item for _, item in inspect.getmembers(everymask.errors, inspect.isclass)]
    # The base is never raised, the service writes no output, and what nobody thought of is for the log alone.
    unreachable = (everymask.errors.EverymaskError, everymask.errors.OutputError, everymask.errors.UnforeseenError)
    concrete = [item for item in classes if item not in unreachable]
    assert len(concrete) >= 6
    for item in concrete:
        answer = to_service_error(item("the sentence"), retry_after_s=1)
        assert answer is not INTERNAL
        assert answer.message == "the sentence"


def test_a_remote_error_is_unwrapped_and_its_traceback_stays_inside() -> None:
    wrapped = RayTaskError("refine", "Traceback (most recent call last): secret", everymask.errors.InputError("bad"))
    answer = to_service_error(wrapped.as_instanceof_cause(), retry_after_s=1)
    assert (answer.status, answer.message) == (422, "bad")
    hidden = RayTaskError("refine", "Traceback (most recent call last): secret", KeyError("secret"))
    assert "secret" not in to_service_error(hidden.as_instanceof_cause(), retry_after_s=1).message
