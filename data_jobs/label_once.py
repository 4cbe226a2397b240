"""`label_dataset.py` for schedulers that start a failed job again whatever its exit code was, as KubeRay's RayJob does.

    python data_jobs/label_once.py --config label.yaml

An attempt that ended with 2 or 3 would end so again, after hours of GPUs in the worst case. It is recorded in the
output (`checkpoint/ended.json`, and its attempt in `run.json` if there is one), and the same command with the same file
ends with the same code in seconds, without a worker. Any edit of the file, of a comment too, or another option tries
again. Exit codes are those of `label_dataset.py`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

from data_jobs.label_dataset import command
from data_jobs.runtime.config_files import option_value
from data_jobs.runtime.exit_codes import TOO_MANY_ERRORS, USAGE
from data_jobs.runtime.outcome import told
from everymask import __version__
from everymask.errors import EverymaskError, OutputError
from everymask.files.json_text import parse_json
from everymask.files.storage import canonical_uri
from everymask.labels.provenance import RunAttempt, read_run, write_run
from everymask.labels.store import LabelStore
from everymask.redaction import redact_all

FINAL = (USAGE, TOO_MANY_ERRORS)
"""Exit codes that no further attempt would change, unless it was the output that could not be written."""


@dataclass(frozen=True)
class End:
    """How an attempt ended for good.

    Attributes:
        asked: digest of what was asked for.
        exit_code: one of `FINAL`.
        at: UTC, ISO 8601.
        reason: as the attempt said it.
    """

    asked: str
    exit_code: int
    at: str
    reason: str


def main(arguments: Sequence[str]) -> int:
    """Label, unless the attempt before has ended for good; returns the exit code."""
    store, asked = _output(arguments), _digest(arguments)
    if store is None:  # the command says what is wrong with its options
        return command(arguments)
    before = _read(store)
    if before is not None and before.asked == asked:
        print(
            f"error: the attempt of {before.at} ended with exit code {before.exit_code} ({before.reason}), and would "
            "do so again; mend that, then change the command or its file, if only in a comment",
            file=sys.stderr,
        )
        return before.exit_code
    attempt_before = _last_attempt(store)
    code = command(arguments)
    if code in FINAL and told("error_type") != OutputError.__name__:
        at = datetime.now(UTC).isoformat(timespec="seconds")
        with contextlib.suppress(
            EverymaskError, OSError
        ):  # an output that cannot be written: the next attempt is tried
            _record(store, End(asked, code, at, told("error") or "its log says why"), attempt_before)
    return code


def _output(arguments: Sequence[str]) -> LabelStore | None:
    try:
        return LabelStore(canonical_uri(command.parse(arguments).place()))
    except (EverymaskError, SystemExit):
        return None


def _digest(arguments: Sequence[str]) -> str:
    digest = hashlib.sha256(json.dumps([__version__, *arguments]).encode())
    with contextlib.suppress(OSError):
        if (file := option_value(arguments, "--config")) is not None:
            with open(file, "rb") as stream:
                digest.update(stream.read())
    return digest.hexdigest()


def _read(store: LabelStore) -> End | None:
    try:
        return End(**parse_json(store.ended_file.read()))
    except (OSError, ValueError, TypeError):  # none, or one that was cut short
        return None


def _last_attempt(store: LabelStore) -> RunAttempt | None:
    """The newest one of run.json; None if there is none that can be read."""
    with contextlib.suppress(EverymaskError, OSError):
        record = read_run(store) if store.exists() else None
        return record.attempts[-1] if record and record.attempts else None
    return None


def _record(store: LabelStore, end: End, attempt_before: RunAttempt | None) -> None:
    store.checkpoint.make_folder()
    store.ended_file.write((json.dumps(redact_all(asdict(end)), indent=2) + "\n").encode())
    record = read_run(store) if store.exists() else None
    # An attempt that was refused before it opened the output is not in run.json: the last one there is another's.
    if record is not None and record.attempts and record.attempts[-1] != attempt_before:
        attempt = replace(record.attempts[-1], exit_code=end.exit_code)
        write_run(store, replace(record, attempts=[*record.attempts[:-1], attempt]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
