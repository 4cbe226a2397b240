"""What the measurements of scaling share: inputs of many names, and a job whose driver is watched."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from data_jobs.labelling.inputs import batched

_FOLDER = Path(__file__).resolve().parent
JOB = _FOLDER.parent / "data_jobs" / "label_dataset.py"
STAND_IN = _FOLDER / "scaling_standin.py"
_RSS_POLL_S = 0.2
_ROWS_AT_ONCE = 65_536


def image_ids(images: int) -> Iterator[str]:
    """Names like a collection's: a folder for every thousand."""
    return (f"train/{index // 1000:06d}/{index:012d}.jpg" for index in range(images))


def write_manifest(folder: Path, images: int, files: list[Path] | None = None) -> Path:
    """A Parquet manifest of images that are not there, or of the files in turn under that many names."""
    path = folder / "manifest.parquet"
    with pq.ParquetWriter(path, pa.schema([("uri", pa.string()), ("image_id", pa.string())])) as writer:
        for some in batched(enumerate(image_ids(images)), _ROWS_AT_ONCE):
            uris = [str(files[number % len(files)]) if files else f"/nowhere/{name}" for number, name in some]
            writer.write_table(pa.table({"uri": uris, "image_id": [name for _, name in some]}))
    return path


def run_job(given: Path | str, output: Path, *more: str, job: Path = JOB) -> dict[str, float]:
    """The command, start to end; the driver's memory and CPU time are its own, without Ray's servers and workers."""
    command = [sys.executable, str(job), "--input", str(given), "--output", str(output)]
    command += ["--max-errors", "100%", "--previews", "0", *more]
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as log:
        driver = subprocess.Popen(command, stdout=log, stderr=log)
        peak_bytes, cpu_s = 0, 0.0
        while driver.poll() is None:
            peak_bytes = max(peak_bytes, resident_peak_bytes(driver.pid))
            cpu_s = max(cpu_s, cpu_seconds(driver.pid))
            time.sleep(_RSS_POLL_S)
        log.seek(0)
        if driver.returncode:
            sys.exit(f"{' '.join(command)} ended with {driver.returncode}:\n{log.read()}")
    seconds = time.monotonic() - started
    return {"seconds": round(seconds, 1), "driver_cpu_s": round(cpu_s, 1), "driver_peak_mib": round(peak_bytes / 2**20)}


def resident_peak_bytes(pid: int) -> int:
    """VmHWM of a process; 0 once it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far; 0 once it is gone."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


def sizes(output: Path) -> dict[str, int]:
    """Files that a run leaves in its output."""

    def files(name: str) -> int:
        return len([path for path in (output / name).rglob("*") if path.is_file()])

    return {"label_files": files("labels"), "shard_files": files("shards"), "checkpoint_files": files("checkpoint")}
