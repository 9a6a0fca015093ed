"""Direct access to one array: from a selection to a job that the calling thread runs.

There is no event loop, no indexer and no tuple a chunk on the way. Whatever is unusual is left to
zarr's own methods, so that results and errors are the same.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import BufferPrototype, NDBuffer, default_buffer_prototype
from zarr.core.buffer.cpu import buffer_prototype as numpy_prototype
from zarr.core.chunk_grids import ChunkGrid
from zarr.core.chunk_key_encodings import DefaultChunkKeyEncoding, V2ChunkKeyEncoding
from zarr.core.config import config
from zarr.core.metadata import ArrayV2Metadata, ArrayV3Metadata
from zarr.storage import LocalStore

from zarrs import _run
from zarrs._buffers import RecyclingNDBuffer, empty_recycled
from zarrs._layout import make_layout
from zarrs._planner import MAX_CHUNK_BYTES
from zarrs.caching._chunk_cache import Section
from zarrs.execution import _execute
from zarrs.execution._job import INLINE_BYTES, INLINE_CHUNKS, is_tiny
from zarrs.indexing._grid import Grid
from zarrs.indexing._plan import Plan
from zarrs.indexing._plan_many import plan_many
from zarrs.indexing._plan_selected import plan_selected
from zarrs.storage._stores import file_prefix

if TYPE_CHECKING:
    from collections.abc import Callable

    import zarr
    from zarr.storage import StorePath

    from zarrs._core import Layout
    from zarrs._planner import Planner
    from zarrs.caching._chunk_cache import ChunkCache
    from zarrs.execution._job import Job
    from zarrs.indexing._selected import Selected

# What `zarr.config` says where buffers are NumPy's; to ask zarr for them takes longer than a plan.
NUMPY_BUFFERS = ("zarr.buffer.cpu.Buffer", "zarr.buffer.cpu.NDBuffer")
RECYCLED_BUFFERS = ("zarr.buffer.cpu.Buffer", "zarrs.RecyclingNDBuffer")
RECYCLED = BufferPrototype(numpy_prototype.buffer, RecyclingNDBuffer)


class NoAccessError(Exception):
    """There is no direct access, and why."""


class Access:
    """What it takes to read and write one array, found out once.

    Parameters
    ----------
    array : zarr.AsyncArray
        With this package's pipeline.
    metadata : ArrayMetadata
        The array's; others may change them meanwhile.
    planner : Planner
        The pipeline's.
    cache : ChunkCache, optional
        Where decoded chunks are kept.

    Raises
    ------
    NoAccessError
        If the array cannot be read and written directly.
    """

    def __init__(
        self,
        array: zarr.AsyncArray[Any],
        metadata: Any,
        planner: Planner,
        cache: ChunkCache | None = None,
    ) -> None:
        self.metadata = metadata
        self._array_config = array.config
        self._planner = planner
        self._store = array.store_path.store
        self._root: Any = None  # of a local store, of which the prefix is known
        self._prefix = b""
        self.order = metadata.order if metadata.zarr_format == 2 else array.config.order
        self.dtype = metadata.dtype.to_native_dtype()
        chunks = chunks_of(metadata)
        self._spec = self._spec_of(largest(chunks), numpy_prototype)
        self._chain = planner.chain_of(self._spec)
        if self._chain.reason:
            raise NoAccessError(self._chain.reason)
        if self._chain.python:
            names = ", ".join(part.name for part in self._chain.parts if part.python)
            raise NoAccessError(f"codecs in Python run there: {names}")
        if self._chain.by_shape and not all(isinstance(one, int) for one in chunks):
            raise NoAccessError("each shape of chunks has codecs of its own")
        self._itemsize = self.dtype.itemsize if self._chain.strings else self._chain.dtype.itemsize
        self._settings = planner.settings(self._spec, in_memory=False, reading=True)
        self._reports_missing = not getattr(array.config, "read_missing_chunks", True)
        self._keeps_overhang = planner.keeps_overhang(self._chain)
        try:
            self.grid = Grid(
                metadata.shape,
                chunks,
                tuple(self._chain.order),
                *key_parts(metadata, array.store_path),
            )
        except (ValueError, OverflowError) as error:
            raise NoAccessError(str(error)) from error
        size = self.grid.largest * self._itemsize
        if size > MAX_CHUNK_BYTES:
            raise NoAccessError(f"a chunk of {size} bytes is too big for native code")
        # Of arrays that this makes itself, if they are all alike.
        self._layout: Layout | None = None
        if not self._chain.strings:
            made = make_layout(self._chain, self._spec, np.empty((), self.dtype), reading=True)
            if isinstance(made, str):
                raise NoAccessError(made)
            self._layout = made[0]
        self._cache = cache
        self._section: Section | None = None  # of files below this prefix
        self._section_prefix: bytes | str | None = None

    def read(
        self, selected: Selected, out: Any = None, prototype: BufferPrototype | None = None
    ) -> Any:
        """Read what is selected.

        Parameters
        ----------
        selected : Selected
        out : NDBuffer, optional
            What to read into.
        prototype : BufferPrototype, optional
            What the result is to be made of.

        Returns
        -------
        array-like, scalar or NotImplemented
            NotImplemented: zarr's own method has to do it.
        """
        empty = maker_of_results() if out is None and prototype is None else None
        if empty is not None:
            spec = self._spec
            result: Any = empty(selected.shape, self.dtype, self.order)
            array, layout = result, self._layout
        else:
            prototype = prototype or default_buffer_prototype()
            if out is None:
                out = prototype.nd_buffer.empty(
                    shape=selected.shape, dtype=self.dtype, order=self.order
                )
            elif not isinstance(out, NDBuffer) or out.shape != selected.shape:
                return NotImplemented
            result = array = out.as_ndarray_like()
            spec, layout = self._spec_of(self._spec.shape, prototype), None
        if selected.n_chunks > 0:
            if layout is None:
                made = make_layout(self._chain, spec, array, reading=True)
                if isinstance(made, str) or not made[1].flags.writeable:
                    return NotImplemented
                layout, array = made
            plan = self._plan(selected, array, layout, writing=False)
            if plan is None:
                return NotImplemented
            section = self._kept_section()
            try:
                self._run_read(plan, layout, spec, section)
            except Exception:
                if section is None or self._chain.reader.shard is None:
                    raise
                # The fault may be that of an index which was kept and has been replaced since.
                section.forget(plan.keys)
                plan = self._plan(selected, array, layout, writing=False)
                assert plan is not None
                self._run_read(plan, layout, spec, None)
            if self._reports_missing and plan.has_missing():
                return NotImplemented
        return result[()] if selected.is_scalar else result

    def _run_read(
        self, plan: Plan, layout: Layout, spec: ArraySpec, section: Section | None
    ) -> None:
        if section is not None:
            plan.use_cache(section)
            if self._read_if_kept(plan, layout):
                return
        was_tiny = self._read_if_tiny(plan, layout)
        if not was_tiny or plan.has_failed:
            job = self._planner.read_job(plan, self._chain, layout, spec, self._store)
            if was_tiny:
                job.check()
            _run.read_now(job, self._planner.options)

    def _kept_section(self) -> Section | None:
        # Anew when the store, or the working directory, has moved.
        if self._cache is None:
            return None
        prefix = self._file_prefix()
        if self._section is None or self._section_prefix != prefix:
            self._section, self._section_prefix = Section(self._cache, self._store), prefix
        return self._section

    def _read_if_kept(self, plan: Plan, layout: Layout) -> bool:
        # A little of chunks that are kept is copied in less time than it takes to make a job.
        if self._chain.strings or plan.n_units > INLINE_CHUNKS or plan.array.nbytes > INLINE_BYTES:
            return False
        _execute.read(plan, self._chain.reader, layout, 1, only_kept=True)
        return plan.is_done and not plan.has_failed

    def _read_if_tiny(self, plan: Plan, layout: Layout) -> bool:
        # A few small chunks of files are read in less time than it takes to make a job.
        if (
            plan.in_memory
            or self._chain.strings
            or self._settings.direct
            or not self._store._is_open
            or not is_tiny(plan, self._chain, plan.bytes_to_decode(self._chain.reader))
        ):
            return False
        plan.configure(self._settings)
        _execute.read(plan, self._chain.reader, layout, 1)
        return True

    def write(self, selected: Selected, value: Any, prototype: BufferPrototype | None) -> bool:
        """Write to what is selected.

        Parameters
        ----------
        selected : Selected
        value : object
            An array-like of the selection's shape, or a scalar.
        prototype : BufferPrototype, optional
            What the value is turned into.

        Returns
        -------
        bool
            Whether it is done; if not, zarr's own method has to do it.
        """
        if prototype not in (None, numpy_prototype, RECYCLED):
            return False
        if maker_of_results() is None:
            return False
        if getattr(self.metadata, "_stored_document", None) is not None:
            return False  # what is stored of the metadata is invalid: zarr repairs it first
        value = as_values(value, self.dtype)
        made = make_layout(self._chain, self._spec, value, reading=False)
        if isinstance(made, str):
            return False
        layout, array = made
        if array.ndim > 0 and array.shape != selected.shape:
            return False
        if selected.n_chunks == 0:
            return True
        plan = self._plan(selected, array, layout, writing=True)
        if plan is None:
            return False
        job: Job = self._planner.write_job(plan, self._chain, layout, self._spec, self._store)
        _run.write_now(job, self._planner.options)
        return True

    def read_many(self, selections: list[Selected], out: list[np.ndarray[Any, Any]]) -> bool:
        """Read several selections in one call, every chunk once.

        Parameters
        ----------
        selections : list of Selected
            Not of points.
        out : list of numpy.ndarray
            What to read each into, of one data type.

        Returns
        -------
        bool
            Whether it is done; if not, zarr's own methods have to do it.
        """
        if self._chain.strings and any(one.dtype is not out[0].dtype for one in out):
            return False  # NumPy's strings are in the memory of their array's data type
        made = make_layout(self._chain, self._spec, out[0], reading=True)
        prefix = self._file_prefix()
        if isinstance(made, str) or isinstance(prefix, str):
            return False
        layout, first = made
        itemsize = first.dtype.itemsize if self._chain.strings else self._itemsize
        shard = self._chain.reader.shard
        plan = plan_many(selections, out, itemsize, prefix, shard)
        if plan is None or isinstance(plan, str):
            return plan is None
        section = self._kept_section()
        try:
            self._run_read_many(plan, layout, section)
        except Exception:
            if section is None or shard is None:
                raise
            section.forget(plan.keys)  # as in `read`
            plan = plan_many(selections, out, itemsize, prefix, shard)
            assert isinstance(plan, Plan)
            self._run_read_many(plan, layout, None)
        return not (self._reports_missing and plan.has_missing())

    def _run_read_many(self, plan: Plan, layout: Layout, section: Section | None) -> None:
        if section is not None:
            plan.use_cache(section)
        job = self._planner.read_job(plan, self._chain, layout, self._spec, self._store)
        _run.read_now(job, self._planner.options)

    def _plan(
        self, selected: Selected, array: np.ndarray[Any, Any], layout: Layout, *, writing: bool
    ) -> Plan | None:
        prefix = self._file_prefix()
        if isinstance(prefix, str):
            return None
        plan = plan_selected(
            selected,
            array,
            array.dtype.itemsize if self._chain.strings else self._itemsize,
            prefix,
            writing and array.ndim == 0,
            self._chain.reader.shard,
            self._keeps_overhang,
        )
        return None if isinstance(plan, str) else plan

    def _file_prefix(self) -> bytes | str | None:
        # As `file_prefix`, which is asked once where neither store nor working directory can move.
        store = self._store
        if type(store) is not LocalStore:
            return file_prefix(store)
        if store.root is not self._root:
            prefix = file_prefix(store)
            if not store.root.is_absolute():
                return prefix
            assert isinstance(prefix, bytes)
            self._prefix = prefix
            self._root = store.root
        return self._prefix

    def _spec_of(self, shape: tuple[int, ...], prototype: BufferPrototype) -> ArraySpec:
        settings = self._array_config
        if self.metadata.zarr_format == 2:
            settings = replace(settings, order=self.metadata.order)
        return ArraySpec(
            shape=shape,
            dtype=self.metadata.dtype,
            fill_value=self.metadata.fill_value,
            config=settings,
            prototype=prototype,
        )


def chunks_of(metadata: Any) -> tuple[Any, ...]:
    """Return along every axis the size of all chunks that are stored, or that of each."""
    grid_of: Any = getattr(ChunkGrid, "from_metadata", None)
    if grid_of is not None:  # zarr before 3.4 has regular grids only
        axes = grid_of(metadata)._dimensions
        return tuple(axis.size if hasattr(axis, "size") else axis.edges for axis in axes)
    chunks: tuple[int, ...] = (
        metadata.chunks if metadata.zarr_format == 2 else metadata.chunk_grid.chunk_shape
    )
    return chunks


def largest(chunks: tuple[Any, ...]) -> tuple[int, ...]:
    """Return the shape that holds every chunk."""
    return tuple(one if isinstance(one, int) else max(one) for one in chunks)


def key_parts(metadata: Any, store_path: StorePath) -> tuple[str, str, bool, Any]:
    """Return how keys of chunks are made: the last four parameters of `Grid`."""
    head = f"{store_path.path}/" if store_path.path else ""
    only = "" if metadata.shape else "0"  # of an array without axes
    if type(metadata) is ArrayV2Metadata:
        return head + only, metadata.dimension_separator, False, None
    encoding = metadata.chunk_key_encoding
    if type(metadata) is ArrayV3Metadata and type(encoding) is DefaultChunkKeyEncoding:
        return f"{head}c", encoding.separator, True, None
    if type(metadata) is ArrayV3Metadata and type(encoding) is V2ChunkKeyEncoding:
        return head + only, encoding.separator, False, None
    encode = metadata.encode_chunk_key
    return head, "/", False, lambda numbers: (store_path / encode(numbers)).path


def as_values(value: Any, dtype: np.dtype[Any]) -> Any:
    """Return what is to be written as an array of the array's data type, as zarr does."""
    if np.isscalar(value):
        return np.asanyarray(value, dtype=dtype)
    if not hasattr(value, "shape"):
        value = np.asarray(value, dtype)
    if not hasattr(value, "dtype") or value.dtype.name != dtype.name:
        if hasattr(value, "astype"):
            return value.astype(dtype=dtype, order="A")
        return np.array(value, dtype=dtype, order="A")
    return value


def maker_of_results() -> Callable[..., Any] | None:
    """Return what makes results, as ``numpy.empty`` does; None: they are no arrays of NumPy's."""
    settings = config.config
    chosen = settings.get("buffer"), settings.get("ndbuffer")
    if chosen == NUMPY_BUFFERS:
        return np.empty
    if chosen == RECYCLED_BUFFERS:
        return empty_recycled
    buffers = default_buffer_prototype()
    if buffers == numpy_prototype:
        return np.empty
    return empty_recycled if buffers == RECYCLED else None
