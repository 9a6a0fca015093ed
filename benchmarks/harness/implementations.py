"""Who reads and writes Zarr arrays: zarr with one pipeline or another, and others."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import zarr

from .data import Array

if TYPE_CHECKING:
    from .cases import Case
    from .operations import Operation

Selection = Any  # what goes between the brackets of an array
Way = Literal["basic", "oindex", "vindex"]

PIPELINE, DIRECT = "zarrs", "direct"
OURS = (PIPELINE, DIRECT)


class Target(Protocol):
    """An open array of one implementation."""

    def read(self, selection: Selection, way: Way = "basic") -> Any: ...
    def write(self, selection: Selection, value: Array, way: Way = "basic") -> None: ...


class Implementation(Protocol):
    """Something that can read and write Zarr arrays."""

    @property
    def name(self) -> str:
        """What ``--impl`` calls it."""

    @property
    def title(self) -> str:
        """What tables call it."""

    def missing(self) -> str | None:
        """Import it; return why it cannot be used here, or None if it can."""

    def lacks(self, case: Case, operation: Operation) -> str | None:
        """Return why it cannot do an operation on a case, or None if it can."""

    def active(self) -> contextlib.AbstractContextManager[object]:
        """Return the context that every use of it has to be in."""

    def open(self, path: Path, zarr_format: int, *, writable: bool = False) -> Target:
        """Open the array at `path`."""


def indexed(array: Any, way: Way) -> Any:
    """Return what takes a selection between brackets."""
    return array if way == "basic" else getattr(array, way)


# ------------------------------------------------------------------------------------ zarr


class ZarrTarget:
    def __init__(self, array: Any) -> None:
        self.array = array

    def read(self, selection: Selection, way: Way = "basic") -> Any:
        return indexed(self.array, way)[selection]

    def write(self, selection: Selection, value: Array, way: Way = "basic") -> None:
        indexed(self.array, way)[selection] = value


@dataclasses.dataclass(frozen=True)
class ZarrPipeline:
    """zarr-python with one of its codec pipelines."""

    name: str
    title: str
    path: str
    options: dict[str, Any] = dataclasses.field(default_factory=dict)

    def missing(self) -> str | None:
        module, _, attribute = self.path.rpartition(".")
        try:
            pipeline = getattr(importlib.import_module(module), attribute, None)
        except ImportError as error:
            return str(error)
        if pipeline is None:
            return f"zarr {zarr.__version__} has no {self.path}"
        zarr.registry.register_pipeline(pipeline)
        return None

    def lacks(self, case: Case, operation: Operation) -> str | None:
        return case.lacking.get(self.name)

    def active(self) -> contextlib.AbstractContextManager[object]:
        options = {"codec_pipeline.path": self.path, **self.options}
        context: contextlib.AbstractContextManager[object] = zarr.config.set(options)
        return context

    def open(self, path: Path, zarr_format: int, *, writable: bool = False) -> Target:
        mode = "r+" if writable else "r"
        return ZarrTarget(zarr.open_array(path, mode=mode, zarr_format=zarr_format))  # type: ignore[arg-type]


@dataclasses.dataclass(frozen=True)
class ZarrsDirect(ZarrPipeline):
    """The direct access of this package."""

    def open(self, path: Path, zarr_format: int, *, writable: bool = False) -> Target:
        import zarrs

        return ZarrTarget(zarrs.open_array(path, mode="r+" if writable else "r"))


# ----------------------------------------------------------------------------- TensorStore


class TensorStoreTarget:
    def __init__(self, array: Any) -> None:
        self.array = array

    def read(self, selection: Selection, way: Way = "basic") -> Any:
        return indexed(self.array, way)[selection].read().result()

    def write(self, selection: Selection, value: Array, way: Way = "basic") -> None:
        indexed(self.array, way)[selection].write(value).result()


@dataclasses.dataclass(frozen=True)
class TensorStore:
    name: str
    title: str
    threads: int | None = None

    def missing(self) -> str | None:
        return None if importlib.util.find_spec("tensorstore") else "tensorstore is not installed"

    def lacks(self, case: Case, operation: Operation) -> str | None:
        return case.lacking.get(self.name)

    def active(self) -> contextlib.AbstractContextManager[object]:
        return contextlib.nullcontext()

    def open(self, path: Path, zarr_format: int, *, writable: bool = False) -> Target:
        tensorstore = importlib.import_module("tensorstore")
        context: dict[str, Any] = {"file_io_sync": False}  # as no other waits for the disk
        if self.threads is not None:
            context["data_copy_concurrency"] = {"limit": self.threads}
            context["file_io_concurrency"] = {"limit": self.threads}
        spec = {
            "driver": "zarr" if zarr_format == 2 else "zarr3",
            "kvstore": {"driver": "file", "path": f"{path}/"},
            "context": context,
        }
        return TensorStoreTarget(tensorstore.open(spec, read=True, write=writable).result())


# -------------------------------------------------------------------------------- zarrista


class ZarristaTarget:
    def __init__(self, array: Any) -> None:
        self.array = array

    def read(self, selection: Selection, way: Way = "basic") -> Any:
        found = self.array[selection].to_numpy()
        if not isinstance(selection, tuple) or found.ndim != len(selection):
            return found
        # An integer leaves an axis of length 1.
        return found[tuple(0 if isinstance(key, int) else slice(None) for key in selection)]

    def write(self, selection: Selection, value: Array, way: Way = "basic") -> None:
        self.array.store_array_subset(selection, np.ascontiguousarray(value))


@dataclasses.dataclass(frozen=True)
class Zarrista:
    name: str
    title: str

    def missing(self) -> str | None:
        return None if importlib.util.find_spec("zarrista") else "zarrista is not installed"

    def lacks(self, case: Case, operation: Operation) -> str | None:
        if operation.way != "basic":
            return "it takes no index arrays"
        return "it takes no slices with steps" if operation.steps else case.lacking.get(self.name)

    def active(self) -> contextlib.AbstractContextManager[object]:
        return contextlib.nullcontext()

    def open(self, path: Path, zarr_format: int, *, writable: bool = False) -> Target:
        zarrista, store = map(importlib.import_module, ("zarrista", "zarrista.store"))
        return ZarristaTarget(zarrista.Array.open(store.FilesystemStore(str(path))))


# ------------------------------------------------------------------------------------- all


def implementations(threads: int | None = None, *, strict: bool = False) -> list[Implementation]:
    """Return all that are known, installed or not; ours are the last.

    zarrista has as many threads as the environment variable ``RAYON_NUM_THREADS`` says when it
    begins.
    """
    options: dict[str, Any] = {"threading.max_workers": threads}
    ours = options | {"codec_pipeline.strict": strict}
    module = "zarr.core.codec_pipeline"
    return [
        ZarrPipeline("default", "zarr default", f"{module}.BatchedCodecPipeline", options),
        ZarrPipeline(
            "fused",
            "zarr Fused",
            f"{module}.FusedCodecPipeline",
            options | {"codec_pipeline.max_workers": threads},
        ),
        ZarrPipeline("rust", "Rust zarrs", "zarrs_rust.ZarrsCodecPipeline", options),
        TensorStore("tensorstore", "TensorStore", threads),
        Zarrista("zarrista", "zarrista"),
        ZarrPipeline(PIPELINE, "zarrs pipeline", "zarrs.ZarrsCodecPipeline", ours),
        ZarrsDirect(DIRECT, "zarrs direct", "zarrs.ZarrsCodecPipeline", ours),
    ]
