"""The codec pipeline that zarr calls.

A call becomes a plan, and the plan is run by the native loops; or there is a reason why not, and
zarr's own pipeline takes the call.
"""

from __future__ import annotations

import asyncio
import warnings
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from zarr.abc.codec import CodecPipeline
from zarr.core.codec_pipeline import BatchedCodecPipeline

from zarrs import _core, _threads
from zarrs._chain import Chain, foreign_order, make_chain, swapped_segments
from zarrs._config import Options, read_options
from zarrs._errors import Failure, NotNativeError, exception_of
from zarrs._files import take_direct_refusal
from zarrs._plan import Plan, make_plan
from zarrs._stores import file_prefix

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from zarr.abc.codec import Codec
    from zarr.abc.store import ByteGetter, ByteSetter
    from zarr.core.array_spec import ArraySpec
    from zarr.core.buffer import Buffer, NDBuffer

Batch = list[tuple[Any, "ArraySpec", Any, Any, bool]]
ChunkShape = tuple[tuple[int, ...], int]

PRESENT = {"status": "present"}
MISSING = {"status": "missing"}

# A call this small is done before another thread would have woken up.
INLINE_CHUNKS = 8
INLINE_BYTES = 512 * 1024
# Rough costs, to see how many threads a call can feed: microseconds a chunk, bytes a microsecond,
# and the microseconds that are worth starting a thread for.
CHUNK_COST = 8
BYTES_A_MICROSECOND = 2000
THREAD_COST = 200
PIECE = 256 * 1024

# Inner chunks of a local shard are read together only if that is cheaper than another system call,
# and only so many that they stay in the cache. zarr's own limits, which are meant for all stores,
# can make it less.
MAX_GAP = 16 * 1024
MAX_SPAN = 256 * 1024

MAX_CHUNK_BYTES = 2**60

FILL_KINDS = {2: 1, 4: 2, 8: 3}  # size of a float -> the FillKind that takes any NaN for empty


@dataclass(frozen=True)
class Job:
    """A planned call: what to run, and how to name it when it fails."""

    plan: Plan
    chain: Chain
    batch: Batch
    run: Callable[[int], None]
    threads: int
    writing: bool

    def execute(self, limit: int) -> None:
        """Run in the calling thread, with the threads the process's budget allows."""
        budget = _threads.budget()
        granted = budget.claim(self.threads, limit)
        try:
            self.run(_threads.team_size(granted))
        finally:
            budget.release(granted)
            if granted > 1:
                _threads.end_loop()

    async def execute_elsewhere(self, limit: int) -> None:
        """Run in a thread of the pool, off the event loop."""
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(_threads.pool(), self.execute, limit)
        except asyncio.CancelledError:
            self.plan.cancel()
            raise

    def check(self) -> None:
        """Raise the exception of the first failed chunk; warn if direct I/O was refused."""
        if take_direct_refusal():
            warnings.warn(
                "codec_pipeline.direct_io is on, but the file system does not take direct I/O: "
                "files are read and written through the page cache",
                stacklevel=2,
            )
        result = self.plan.failure()
        if result is None:
            return
        failure = Failure(*result)
        getter, spec, *_ = self.batch[failure.task]
        shard = self.chain.reader.shard
        shape = [spec.shape[k] for k in self.chain.order]
        raise exception_of(
            failure,
            keys=self.plan.keys,
            root="" if self.plan.in_memory else str(getter.store.root),
            ndim=self.plan.ndim,
            codecs=self.chain.names,
            grid=[n // m for n, m in zip(shape, shard.shape, strict=True)] if shard else (),
            writing=self.writing,
        )


class ZarrsCodecPipeline(CodecPipeline):
    """Codec pipeline that reads and writes chunks in parallel native loops.

    zarr makes it; users name it in ``zarr.config`` under ``codec_pipeline.path``. Options are read
    from ``zarr.config`` when a pipeline is made and again when it is unpickled.

    Parameters
    ----------
    zarr_pipeline : BatchedCodecPipeline
        zarr's own pipeline of the same codecs. It takes what is not native.

    Attributes
    ----------
    options : Options
        The options in force.
    """

    options: Options

    def __init__(self, zarr_pipeline: BatchedCodecPipeline) -> None:
        self._zarr = zarr_pipeline
        self._chains: dict[tuple[Any, int, str], Chain] = {}
        self.options = read_options()

    def __getstate__(self) -> BatchedCodecPipeline:
        return self._zarr

    def __setstate__(self, state: BatchedCodecPipeline) -> None:
        self.__init__(state)  # type: ignore[misc]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ZarrsCodecPipeline):
            return NotImplemented
        return self._zarr == other._zarr

    def __hash__(self) -> int:
        return hash(self._zarr)

    def __repr__(self) -> str:
        return f"ZarrsCodecPipeline({list(self)!r})"

    def __iter__(self) -> Iterator[Codec]:
        return iter(self._zarr)

    # What has nothing to do with chunks is zarr's.

    @classmethod
    def from_codecs(cls, codecs: Iterable[Codec]) -> Self:
        """Make a pipeline of codecs, in the order of encoding."""
        return cls(BatchedCodecPipeline.from_codecs(codecs))

    def evolve_from_array_spec(self, array_spec: ArraySpec) -> Self:
        """Return the pipeline for arrays of one specification."""
        return type(self)(self._zarr.evolve_from_array_spec(array_spec))

    @property
    def supports_partial_decode(self) -> bool:
        """Whether zarr's own pipeline can decode parts of a chunk."""
        return self._zarr.supports_partial_decode

    @property
    def supports_partial_encode(self) -> bool:
        """Whether zarr's own pipeline can encode parts of a chunk."""
        return self._zarr.supports_partial_encode

    def validate(self, *, shape: tuple[int, ...], dtype: Any, chunk_grid: Any) -> None:
        """Raise if the codecs do not fit an array."""
        self._zarr.validate(shape=shape, dtype=dtype, chunk_grid=chunk_grid)

    def compute_encoded_size(self, byte_length: int, array_spec: ArraySpec) -> int:
        """Return the size of an encoded chunk, for codecs of which it is known."""
        return self._zarr.compute_encoded_size(byte_length, array_spec)

    async def decode(
        self, chunk_bytes_and_specs: Iterable[tuple[Buffer | None, ArraySpec]]
    ) -> Iterable[NDBuffer | None]:
        """Decode chunks that somebody has fetched."""
        return await self._zarr.decode(chunk_bytes_and_specs)

    async def encode(
        self, chunk_arrays_and_specs: Iterable[tuple[NDBuffer | None, ArraySpec]]
    ) -> Iterable[Buffer | None]:
        """Encode chunks that somebody will store."""
        return await self._zarr.encode(chunk_arrays_and_specs)

    # Reading and writing.

    async def read(
        self,
        batch_info: Iterable[tuple[ByteGetter, ArraySpec, Any, Any, bool]],
        out: NDBuffer,
        drop_axes: tuple[int, ...] = (),
    ) -> Any:
        """Read selections of chunks into an array.

        Parameters
        ----------
        batch_info : iterable of tuple
            For every chunk its byte getter, its specification, the selection in the chunk, the
            selection in ``out``, and whether the chunk is selected completely.
        out : NDBuffer
            The array to fill.
        drop_axes : tuple of int
            Axes of length 1 that the selections in chunks have and ``out`` has not.

        Returns
        -------
        tuple of GetResult
            For every chunk, whether it was present or missing.

        Raises
        ------
        ChunkError
            If a chunk is damaged.
        OSError
            If a file cannot be read.
        NotNativeError
            If the call is not native and ``codec_pipeline.strict`` is set.
        """
        batch: Batch = list(batch_info)
        if not batch:
            return ()
        job = self._plan_read(batch, out, drop_axes)
        if isinstance(job, str):
            self._refuse_if_strict(job)
            return await self._zarr.read(batch, out, drop_axes)
        plan = job.plan
        if not plan.in_memory:
            await _ensure_open(batch)
        if plan.n_units <= INLINE_CHUNKS and _bytes_to_decode(plan, job.chain) <= INLINE_BYTES:
            job.run(1)
        else:
            await job.execute_elsewhere(self.options.max_workers)
        job.check()
        return plan.results(PRESENT, MISSING)

    async def write(
        self,
        batch_info: Iterable[tuple[ByteSetter, ArraySpec, Any, Any, bool]],
        value: NDBuffer,
        drop_axes: tuple[int, ...] = (),
    ) -> None:
        """Write an array, or one value, to selections of chunks.

        A chunk that is not selected completely is read and merged; the file of every chunk is
        replaced in one step, so a failed write leaves the old one.

        Parameters
        ----------
        batch_info : iterable of tuple
            As for `read`.
        value : NDBuffer
            The values; of shape ``()`` for one that goes everywhere.
        drop_axes : tuple of int
            As for `read`.

        Raises
        ------
        ChunkError
            If a chunk that is to be merged is damaged, or one cannot be encoded.
        OSError
            If a file cannot be written.
        NotNativeError
            If the call is not native and ``codec_pipeline.strict`` is set.
        """
        batch: Batch = list(batch_info)
        if not batch:
            return
        job = self._plan_write(batch, value, drop_axes)
        if isinstance(job, str):
            self._refuse_if_strict(job)
            await self._zarr.write(batch, value, drop_axes)
            return
        if not job.plan.in_memory:
            await _ensure_open(batch)
            batch[0][0].store._check_writable()
        await job.execute_elsewhere(self.options.max_workers)
        job.check()
        if job.plan.in_memory:
            for i, encoded in job.plan.take_encoded():
                setter, spec, *_ = batch[i]
                if encoded is None:
                    await setter.delete()
                else:
                    await setter.set(spec.prototype.buffer.from_bytes(encoded))

    def _refuse_if_strict(self, reason: str) -> None:
        if self.options.strict:
            raise NotNativeError(f"{reason} (and codec_pipeline.strict is set)")

    def _chain_of(self, spec: ArraySpec) -> Chain:
        key = (spec.dtype, len(spec.shape), spec.order)
        chain = self._chains.get(key)
        if chain is None:
            chain = make_chain(
                self,
                spec.dtype,
                len(spec.shape),
                spec.order,
                validate_checksums=self.options.validate_checksums,
            )
            self._chains[key] = chain
        return chain

    def _plan_read(self, batch: Batch, out: NDBuffer, drop_axes: tuple[int, ...]) -> Job | str:
        spec = batch[0][1]
        chain = self._chain_of(spec)
        prepared = _prepare(chain, spec, out.as_ndarray_like(), reading=True)
        if isinstance(prepared, str):
            return prepared
        layout, array = prepared
        if not array.flags.writeable:
            return "the result is read-only"
        plan = self._make_plan(batch, chain, array, drop_axes, reading=True)
        if isinstance(plan, str):
            return plan
        size = _bytes_to_decode(plan, chain)
        units = plan.n_units + (size // PIECE if _is_enterable(chain) else 0)
        return Job(
            plan=plan,
            chain=chain,
            batch=batch,
            run=partial(_core.read, plan, chain.reader, layout),
            threads=self._useful_threads(plan, size, units),
            writing=False,
        )

    def _plan_write(self, batch: Batch, value: NDBuffer, drop_axes: tuple[int, ...]) -> Job | str:
        spec = batch[0][1]
        chain = self._chain_of(spec)
        prepared = _prepare(chain, spec, value.as_ndarray_like(), reading=False)
        if isinstance(prepared, str):
            return prepared
        layout, array = prepared
        plan = self._make_plan(batch, chain, array, drop_axes, reading=False)
        if isinstance(plan, str):
            return plan
        options = self.options
        threads = self._useful_threads(plan, plan.chunk_bytes, plan.n_units)
        inner = 1
        if chain.threaded and plan.chunk_bytes >= plan.n_units * 4 * PIECE:
            threads, inner = _threads.balance(
                options.max_workers,
                plan.n_units,
                options.chunk_concurrent_minimum,
                options.chunk_concurrent_maximum,
            )
        keep_empty = spec.config.write_empty_chunks or options.store_empty_chunks
        return Job(
            plan=plan,
            chain=chain,
            batch=batch,
            run=partial(
                _core.write,
                plan,
                chain.writer,
                layout,
                inner_threads=inner,
                keep_empty=keep_empty,
            ),
            threads=threads,
            writing=True,
        )

    def _make_plan(
        self,
        batch: Batch,
        chain: Chain,
        array: np.ndarray[Any, Any],
        drop_axes: tuple[int, ...],
        *,
        reading: bool,
    ) -> Plan | str:
        first = batch[0][1]

        def describe(spec: ArraySpec) -> ChunkShape | str:
            if spec is not first and (
                spec.dtype != first.dtype
                or spec.order != first.order
                or len(spec.shape) != len(first.shape)
                or spec.config != first.config
                or not _same(spec.fill_value, first.fill_value)
            ):
                return "the chunks of one call differ in more than their shapes"
            size = chain.dtype.itemsize
            for n in spec.shape:
                size *= n
            if size > MAX_CHUNK_BYTES:
                return f"a chunk of {size} bytes is too big for native code"
            return spec.shape, size

        plan = make_plan(
            batch,
            array,
            chain.order,
            chain.dtype.itemsize,
            file_prefix,
            describe,
            not reading and array.ndim == 0,
            tuple(drop_axes),
            chain.reader.shard,
        )
        if not isinstance(plan, str):
            config = first.config
            # What is merged must not come from a file that has been replaced by somebody else.
            plan.configure(
                cached_files=self.options.file_handle_cache_size if reading else 0,
                direct=self.options.direct_io,
                max_gap=min(MAX_GAP, getattr(config, "sharding_coalesce_max_gap_bytes", MAX_GAP)),
                max_span=min(MAX_SPAN, getattr(config, "sharding_coalesce_max_bytes", MAX_SPAN)),
            )
        return plan

    def _useful_threads(self, plan: Plan, size: int, units: int) -> int:
        cost = plan.n_units * CHUNK_COST + size // BYTES_A_MICROSECOND
        options = self.options
        return max(
            1,
            min(
                options.max_workers,
                options.chunk_concurrent_maximum,
                units,
                cost // THREAD_COST,
            ),
        )


async def _ensure_open(batch: Batch) -> None:
    store = batch[0][0].store
    if not store._is_open:
        await store._ensure_open()


def _same(a: Any, b: Any) -> bool:
    return a is b or (np.asarray(a).tobytes() == np.asarray(b).tobytes())


def _is_enterable(chain: Chain) -> bool:
    # Whether threads can share a chunk, or an inner chunk, when it is read.
    reader = chain.reader
    while reader.shard is not None:
        reader = reader.shard.chain
    return reader.enterable


def _bytes_to_decode(plan: Plan, chain: Chain) -> int:
    reader = chain.reader
    if reader.enterable:
        return plan.touched_bytes
    return plan.prefix_bytes if reader.has_prefix else plan.chunk_bytes


def _prepare(
    chain: Chain, spec: ArraySpec, array: Any, *, reading: bool
) -> tuple[_core.Layout, np.ndarray[Any, Any]] | str:
    # What must hold for every native call, and the layout of its items.
    if chain.reason:
        return chain.reason
    if not isinstance(array, np.ndarray):
        return f"the array is a {type(array).__name__}, not a NumPy array"
    array = np.asarray(array)  # a subclass's own idea of indexing does not matter here
    segments = swapped_segments(chain.stored, array.dtype)
    if segments is None:
        return f"items of {chain.stored} are not copied to or from items of {array.dtype}"
    if len(segments) > 64:
        return f"data type {chain.dtype} has too many fields"
    target = array.dtype if reading else chain.stored
    fill_value = spec.fill_value
    if fill_value is None:
        fill_value = spec.dtype.default_scalar()
    try:
        fill = np.array(fill_value, dtype=chain.dtype).astype(target)
    except (TypeError, ValueError):
        return f"the fill value {fill_value!r} is no {chain.dtype}"
    kind = 0
    if fill.dtype.kind in "fc" and np.isnan(fill):
        kind = FILL_KINDS.get(fill.dtype.itemsize // (2 if fill.dtype.kind == "c" else 1), 0)
    layout = _core.Layout(
        chain.dtype.itemsize, segments, fill.tobytes(), kind, foreign_order(chain.stored)
    )
    return layout, array
