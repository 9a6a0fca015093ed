"""Run another project's tests with zarrs' codec pipeline, and compare with zarr's default one.

What `scripts/zarr_tests` and `scripts/downstream_tests` share. zarrs runs all tests; the default
pipeline runs those that do not pass with zarrs, to see whether they do there. Every test whose
outcome is another one must be in a reviewed list with the reason, and every entry of that list
must stand for such a test.
"""

from __future__ import annotations

import collections
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
import venv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

SCRIPTS = Path(__file__).resolve().parent
DEFAULT = "zarr.core.codec_pipeline.BatchedCodecPipeline"
ZARRS = "zarrs.ZarrsCodecPipeline"

# A process with nothing left to do takes tests from another one: a few of zarr's are slow. One that
# hangs ends its process, and has failed.
PYTEST = [
    *("-p", "suites_plugin", "-p", "no:cacheprovider", "-n", "auto", "--dist=worksteal", "-q"),
    *("-o", "faulthandler_timeout=600", "-o", "faulthandler_exit_on_timeout=true"),
    *("-o", "tmp_path_retention_policy=none"),
    "--continue-on-collection-errors",
]

# Where tests store their files, if there is room: nobody needs to wait for a disk.
RAM = Path("/dev/shm")
ENOUGH = 2 << 30  # bytes

Outcomes = dict[str, dict[str, Any]]  # by test, as `suites_plugin.Outcomes` writes them down


# ----------------------------------------------------------------------------- environment


def pip(python: Path, *arguments: str) -> None:
    """Run an environment's pip, or leave."""
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "-q", *arguments]
    if subprocess.run(command).returncode:
        sys.exit(2)


def make_environment(work: Path, requirements: Iterable[str]) -> Path:
    """Make an environment with what this one has and what else is required; return its Python.

    zarrs is built for it if it is not installed here.
    """
    try:
        importlib.metadata.version("zarrs-cython")
    except importlib.metadata.PackageNotFoundError:
        requirements = [*requirements, str(SCRIPTS.parent)]
    paths = [path for path in sys.path if path and Path(path) != SCRIPTS]
    python = layered_environment(work / "venv", paths, with_pip=True)
    pip(python, "install", *requirements)
    return python


def layered_environment(directory: Path, paths: Iterable[str], with_pip: bool = False) -> Path:
    """Make an environment that also finds what is in other directories; return its Python."""
    venv.create(directory, with_pip=with_pip)
    (packages,) = (directory / "lib").glob("python*/site-packages")
    (packages / "below.pth").write_text("".join(f"{path}\n" for path in paths))
    return directory / "bin" / "python"


def installed_version(python: Path, name: str) -> str:
    """Return the version of a project in an environment."""
    ask = "import importlib.metadata, sys; print(importlib.metadata.version(sys.argv[1]))"
    return subprocess.run(
        [str(python), "-c", ask, name], stdout=subprocess.PIPE, text=True, check=True
    ).stdout.strip()


def unpack_sources(work: Path, name: str, version: str) -> Path:
    """Fetch the source distribution of a release; return the directory that it unpacks to."""
    options = ["--no-deps", f"--no-binary={name}", "-d", str(work)]
    pip(Path(sys.executable), "download", *options, f"{name}=={version}")
    (archive,) = work.glob(f"{name}-*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(work, filter="data")
    return work / archive.name.removesuffix(".tar.gz")


# ------------------------------------------------------------------------------------ runs


def directory_for_files() -> tempfile.TemporaryDirectory[str]:
    """Make a directory for what tests store."""
    room = os.access(RAM, os.W_OK) and shutil.disk_usage(RAM).free >= ENOUGH
    return tempfile.TemporaryDirectory(
        prefix="tests-", dir=RAM if room else None, ignore_cleanup_errors=True
    )


@dataclass
class Comparison:
    """What became of tests with zarrs, and by default of those that did not pass with it.

    Parameters
    ----------
    ours, default : dict
        The outcomes.
    """

    ours: Outcomes
    default: Outcomes

    def differences(self) -> dict[str, tuple[str, str]]:
        """Return the outcomes by default and with zarrs of the tests where these differ."""
        out = {}
        for test, ours in self.ours.items():
            if ours["outcome"] != "passed":
                default = self.default.get(test, {"outcome": "not run"})
                if default["outcome"] != ours["outcome"]:
                    out[test] = default["outcome"], ours["outcome"]
        return out

    def passed(self) -> tuple[int, int]:
        """Count the tests that pass by default and those that pass with zarrs."""
        ours = sum(result["outcome"] == "passed" for result in self.ours.values())
        return ours + sum(default == "passed" for default, _ in self.differences().values()), ours


@dataclass
class Suite:
    """The tests of one project.

    Parameters
    ----------
    sources : Path
        Where they are run.
    python : Path
        The Python of an environment with all they need.
    work : Path
        A directory for what is written down.
    options : list of str
        Options of pytest for all runs.
    default : str
        The pipeline to compare with.
    """

    sources: Path
    python: Path
    work: Path
    options: list[str] = field(default_factory=list)
    default: str = DEFAULT

    def compare(self, tests: Iterable[str], *options: str) -> Comparison:
        """Run tests with zarrs, and by default those that do not pass.

        Parameters
        ----------
        tests : iterable of str
            Arguments of pytest that say which.
        options : str
            Options of pytest for both runs.
        """
        ours = self.run([*tests, *options], zarrs=True)
        again = [test for test, result in ours.items() if result["outcome"] != "passed"]
        return Comparison(ours, self.run([*self.only(again), *options]) if again else {})

    def only(self, tests: Iterable[str]) -> list[str]:
        """Return the arguments of pytest for a list of tests."""
        tests = list(tests)
        handle, path = tempfile.mkstemp(".json", dir=self.work)
        with open(handle, "w") as file:
            json.dump(tests, file)
        return [f"--only={path}", *sorted({test.partition("::")[0] for test in tests})]

    def run(self, arguments: Iterable[str], zarrs: bool = False) -> Outcomes:
        """Run tests with one of the pipelines; if that is impossible, say why and leave."""
        # Neither another zarr on the path nor options of pytest or zarr that happen to be set.
        theirs = ("PYTHON", "PYTEST_", "ZARR_")
        environment = {
            key: value for key, value in os.environ.items() if not key.startswith(theirs)
        }
        environment["PYTHONPATH"] = str(SCRIPTS)
        environment["HYPOTHESIS_PROFILE"] = "ci"  # the same examples each time
        environment["PYTHONHASHSEED"] = "0"  # the same order of names in all processes
        environment["ZARR_CODEC_PIPELINE__PATH"] = ZARRS if zarrs else self.default
        command = [str(self.python), "-m", "pytest", *PYTEST, *self.options]
        if zarrs:
            command.append("--zarrs")
        directory = Path(tempfile.mkdtemp(dir=self.work))
        command += [f"--outcomes={directory / 'outcomes.json'}", *arguments]
        start = time.monotonic()
        with open(directory / "log", "w") as log, directory_for_files() as environment["TMPDIR"]:
            code = subprocess.run(
                command, cwd=self.sources, env=environment, stdout=log, stderr=log
            ).returncode
        written = directory / "outcomes.json"
        outcomes: Outcomes = json.loads(written.read_text()) if written.exists() else {}
        # 0: all passed, 1: some failed, 5: all were skipped with their modules
        if code not in {0, 1, 5} or (zarrs and not outcomes):
            print(*command, (directory / "log").read_text(), f"pytest ended with {code}", sep="\n")
            sys.exit(2)
        pipeline = "zarrs" if zarrs else "default"
        counts = collections.Counter(name for test in outcomes.values() for name in test["used"])
        line = [f"{pipeline}: {len(outcomes)} tests in {time.monotonic() - start:.0f} s"]
        line += [f"{count} used {name}" for name, count in sorted(counts.items())]
        print(*line, sep=", ", flush=True)
        return outcomes


# ---------------------------------------------------------------------------------- review


def read_expected(path: Path, installed: Mapping[str, str]) -> dict[str, str]:
    """Read a list of tests that may differ.

    Parameters
    ----------
    path : Path
        A TOML file. The names of its tables are requirements, their keys tests in which `*` stands
        for anything, and their values reasons.
    installed : mapping
        The versions of those projects whose tests are run; they say which tables apply.

    Returns
    -------
    dict
        Pattern -> reason.
    """
    out: dict[str, str] = {}
    for section, entries in tomllib.loads(path.read_text("utf-8")).items():
        requirement = Requirement(section)
        version = installed.get(requirement.name)
        if version and requirement.specifier.contains(version, prereleases=True):
            out |= entries
    return out


def matches(pattern: str, test: str) -> bool:
    """Whether a test is one of a pattern's, in which only `*` is special: names have brackets."""
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), test, re.DOTALL) is not None


def report(
    name: str, comparisons: Iterable[Comparison], expected: Mapping[str, str], complete: bool
) -> int:
    """Print what differs and what is not in order, and a line that sums it up.

    Parameters
    ----------
    name : str
        The project.
    comparisons : iterable of Comparison
        All runs of its tests.
    expected : mapping
        The list of tests that may differ.
    complete : bool
        Whether all tests were run, so that every entry must stand for one that differs.

    Returns
    -------
    int
        How many tests differ that are not in the list, plus how many entries stand for none.
    """
    unused = dict(expected)
    counts: collections.Counter[str] = collections.Counter()
    for comparison in comparisons:
        default, ours = comparison.passed()
        counts.update(tests=len(comparison.ours), default=default, ours=ours)
        for test, (before, after) in sorted(comparison.differences().items()):
            reasons = [pattern for pattern in expected if matches(pattern, test)]
            for pattern in reasons:
                unused.pop(pattern, None)
            verdict = f"expected, {expected[reasons[0]]}" if reasons else "NOT EXPECTED"
            counts["expected" if reasons else "unexpected"] += 1
            print(f"{test}: {before} by default, {after} with zarrs: {verdict}")
            if not reasons:
                print(comparison.ours[test]["details"])
    if not complete:
        unused.clear()
    for pattern in unused:
        print(f"NO LONGER TRUE: the list expects a difference of {pattern}, there is none")
    print(
        f"{name}: of {counts['tests']} tests {counts['default']} pass by default, {counts['ours']} "
        f"with zarrs; differences: {counts['expected']} expected, {counts['unexpected']} not, "
        f"{len(unused)} no longer true",
        flush=True,
    )
    return counts["unexpected"] + len(unused)
