"""What a user is told when a job cannot go on, and the exit code that goes with it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

from ray.exceptions import RayTaskError

from everymask.errors import EverymaskError

DONE, USAGE, TOO_MANY_ERRORS, INTERRUPTED = 0, 2, 3, 130
"""Exit codes of the commands."""


def exit_code(command: Callable[[], int], kept: str) -> int:
    """Run a command; a user's mistake becomes one sentence, an interruption says what is `kept`."""
    try:
        return command()
    except Exception as error:
        reason = user_error(error)
        if reason is None:
            raise
        print(f"error: {reason}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        print(f"interrupted; {kept}", file=sys.stderr)
        return INTERRUPTED


def user_error(error: BaseException) -> EverymaskError | None:
    """The user's own mistake behind an error, however deep Ray has wrapped it; None for a fault of ours or of Ray."""
    for cause in _causes(error):
        # Ray also makes classes that are both its own error and the user's; their text is a whole stack trace.
        if isinstance(cause, EverymaskError) and not isinstance(cause, RayTaskError):
            return cause
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        current = waiting.pop()
        if isinstance(current, BaseException) and id(current) not in seen:
            seen.add(id(current))
            yield current
            waiting += [getattr(current, "cause", None), current.__cause__, current.__context__]
