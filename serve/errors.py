"""The table from errors to HTTP status, code and sentence."""

from __future__ import annotations

from dataclasses import dataclass

from ray.exceptions import RayActorError, RayTaskError, TaskCancelledError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RequestCancelledError

from everymask.errors import (
    ConfigurationError,
    EverymaskError,
    HeadMismatchError,
    ImageTooLargeError,
    InputError,
    ModelOutputError,
    UnforeseenError,
)


class ServiceError(Exception):
    """An answer other than 200 chosen by the service itself."""

    def __init__(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(status, code, message, headers)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers or {}


class ImageUnknownError(EverymaskError):
    """The embedding of the given `image_id` is not, or no longer, in the cache."""


class TooCostlyError(EverymaskError):
    """The image is fine, but the request would occupy the service for too long."""


class DeviceLostError(EverymaskError):
    """A replica's accelerator failed, so the replica must be replaced."""


class EncodingFailedError(EverymaskError):
    """The encoder failed on one image for an unknown reason; its log has the traceback."""


@dataclass(frozen=True)
class _Row:
    error: type[BaseException]
    status: int
    code: str
    message: str | None
    """The client's sentence; None passes on the error's own."""


_INTERNAL_MESSAGE = "the service failed on this request; its log has the reason"

# The first row whose class fits decides. Errors of the library speak to users already; the rest must not leak.
_TABLE = (
    _Row(ImageTooLargeError, 413, "image_too_large", None),
    _Row(InputError, 422, "invalid_input", None),
    _Row(ImageUnknownError, 404, "image_unknown", None),
    _Row(TooCostlyError, 413, "too_costly", None),
    _Row(HeadMismatchError, 409, "head_mismatch", None),
    _Row(ConfigurationError, 409, "head_unusable", None),
    _Row(ModelOutputError, 500, "model_output", None),
    _Row(UnforeseenError, 500, "internal_error", _INTERNAL_MESSAGE),
    _Row(EncodingFailedError, 500, "internal_error", _INTERNAL_MESSAGE),
    _Row(DeviceLostError, 503, "unavailable", None),
    _Row(BackPressureError, 429, "overloaded", "the service is busy; send the request again after Retry-After seconds"),
    _Row(TimeoutError, 504, "timed_out", "the request took longer than the service's time limit and was cancelled"),
    _Row(TaskCancelledError, 503, "unavailable", "a part of the service stopped during the request; send it again"),
    _Row(RequestCancelledError, 503, "unavailable", "a part of the service stopped during the request; send it again"),
    _Row(DeploymentUnavailableError, 503, "unavailable", "a part of the service is down; look at /readyz"),
    _Row(RayActorError, 503, "unavailable", "a part of the service failed during the request; send it again"),
)

INTERNAL = ServiceError(500, "internal_error", _INTERNAL_MESSAGE)


def root_cause(error: BaseException) -> BaseException:
    """The error raised by a remote replica, without Ray's wrapping and its traceback."""
    while isinstance(error, RayTaskError) and isinstance(error.cause, BaseException):
        error = error.cause
    return error


def to_service_error(error: BaseException, retry_after_s: int) -> ServiceError:
    """The client's answer for `error`; anything unforeseen is `INTERNAL`."""
    cause = root_cause(error)
    if isinstance(cause, ServiceError):
        return cause
    for row in _TABLE:
        if isinstance(cause, row.error):
            headers = {"Retry-After": str(retry_after_s)} if row.status in (429, 503) else None
            return ServiceError(row.status, row.code, row.message or str(cause), headers)
    return INTERNAL
