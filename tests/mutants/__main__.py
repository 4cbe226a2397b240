"""Change code in one place at a time and list what its fast tests do not notice: `make mutants MODULE=masks`."""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
RUNS = REPOSITORY / "runs" / "mutants"
LAST_CHARACTERS = 3000
"""So much of what mutmut printed is shown where it fails."""
NOTHING_TO_TRY = "nothing matches"
"""mutmut's words where no mutant has the name asked for: by then all are written and the tests timed."""
PACKAGES = ("everymask", "data_jobs", "serve", "everymask_cli")
ELSEWHERE = {
    "everymask/evaluation": (
        "tests/data_jobs/test_compare.py",
        "tests/data_jobs/test_evaluate.py",
        "tests/data_jobs/test_evaluate_annotated.py",
        "tests/data_jobs/test_evaluate_classes.py",
        "tests/data_jobs/evaluation",
    ),
    "everymask/classes": ("tests/labels/test_erasure.py",),
}
"""Fast tests of a folder that do not lie where its mirror is."""
NOT_COPIED = {"runs", "build", "dist", "heads"}

SETTINGS = """\
[mutmut]
source_paths =
    {sources}
only_mutate =
    {mutated}
also_copy =
    {others}
pytest_add_cli_args =
    -m
    not (slow or ray or serve or browser)
    -p
    no:cacheprovider
pytest_add_cli_args_test_selection =
    {tests}
do_not_mutate_patterns =
    raise \\w+
process_isolation = forkserver
use_git_change_detection = false
timeout_constant = 20
"""
# Words of messages are for people; no test should hold them letter by letter.


def source_of(module: str) -> Path:
    """`masks`, `everymask/masks` or a file → its path below the repository."""
    for path in (Path(module), Path("everymask") / module):
        if (REPOSITORY / path).exists():
            return path
    sys.exit(f"{module} is neither a path here nor a folder of everymask/")


def tests_of(source: Path) -> list[str]:
    """The tests mirror the packages: those of `everymask/masks/rle.py` lie in `tests/masks`."""
    parts = source.parts[1:] if source.parts[0] == "everymask" else source.parts
    tests = Path("tests", *parts)
    more = (path for folder, paths in ELSEWHERE.items() if source.is_relative_to(folder) for path in paths)
    return [str(tests.parent if tests.suffix else tests), *more]


def prepare(folder: Path, source: Path, tests: list[str]) -> None:
    """A folder that mutmut works in: links to everything of the repository, and its settings."""
    shutil.rmtree(folder, ignore_errors=True)
    # The copy stands before Python starts, which remembers of a missing folder that it has no modules.
    (folder / "mutants").mkdir(parents=True)
    links = [path for path in REPOSITORY.iterdir() if path.name[0] != "." and path.name not in NOT_COPIED]
    for path in links:
        (folder / path.name).symlink_to(path)
    mutated = source if source.suffix else source / "*"
    lines = "\n    ".join
    (folder / "setup.cfg").write_text(
        SETTINGS.format(
            sources=lines(PACKAGES),
            mutated=mutated,
            others=lines(sorted(path.name for path in links if path.name not in PACKAGES)),
            tests=lines(tests),
        )
    )


def mutmut(folder: Path, *arguments: str, ends_with: str = "") -> str:
    """Run mutmut, one thread a process; what it prints.

    Ends the program with mutmut's last lines where it fails, but not where it fails with the words `ends_with`.
    """
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder / "mutants")}
    command = [sys.executable, "-m", "mutmut", *arguments]
    ended = subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if ended.returncode and not (ends_with and ends_with in ended.stdout):
        sys.exit(f"mutmut {arguments[0]} failed in {folder}; its last lines:\n{ended.stdout[-LAST_CHARACTERS:]}")
    return ended.stdout


def verdicts(folder: Path) -> dict[str, int | None]:
    """Exit code of every mutant: None where it was not tried."""
    found: dict[str, int | None] = {}
    for path in sorted(folder.glob("mutants/**/*.meta")):
        found.update(json.loads(path.read_text())["exit_code_by_key"])
    return found


def main() -> None:
    """Run, and print the survivors as differences, then the count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("module", help="a folder or file: masks, review/matching.py, data_jobs/labelling")
    parser.add_argument("--tests", nargs="*", help="pytest's paths; by default those that mirror the module")
    parser.add_argument("--sample", type=int, help="try as many mutants, drawn at random, instead of all")
    parser.add_argument("--seed", type=int, nargs="+", default=[0], help="of the sample; several for as many samples")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="mutants tried at a time")
    args = parser.parse_args()
    source = source_of(args.module)
    folder = RUNS / str(source).replace("/", ".")
    prepare(folder, source, args.tests or tests_of(source))
    jobs = ["--max-children", str(args.jobs)]

    # Writes all mutants and times the tests, then finds none of this name to try.
    output = mutmut(folder, "run", *jobs, "no.such.mutant", ends_with=NOTHING_TO_TRY)
    names = sorted(verdicts(folder))
    if not names:
        sys.exit(f"no mutant of {source} could be made:\n{output[-LAST_CHARACTERS:]}")
    samples = {seed: drawn(names, args.sample, seed) for seed in args.seed} if args.sample else {"all": names}
    output = mutmut(folder, "run", *jobs, *sorted({name for sample in samples.values() for name in sample}))
    codes = verdicts(folder)
    if all(codes[name] is None for sample in samples.values() for name in sample):
        sys.exit(f"mutmut tried nothing; its last lines:\n{output[-LAST_CHARACTERS:]}")
    for seed, sample in samples.items():
        tried = [name for name in sample if codes[name] is not None]
        missed = [name for name in tried if codes[name] in SURVIVED]
        for name in missed:
            print(mutmut(folder, "show", name))
        late = sum(codes[name] in TIMED_OUT for name in tried)
        reasons = Counter(SURVIVED[codes[name]] for name in missed)
        killed = len(tried) - len(missed) - late
        counts = f"{len(tried)} tried, {killed} killed, {late} timed out; {dict(reasons)}"
        print(f"{source}, seed {seed}: {len(names)} mutants, {counts}", flush=True)


def drawn(names: list[str], count: int, seed: int) -> list[str]:
    """So many of the mutants, the same for the same code and seed."""
    return sorted(random.Random(seed).sample(names, min(count, len(names))))


SURVIVED = {0: "survived", 33: "no test runs the function", 5: "no test runs the function"}
"""mutmut's exit codes of mutants that no test noticed."""
TIMED_OUT = {-24, 24, 36, 152, 255}
"""Those of mutants that may be endless, or had too busy a machine: counted, and neither killed nor missed."""


if __name__ == "__main__":
    main()
