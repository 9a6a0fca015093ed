"""What scripts/fuzz has found worth keeping is read again: an array or an error, never a crash.

Here without a sanitizer, but through the whole pipeline, with every Python and on every system.
"""

import importlib.util
import sys
import zipfile
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import zarr
from helpers import PIPELINE, ROOT, ZARR_34

import zarrs

pytestmark = pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in:UserWarning")

FUZZ = ROOT / "fuzz"
SELECTOR = 4


def load_targets() -> ModuleType:
    """Import fuzz/targets.py, which is in no package that is installed."""
    spec = importlib.util.spec_from_file_location("fuzz_targets", FUZZ / "targets.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


TARGETS: dict[str, list[Any]] = load_targets().all_targets()


def inputs(target: str) -> Iterator[tuple[str, bytes]]:
    """Everything that is kept for a target."""
    with zipfile.ZipFile(FUZZ / "corpus" / f"{target}.zip") as corpus:
        for name in corpus.namelist():
            yield name, corpus.read(name)
    for path in sorted((FUZZ / "reproducers").glob(f"{target}.*")):
        yield path.name, path.read_bytes()


def outcome(case: Any, stored: bytes) -> str:
    """Read; what is neither an array nor one of these errors fails the test."""
    try:
        case.read_stored(stored)
    except zarrs.ChunkError:
        return "error"
    except MemoryError:
        return "memory"
    return "array"


@pytest.mark.parametrize("target", TARGETS)
def test_corpus(target: str) -> None:
    """Every input of a target: those of cases that this release of zarr has not go to others."""
    cases = {case.selector: case for case in TARGETS[target]}
    others = list(cases.values())
    found = set()
    with zarr.config.set({"codec_pipeline.path": PIPELINE}):
        for name, data in inputs(target):
            number = int.from_bytes(data[:SELECTOR], "little")
            case = cases.get(data[:SELECTOR], others[number % len(others)])
            found.add(outcome(case, data[SELECTOR:]))
            assert found <= {"array", "error", "memory"}, name
    assert {"array", "error"} <= found


@pytest.mark.parametrize("target", TARGETS)
def test_seeds_are_read(target: str) -> None:
    """What a case begins with is what its array holds."""
    for case in TARGETS[target]:
        expected = np.asarray(case.read())
        np.testing.assert_array_equal(np.asarray(case.read_stored(case.seed[SELECTOR:])), expected)


def test_every_target_has_a_corpus() -> None:
    """And every corpus a target, but for codecs that this release of zarr does not have."""
    kept = {path.stem for path in (FUZZ / "corpus").glob("*.zip")}
    missing = kept - set(TARGETS)
    assert kept >= set(TARGETS)
    assert missing == (set() if ZARR_34 else {"cast_value", "scale_offset"})
