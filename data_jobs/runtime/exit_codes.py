"""Messages and exit codes for jobs that cannot go on."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from data_jobs.runtime.outcome import tell
from everymask.errors import EverymaskError

DONE, USAGE, TOO_MANY_ERRORS, INTERRUPTED, UNREAD, TERMINATED = 0, 2, 3, 130, 141, 143
"""Exit codes of the commands."""


class Terminated(BaseException):
    """SIGTERM came: a scheduler or `kill` ends the command."""


def end_on_sigterm() -> None:
    """Let SIGTERM end the command in order, as Ctrl-C does.

    Ray's own handler, installed when Ray starts, prints a stack trace and ends the process at once, so call this again
    after each start of Ray.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _raise_terminated)


def _raise_terminated(number: int, frame: FrameType | None) -> None:
    # Tasks that are cancelled now may fail in Ray's own code, which would be printed below the command's last word.
    os.environ["RAY_IGNORE_UNHANDLED_ERRORS"] = "1"
    raise Terminated


def exit_code(command: Callable[[], int], kept: str) -> int:
    """Run a command; a user's mistake becomes one sentence, and an interruption reports what is `kept`."""
    end_on_sigterm()
    try:
        code = command()
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Whoever read what is printed, such as `head`, has enough; what is still held for them must not fail at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNREAD
    except Exception as error:
        if any(isinstance(cause, Terminated) for cause in _causes(error)):  # it came while compiled code was at work
            return _terminated(kept)
        reason = user_error(error)
        if reason is None:
            raise
        tell(error=str(reason), error_type=type(reason).__name__)
        print(f"error: {reason}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        print(f"interrupted; {kept}", file=sys.stderr)
        return INTERRUPTED
    except Terminated:
        return _terminated(kept)


def _terminated(kept: str) -> int:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not interrupt the end
    print(f"terminated; {kept}", file=sys.stderr)
    return TERMINATED


def user_error(error: BaseException) -> EverymaskError | None:
    """The user's mistake behind an error, however deep in Ray's wrapping; None for a fault of ours or Ray's."""
    for cause in _causes(error):
        # Ray also makes classes that are both its own error and the user's; their text is a whole stack trace.
        if isinstance(cause, EverymaskError) and not _is_of_ray(cause):
            return cause
    return None


def _is_of_ray(error: BaseException) -> bool:
    """Ray is not imported for this question, which takes a second: without it there is no such error."""
    exceptions = sys.modules.get("ray.exceptions")
    return exceptions is not None and isinstance(error, exceptions.RayTaskError)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        current = waiting.pop()
        if isinstance(current, BaseException) and id(current) not in seen:
            seen.add(id(current))
            yield current
            waiting += [getattr(current, "cause", None), current.__cause__, current.__context__]
