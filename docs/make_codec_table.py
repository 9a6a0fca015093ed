#!/usr/bin/env python3
"""Make docs/codecs.md from tests/support/codec_table.py and from what is recorded of others.

    python3 docs/make_codec_table.py           # writes docs/codecs.md
    python3 docs/make_codec_table.py --check   # says whether it is up to date
    python3 docs/make_codec_table.py --peers   # asks zarr's pipelines and the Rust package first

The last one writes docs/codec_peers.json. It needs an environment with zarr, the packages that
some codecs need, and the Rust package zarrs; this package is not needed. Where both are
installed, one of them has to have another import name: `--rust NAME` says which.
"""

import argparse
import importlib
import importlib.metadata
import json
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))

import codec_table as table  # noqa: E402
import dtype_table  # noqa: E402
import numpy as np  # noqa: E402
import zarr  # noqa: E402

PAGE = ROOT / "docs" / "codecs.md"
PEERS = ROOT / "docs" / "codec_peers.json"

BATCHED = "zarr.core.codec_pipeline.BatchedCodecPipeline"
FUSED = "zarr.core.codec_pipeline.FusedCodecPipeline"

OURS = {table.NATIVE: "native", table.PYTHON: "in Python", table.ZARR: "zarr's pipeline"}

# ------------------------------------------------------------------------------------ peers


def is_same(actual: Any, expected: np.ndarray) -> bool:
    actual = np.asarray(actual)
    if actual.shape != expected.shape:
        return False
    if expected.dtype.kind in "TO":
        return bool(actual.tolist() == expected.tolist())
    actual = actual.astype(expected.dtype, copy=False)
    return actual.tobytes() == expected.tobytes()


def open_with(path: str, pipeline: str, mode: str, *, strict: bool = False) -> Any:
    with zarr.config.set({"codec_pipeline.path": pipeline, "codec_pipeline.strict": strict}):
        return zarr.open_array(path, mode=mode)


def attempt(call: Callable[[], bool]) -> str:
    """Return "" if it is right, else what is wrong."""
    try:
        return "" if call() else "wrong data"
    except BaseException as error:  # a panic in Rust is no Exception
        if isinstance(error, KeyboardInterrupt):
            raise
        return f"{type(error).__name__}: {error}".splitlines()[0][:100]


def ask_pipeline(make: Callable[[str], Any], data: np.ndarray, rust: str) -> dict[str, str]:
    """Let each pipeline read what the default one has written, and write."""
    with tempfile.TemporaryDirectory() as directory, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stored = f"{directory}/stored"
        with zarr.config.set({"codec_pipeline.path": BATCHED}):
            make(stored)[...] = data
            expected = np.asarray(zarr.open_array(stored, mode="r")[...])

        def reads(pipeline: str, strict: bool = False) -> str:
            def call() -> bool:
                array = open_with(stored, pipeline, "r", strict=strict)
                return is_same(array[...], expected) and is_same(
                    array[3:9, 2:7], expected[3:9, 2:7]
                )

            return attempt(call)

        def writes(pipeline: str, strict: bool = False) -> str:
            path = f"{directory}/written"

            def call() -> bool:
                shutil.rmtree(path, ignore_errors=True)
                with zarr.config.set({"codec_pipeline.path": BATCHED}):
                    make(path)
                open_with(path, pipeline, "r+", strict=strict)[...] = data
                return is_same(open_with(path, BATCHED, "r")[...], expected)

            return attempt(call)

        out = {"default": "yes"}
        problem = reads(FUSED) or writes(FUSED)
        pipeline = open_with(stored, FUSED, "r")._async_array.codec_pipeline
        out["fused"] = problem or ("yes" if pipeline.sync_transform else "as the default")
        reading, writing = reads(rust, strict=True), writes(rust, strict=True)
        if "wrong data" in (reading, writing):
            out["rust"] = f"wrong data {'read' if reading == 'wrong data' else 'written'}"
        elif not reading:
            out["rust"] = "native" if not writing else "reads natively"
        else:
            out["rust"] = "falls back"
        if reading or writing:
            problem = reads(rust) or writes(rust)
            if problem and "wrong" not in out["rust"]:
                print("  ", "rust:", problem)
                out["rust"] = "fails" if reads(rust) else "reads natively, fails to write"
        if reading or writing:
            print("  ", "rust, strict:", reading, "|", writing)
        return out


def ask_peers(rust: str) -> dict[str, Any]:
    module = importlib.import_module(rust)
    zarr.registry.register_pipeline(module.ZarrsCodecPipeline)
    name = f"{rust}.ZarrsCodecPipeline"
    out: dict[str, Any] = {
        "versions": {
            "zarr": zarr.__version__,
            "numcodecs": importlib.metadata.version("numcodecs"),
            "zarrs": module.__version__,
            "tensorstore": importlib.metadata.version("tensorstore"),
        },
        "codecs": {},
        "dtypes": {},
    }
    for row in table.CODECS:
        if row.missing():
            sys.exit(f"{row.name} needs {row.missing()}")
        answers = out["codecs"][row.name] = {}
        for dtype in row.dtypes:
            print(row.name, dtype, flush=True)

            def make(path: str, row: Any = row, dtype: str = dtype) -> Any:
                return table.make_array(path, row, dtype)

            answers[dtype] = ask_pipeline(make, table.make_data(row, dtype), name)
    for case in dtype_table.DTYPE_CASES:
        if case.newer_zarr():
            sys.exit(f"{case.name} needs {case.newer_zarr()}")
        print(case.name, flush=True)

        def make_one(path: str, case: Any = case) -> Any:
            return case.make_array(path, case.row.fills[0])

        data = table.make_data(case.row, case.dtype)
        out["dtypes"][case.name] = ask_pipeline(make_one, data, name)
    return out


# ------------------------------------------------------------------------------------- page


def summary(verdicts: Iterable[tuple[str, str]]) -> str:
    """One cell: what holds for most, then for what something else holds."""
    groups: dict[str, list[str]] = {}
    for label, verdict in verdicts:
        groups.setdefault(verdict, []).append(label)
    good = ("native", "yes")  # before anything else
    first, *others = sorted(groups, key=lambda v: (v not in good, -len(groups[v])))
    out = [first]
    for verdict in others:
        names = sorted({label for label in groups[verdict] if label} - set(groups[first]))
        out.append(f"{verdict}: {', '.join(names)}" if names else verdict)
    return "; ".join(out)


def line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def codec_lines(peers: dict[str, Any]) -> list[str]:
    out = []
    keys = sorted({(row.zarr_format, row.codec) for row in table.CODECS}, key=order)
    for zarr_format, codec in keys:
        rows = [r for r in table.CODECS if (r.zarr_format, r.codec) == (zarr_format, codec)]
        cells = [f"`{codec}`", str(zarr_format)]
        cells.append(summary((code(r.label), OURS[r.ours]) for r in rows))
        for peer in ("default", "fused"):
            cells.append(summary(peer_verdicts(peers, rows, peer)))
        cells.append(summary((code(r.label), "yes" if r.tensorstore else "no") for r in rows))
        cells.append(summary(peer_verdicts(peers, rows, "rust")))
        out.append(line(cells))
    return out


def code(label: str) -> str:
    return f"`{label.replace('|', '')}`" if label else ""


def order(key: tuple[int, str]) -> tuple[int, bool, str]:
    zarr_format, codec = key
    return -zarr_format, codec.startswith("numcodecs."), codec


def peer_verdicts(
    peers: dict[str, Any], rows: list[table.CodecRow], peer: str
) -> Iterable[tuple[str, str]]:
    for row in rows:
        answers = peers["codecs"][row.name]
        # Foreign byte order as such is for the table of data types.
        dtypes = [dtype for dtype in row.dtypes if dtype[0] != ">"]
        kinds = {answers[dtype][peer] for dtype in dtypes}
        for dtype in dtypes:
            label = row.label if len(kinds) == 1 else " ".join(filter(None, [row.label, dtype]))
            yield code(label), answers[dtype][peer]


def dtype_lines(peers: dict[str, Any]) -> list[str]:
    out = []
    for row in dtype_table.DTYPES:
        cases = [case for case in dtype_table.DTYPE_CASES if case.row is row]
        forms = ", ".join(code(text_of(dtype)) for dtype in row.dtypes)
        cells = [f"`{row.name}`", forms, OURS[table.NATIVE]]
        for peer in ("default", "fused"):
            cells.append(summary(dtype_verdicts(peers, cases, peer)))
        cells.append("yes" if row.tensorstore == row.formats else "no")
        cells.append(summary(dtype_verdicts(peers, cases, "rust")))
        out.append(line(cells))
    return out


def dtype_verdicts(
    peers: dict[str, Any], cases: list[dtype_table.DtypeCase], peer: str
) -> Iterable[tuple[str, str]]:
    for case in cases:
        label = f"{code(text_of(case.dtype))} in format {case.zarr_format}"
        if case.endian:
            label += f", {case.endian}"
        yield label, peers["dtypes"][case.name][peer]


def text_of(dtype: Any) -> str:
    if not isinstance(dtype, list):
        return str(dtype)
    return "; ".join(f"{n} {t if isinstance(t, str) else f'({text_of(t)})'}" for n, t in dtype)


TEXT = """# Codecs and data types

Made by `docs/make_codec_table.py` from `tests/support/codec_table.py`, which is also what
`tests/codecs/test_codec_table.py` walks through: each row is written by zarr and read here, written
here and read by zarr, and compared byte by byte where the format fixes the bytes.

- **native**: this package's loops encode and decode it, without the GIL.
- **in Python**: the codec's own Python code is called, for this stage only. Chains are mixed stage
  by stage: everything before and after it, and reading and storing, stays native. Codecs that
  zarrs does not know, your own among them, run like that too.
- **zarr's pipeline**: zarr's own pipeline takes all of the array, as it does without zarrs.

`print(zarrs.explain(array))` says what runs where for an array of yours, and why;
`zarrs.explain(array).native` and `.hybrid` are the same as booleans. After a colon there are the
configurations and data types for which something else holds.

The other columns: zarr's default pipeline (*yes*: what it reads and writes is right); zarr's
`FusedCodecPipeline` (*yes*: its synchronous path takes it; *as the default*: some codec has no
synchronous form, so it runs as in the default pipeline); TensorStore (*yes*: it reads what is
written here); the Rust package `zarrs` (*native*: it reads and writes it in strict mode; *falls
back*: to zarr's default pipeline, with the same results; *wrong data read*: in parts of chunks).

Asked: {asked}.
"""


def page(peers: dict[str, Any]) -> str:
    versions = peers["versions"]
    asked = (
        f"zarr {versions['zarr']} on numcodecs {versions['numcodecs']}, "
        f"TensorStore {versions['tensorstore']}, Rust zarrs {versions['zarrs']}"
    )
    columns = ["zarrs", "zarr default", "zarr Fused", "TensorStore", "Rust zarrs"]
    cannot = [
        f"- `{name}` (format {zarr_format}): {why}."
        for (zarr_format, name), why in table.CANNOT.items()
    ]
    out = [
        TEXT.format(asked=asked),
        "## Codecs",
        "",
        line(["codec", "format", *columns]),
        line(["---"] * (2 + len(columns))),
        *codec_lines(peers),
        "",
        "Registered, but zarr itself opens no array of it:",
        "",
        *cannot,
        "",
        "## Data types",
        "",
        "In formats 2 and 3, in both byte orders, each with several fill values.",
        "",
        line(["data type", "tried as", *columns]),
        line(["---"] * (2 + len(columns))),
        *dtype_lines(peers),
        "",
        "zarr has no data type for these, among them those of the package `ml_dtypes`: "
        + ", ".join(map(code, dtype_table.NO_DTYPES))
        + ".",
        "",
    ]
    return "\n".join(out)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; 1 if out of date")
    parser.add_argument("--peers", action="store_true", help="ask the peers first")
    parser.add_argument("--rust", default="zarrs_rust", help="import name of the Rust package")
    options = parser.parse_args()
    if options.peers:
        answers = ask_peers(options.rust)
        PEERS.write_text(json.dumps(answers, indent=1) + "\n", "utf-8")
    made = page(json.loads(PEERS.read_text("utf-8")))
    if options.check:
        return int(made != PAGE.read_text("utf-8"))
    PAGE.write_text(made, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
