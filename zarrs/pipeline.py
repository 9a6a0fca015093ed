"""The codec pipeline that zarr calls.

A call becomes a plan, and the plan is run by the native loops; or there is a reason why not, and
zarr's own pipeline takes the call.
"""

from __future__ import annotations

import asyncio
import warnings
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from zarr.abc.codec import CodecPipeline
from zarr.core.buffer import cpu
from zarr.core.codec_pipeline import BatchedCodecPipeline
from zarr.storage import LocalStore

from zarrs._config import Options, read_concurrency, read_options
from zarrs._core import FillKind, ItemKind, Layout
from zarrs.codecs._chain import Chain, Segment, foreign_order, make_chain, swapped_segments
from zarrs.codecs._python_stages import Call
from zarrs.execution import _execute
from zarrs.execution._job import BatchInfo, Job
from zarrs.indexing._make_plan import make_plan
from zarrs.indexing._plan import Plan
from zarrs.runtime import _threads
from zarrs.runtime._errors import NotNativeError
from zarrs.runtime._turns import is_loop_waiting
from zarrs.storage._client import StoreClient
from zarrs.storage._key_locks import key_locks
from zarrs.storage._store_reads import StoreReads, read_at_once
from zarrs.storage._store_writes import StoreWrites, write_at_once
from zarrs.storage._stores import file_prefix, identity, innermost, is_immediate, is_synchronous

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from zarr.abc.codec import Codec
    from zarr.abc.store import ByteGetter, ByteSetter, Store
    from zarr.core.array_spec import ArraySpec
    from zarr.core.buffer import Buffer, NDBuffer

ChunkShape = tuple[tuple[int, ...], int]

PRESENT = {"status": "present"}
MISSING = {"status": "missing"}

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
# zarr's limits, where it has no option for them yet.
MAX_STORE_GAP = 1024 * 1024
MAX_STORE_SPAN = 16 * 1024 * 1024

MAX_CHUNK_BYTES = 2**60


# Size of a float -> what takes any NaN for empty.
FILL_KINDS = {2: FillKind.FILL_NAN2, 4: FillKind.FILL_NAN4, 8: FillKind.FILL_NAN8}


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
        self._chains: dict[tuple[Any, ...], Chain] = {}
        self.options = read_options()

    def __getstate__(self) -> BatchedCodecPipeline:
        return self._zarr

    def __setstate__(self, state: BatchedCodecPipeline) -> None:
        self.__init__(state)  # type: ignore[misc]

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        """Return what dask names arrays by: the codecs, not how they happen to be pickled."""
        from dask.base import normalize_token

        return "zarrs.ZarrsCodecPipeline", normalize_token(self._zarr)

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
            If a file cannot be read. What a store raises is passed on, with a note of the key.
        NotNativeError
            If the call is not native and ``codec_pipeline.strict`` is set.
        """
        if is_loop_waiting():
            await asyncio.sleep(0)
        batch: BatchInfo = list(batch_info)
        if not batch:
            return ()
        groups = self._by_shape(batch)
        if len(groups) > 1:
            results: dict[int, Any] = {}
            for group in groups:
                part = await self.read([batch[i] for i in group], out, drop_axes)
                results.update(zip(group, part or (), strict=False))  # zarr 3.1 returns nothing
            return tuple(results[i] for i in sorted(results))
        job = self._plan_read(batch, out, drop_axes)
        if isinstance(job, str):
            self._refuse_if_strict(job)
            return await self._zarr.read(batch, out, drop_axes)
        workers = self.options.max_workers
        if job.store is not None and job.plan.in_memory:
            await self._read_through(job, job.store)
        else:
            if job.store is not None:
                await job.store._ensure_open()
            if job.is_tiny:
                job.run(1)
            else:
                await job.execute_elsewhere(workers)
        job.check()
        return job.plan.results(PRESENT, MISSING)

    async def _read_through(self, job: Job, store: Store) -> None:
        # Through the store's interface.
        workers = self.options.max_workers
        client = StoreClient(store, job.batch[0][1].prototype, is_synchronous(store))
        if not is_immediate(store):
            await StoreReads(job, client, read_concurrency(), workers).run()
        elif job.is_tiny:
            read_at_once(job, client, workers)
        else:
            await job.call_elsewhere(read_at_once, job, client, workers)

    async def write(
        self,
        batch_info: Iterable[tuple[ByteSetter, ArraySpec, Any, Any, bool]],
        value: NDBuffer,
        drop_axes: tuple[int, ...] = (),
    ) -> None:
        """Write an array, or one value, to selections of chunks.

        A chunk that is not selected completely is read and merged; the file of every chunk is
        replaced in one step, so a failed write leaves the old one. In other stores a chunk is
        stored as the store stores values.

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
            If a file cannot be written. What a store raises is passed on, with a note of the key.
        NotNativeError
            If the call is not native and ``codec_pipeline.strict`` is set.
        """
        if is_loop_waiting():
            await asyncio.sleep(0)
        batch: BatchInfo = list(batch_info)
        if not batch:
            return
        groups = self._by_shape(batch)
        if len(groups) > 1:
            for group in groups:
                await self.write([batch[i] for i in group], value, drop_axes)
            return
        job = self._plan_write(batch, value, drop_axes)
        if isinstance(job, str):
            self._refuse_if_strict(job)
            self._warn_if_not_synced(getattr(batch[0][0], "store", None))
            await self._zarr.write(batch, value, drop_axes)
            return
        if job.store is None:
            await job.execute_elsewhere(self.options.max_workers)
            job.check()
            await self._set_inner_chunks(job)
            return
        await job.store._ensure_open()
        job.store._check_writable()
        name = identity(job.store)
        async with key_locks().hold([f"{name} {key}" for key in job.plan.keys]):
            if job.plan.in_memory:
                self._warn_if_not_synced(job.store)
                await self._write_through(job, job.store)
            else:
                await job.execute_elsewhere(self.options.max_workers)
        job.check()

    async def _write_through(self, job: Job, store: Store) -> None:
        # Through the store's interface.
        workers = self.options.max_workers
        client = StoreClient(store, job.batch[0][1].prototype, is_synchronous(store))
        if is_immediate(store):
            await job.call_elsewhere(write_at_once, job, client, workers)
        else:
            await StoreWrites(job, client, read_concurrency(), workers).run()

    async def _set_inner_chunks(self, job: Job) -> None:
        # Inner chunks that zarr's own sharding codec holds.
        for i in job.plan.to_run():
            setter, spec, *_ = job.batch[i]
            encoded: Any = job.plan.take_encoded(i)  # a buffer, which Python 3.11 cannot say
            if encoded is None:
                await setter.delete()
            else:
                await setter.set(spec.prototype.buffer.from_bytes(encoded))

    def _refuse_if_strict(self, reason: str) -> None:
        if self.options.strict:
            raise NotNativeError(f"{reason} (and codec_pipeline.strict is set)")

    def _warn_if_not_synced(self, store: Any) -> None:
        # Of local files that somebody else writes.
        if self.options.fsync and isinstance(innermost(store), LocalStore):
            warnings.warn(
                "codec_pipeline.fsync is on, but zarr's own store writes these chunks: "
                "they are not synced",
                stacklevel=2,
            )

    def _chain_of(self, spec: ArraySpec) -> Chain:
        key: tuple[Any, ...] = (spec.dtype, len(spec.shape), spec.order)
        chain = self._chains.get(key)
        if chain is not None and chain.by_shape:
            key = (*key, spec.shape, spec.config, repr(spec.fill_value))
            chain = self._chains.get(key)
        if chain is None:
            validate = self.options.validate_checksums
            chain = make_chain(self, spec, validate_checksums=validate)
            self._chains[key] = chain
        return chain

    def _by_shape(self, batch: BatchInfo) -> list[list[int]]:
        # The chunks of a call that one chain holds for.
        if not self._chain_of(batch[0][1]).by_shape:
            return [[]]
        groups: dict[tuple[int, ...], list[int]] = {}
        for i, (_, spec, *_) in enumerate(batch):
            groups.setdefault(spec.shape, []).append(i)
        return list(groups.values())

    def _plan_read(self, batch: BatchInfo, out: NDBuffer, drop_axes: tuple[int, ...]) -> Job | str:
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
        call = _call_of(chain, spec)
        size = _bytes_to_decode(plan, chain)
        units = plan.n_units + (size // PIECE if _can_be_shared(chain) else 0)
        return Job(
            plan=plan,
            chain=chain,
            batch=batch,
            store=getattr(batch[0][0], "store", None),
            run=partial(_execute.read, plan, chain.reader, layout, call=call),
            call=call,
            threads=self._useful_threads(plan, size, units),
            size=size,
            writing=False,
        )

    def _plan_write(
        self, batch: BatchInfo, value: NDBuffer, drop_axes: tuple[int, ...]
    ) -> Job | str:
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
        call = _call_of(chain, spec)
        keep_empty = spec.config.write_empty_chunks or options.store_empty_chunks
        return Job(
            plan=plan,
            chain=chain,
            batch=batch,
            store=getattr(batch[0][0], "store", None),
            run=partial(
                _execute.write,
                plan,
                chain.writer,
                layout,
                inner_threads=inner,
                keep_empty=keep_empty,
                call=call,
            ),
            call=call,
            threads=threads,
            size=plan.chunk_bytes,
            writing=True,
        )

    def _make_plan(
        self,
        batch: BatchInfo,
        chain: Chain,
        array: np.ndarray[Any, Any],
        drop_axes: tuple[int, ...],
        *,
        reading: bool,
    ) -> Plan | str:
        first = batch[0][1]
        itemsize = array.dtype.itemsize if chain.strings else chain.dtype.itemsize

        def describe(spec: ArraySpec) -> ChunkShape | str:
            if spec is not first and (
                spec.dtype != first.dtype
                or spec.order != first.order
                or len(spec.shape) != len(first.shape)
                or spec.config != first.config
                or not _same(spec.fill_value, first.fill_value)
            ):
                return "the chunks of one call differ in more than their shapes"
            size = itemsize
            for n in spec.shape:
                size *= n
            if size > MAX_CHUNK_BYTES:
                return f"a chunk of {size} bytes is too big for native code"
            return spec.shape, size

        plan = make_plan(
            batch,
            array,
            chain.order,
            itemsize,
            file_prefix,
            describe,
            not reading and array.ndim == 0,
            tuple(drop_axes),
            chain.reader.shard,
            # zarr writes these in parts, even where it says that they are written completely.
            chain.reader.shard is not None and self.supports_partial_encode,
        )
        if not isinstance(plan, str):
            gap = getattr(first.config, "sharding_coalesce_max_gap_bytes", MAX_STORE_GAP)
            span = getattr(first.config, "sharding_coalesce_max_bytes", MAX_STORE_SPAN)
            # What is merged must not come from a file that has been replaced by somebody else.
            plan.configure(
                cached_files=self.options.file_handle_cache_size if reading else 0,
                direct=self.options.direct_io,
                sync=self.options.fsync and not reading,
                max_gap=gap if plan.in_memory else min(MAX_GAP, gap),
                max_span=span if plan.in_memory else min(MAX_SPAN, span),
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


def _call_of(chain: Chain, spec: ArraySpec) -> Call | None:
    return Call(spec.prototype) if chain.python or chain.strings else None


def _same(a: Any, b: Any) -> bool:
    return a is b or (np.asarray(a).tobytes() == np.asarray(b).tobytes())


def _can_be_shared(chain: Chain) -> bool:
    # Whether threads can share a chunk, or an inner chunk, when it is read.
    reader = chain.reader
    while reader.shard is not None:
        reader = reader.shard.chain
    return reader.supports_partial_decode


def _bytes_to_decode(plan: Plan, chain: Chain) -> int:
    reader = chain.reader
    if reader.supports_partial_decode:
        return plan.touched_bytes
    return plan.prefix_bytes if reader.has_prefix else plan.chunk_bytes


def _prepare(
    chain: Chain, spec: ArraySpec, array: Any, *, reading: bool
) -> tuple[Layout, np.ndarray[Any, Any]] | str:
    # What must hold for every native call, and the layout of its items.
    if chain.reason:
        return chain.reason
    if not isinstance(array, np.ndarray):
        return f"the array is a {type(array).__name__}, not a NumPy array"
    if not issubclass(spec.prototype.buffer, cpu.Buffer):
        return f"{spec.prototype.buffer.__name__} is no buffer in the memory of the CPU"
    array = np.asarray(array)  # a subclass's own idea of indexing does not matter here
    if chain.strings:
        return _prepare_strings(chain, spec, array, reading=reading)
    segments = swapped_segments(chain.stored, array.dtype)
    if segments is None:
        return f"items of {chain.stored} are not copied to or from items of {array.dtype}"
    if len(segments) > 64:
        return f"data type {chain.dtype} has too many fields"
    target = array.dtype if reading else chain.stored
    fill_value = spec.fill_value
    if fill_value is None:
        fill_value = spec.dtype.default_scalar()
    fill = _make_item(fill_value, chain.dtype)
    swaps = None if fill is None else swapped_segments(fill.dtype, target)
    if fill is None or swaps is None:
        return f"the fill value {fill_value!r} is no {chain.dtype}"
    kind = FillKind.FILL_BITS
    if fill.dtype.kind in "fc" and np.isnan(fill):
        kind = FILL_KINDS.get(fill.dtype.itemsize // (2 if fill.dtype.kind == "c" else 1), kind)
    layout = Layout(
        chain.dtype.itemsize,
        segments,
        _swap_bytes(fill.tobytes(), swaps),
        kind,
        foreign_order(chain.stored),
    )
    return layout, array


def _make_item(value: Any, dtype: np.dtype[Any]) -> np.ndarray[Any, Any] | None:
    # An array of one item, in any byte order; None: the value does not fit. NumPy is not asked to
    # change the byte order, as it leaves that of times with the generic unit as it is.
    native = dtype.newbyteorder("=")
    item = np.asarray(value)
    if item.shape == () and item.dtype.newbyteorder("=") == native:
        return item
    try:
        return np.array(value, dtype=native)
    except (TypeError, ValueError):
        return None


def _swap_bytes(item: bytes, segments: list[Segment]) -> bytes:
    swapped = bytearray(item)
    for offset, unit, count in segments:
        numbers = np.frombuffer(swapped, np.uint8, count * unit, offset).reshape(count, unit)
        numbers[...] = numbers[:, ::-1].copy()
    return bytes(swapped)


def _prepare_strings(
    chain: Chain, spec: ArraySpec, array: np.ndarray[Any, Any], *, reading: bool
) -> tuple[Layout, np.ndarray[Any, Any]] | str:
    # As `_prepare`, of arrays of str or bytes objects or of NumPy's strings.
    is_text = chain.dtype.kind == "T"
    if array.dtype.kind not in ("TO" if is_text else "O"):
        if reading:
            return f"items of {chain.dtype} are not copied to items of {array.dtype}"
        array = array.astype(chain.dtype)
    if hasattr(array.dtype, "na_object") and not reading:
        array = array.astype(object)  # what is stored of missing values is a matter of objects
    is_packed = array.dtype.kind == "T"
    fill = spec.fill_value
    if fill is None:
        fill = spec.dtype.default_scalar()
    if not isinstance(fill, str if is_text else bytes):
        return f"the fill value {fill!r} is no {chain.dtype}"
    layout = Layout(
        array.dtype.itemsize,
        (),
        fill.encode() if isinstance(fill, str) else fill,
        kind=(
            ItemKind.STRINGS
            if is_packed
            else ItemKind.TEXT_OBJECTS
            if is_text
            else ItemKind.BYTES_OBJECTS
        ),
        descriptor=array.dtype if is_packed else None,
    )
    return layout, array
