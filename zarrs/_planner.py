"""From a call of zarr's to a job for the native loops, or to the reason why there is none.

What is decided here: the chain of codecs, the layout of items, the plan of selections, how many
threads have enough to do, and the options of files and ranges.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from zarrs._config import NEVER
from zarrs._core import MIN_SHARE
from zarrs._layout import make_layout
from zarrs.codecs._chain import Chain, make_chain
from zarrs.codecs._python_stages import Call
from zarrs.execution._job import Job
from zarrs.indexing._make_plan import make_plan
from zarrs.indexing._plan import Plan, Settings
from zarrs.runtime import _threads
from zarrs.runtime._cpus import available_cpus
from zarrs.storage._stores import file_prefix

if TYPE_CHECKING:
    from zarr.abc.store import Store
    from zarr.core.array_spec import ArraySpec
    from zarr.core.buffer import NDBuffer
    from zarr.core.codec_pipeline import BatchedCodecPipeline

    from zarrs._config import Options
    from zarrs._core import Layout, NativeChain

BatchInfo = list[tuple[Any, "ArraySpec", Any, Any, bool]]  # what zarr hands a pipeline
ChunkShape = tuple[tuple[int, ...], int]

# Rough costs, to see how many threads a call can feed: microseconds a chunk, bytes a microsecond,
# and the microseconds that are worth starting a thread for.
CHUNK_COST = 8
BYTES_A_MICROSECOND = 2000
THREAD_COST = 200
PIECE = 256 * 1024

# Inner chunks of a local shard are read together only if that is cheaper than another system call,
# and only while they stay in the cache. zarr's own limits, which are meant for all stores,
# can make it less.
MAX_GAP = 16 * 1024
MAX_SPAN = 256 * 1024
# zarr's limits, where it has no option for them yet.
MAX_STORE_GAP = 1024 * 1024
MAX_STORE_SPAN = 16 * 1024 * 1024

MAX_CHUNK_BYTES = 2**60
# Threads that wait for the file system, for each that encodes and in all, and the microseconds that
# a thread spends on handing over to them, about.
WAITING = 3
MAX_WAITING = 8
PATIENCE = 50


class Planner:
    """Makes jobs of the calls of one pipeline.

    Parameters
    ----------
    codecs : BatchedCodecPipeline
        The codecs in the order of encoding.
    options : Options
        The options in force.
    """

    def __init__(self, codecs: BatchedCodecPipeline, options: Options) -> None:
        self._codecs = codecs
        self._chains: dict[tuple[Any, ...], Chain] = {}
        self.options = options

    def chain_of(self, spec: ArraySpec) -> Chain:
        """Return the chain of chunks of one specification."""
        key: tuple[Any, ...] = (spec.dtype, len(spec.shape), spec.order)
        chain = self._chains.get(key)
        if chain is not None and chain.by_shape:
            key = (*key, spec.shape, spec.config, repr(spec.fill_value))
            chain = self._chains.get(key)
        if chain is None:
            validate = self.options.validate_checksums
            chain = make_chain(self._codecs, spec, validate_checksums=validate)
            self._chains[key] = chain
        return chain

    def by_shape(self, batch: BatchInfo) -> list[list[int]]:
        """Return the numbers of the chunks of a call, grouped by what one chain holds for."""
        if not self.chain_of(batch[0][1]).by_shape:
            return [[]]
        groups: dict[tuple[int, ...], list[int]] = {}
        for i, (_, spec, *_) in enumerate(batch):
            groups.setdefault(spec.shape, []).append(i)
        return list(groups.values())

    def plan_read(self, batch: BatchInfo, out: NDBuffer, drop_axes: tuple[int, ...]) -> Job | str:
        """Plan a read; what is handed over is what `ZarrsCodecPipeline.read` takes.

        Returns
        -------
        Job or str
            The job, or why the native code cannot do it.
        """
        spec = batch[0][1]
        chain = self.chain_of(spec)
        prepared = make_layout(chain, spec, out.as_ndarray_like(), reading=True)
        if isinstance(prepared, str):
            return prepared
        layout, array = prepared
        if not array.flags.writeable:
            return "the result is read-only"
        plan = self._make_plan(batch, chain, array, drop_axes, reading=True)
        if isinstance(plan, str):
            return plan
        return self.read_job(plan, chain, layout, spec, getattr(batch[0][0], "store", None))

    def plan_write(
        self, batch: BatchInfo, value: NDBuffer, drop_axes: tuple[int, ...]
    ) -> Job | str:
        """Plan a write, as `plan_read` does a read."""
        spec = batch[0][1]
        chain = self.chain_of(spec)
        prepared = make_layout(chain, spec, value.as_ndarray_like(), reading=False)
        if isinstance(prepared, str):
            return prepared
        layout, array = prepared
        plan = self._make_plan(batch, chain, array, drop_axes, reading=False)
        if isinstance(plan, str):
            return plan
        return self.write_job(plan, chain, layout, spec, getattr(batch[0][0], "store", None))

    def read_job(
        self, plan: Plan, chain: Chain, layout: Layout, spec: ArraySpec, store: Store | None
    ) -> Job:
        """Return the job that runs a plan of a read; `spec` is that of some chunk."""
        plan.configure(self.settings(spec, in_memory=plan.in_memory, reading=True))
        size = plan.bytes_to_decode(chain.reader)
        return Job(
            plan=plan,
            chain=chain,
            layout=layout,
            prototype=spec.prototype,
            store=store,
            call=_call_of(chain, spec),
            threads=self._useful_threads(plan, size, _units(plan, chain.reader, size)),
            size=size,
            writing=False,
        )

    def write_job(
        self, plan: Plan, chain: Chain, layout: Layout, spec: ArraySpec, store: Store | None
    ) -> Job:
        """Return the job that runs a plan of a write, as `read_job` does for a read."""
        options = self.options
        plan.configure(self.settings(spec, in_memory=plan.in_memory, reading=False))
        threads = self._useful_threads(plan, plan.chunk_bytes, plan.n_units)
        inner = 1
        if chain.threaded and plan.chunk_bytes >= plan.n_units * 4 * PIECE:
            threads, inner = _threads.balance(
                options.max_workers,
                plan.n_units,
                options.chunk_concurrent_minimum,
                options.chunks_at_once,
            )
        return Job(
            plan=plan,
            chain=chain,
            layout=layout,
            prototype=spec.prototype,
            store=store,
            call=_call_of(chain, spec),
            threads=threads,
            size=plan.chunk_bytes,
            writing=True,
            inner_threads=inner,
            waiting=self._waiting_threads(plan, threads),
            patience=PATIENCE,
            keep_empty=spec.config.write_empty_chunks or options.store_empty_chunks,
        )

    def keeps_overhang(self, chain: Chain) -> bool:
        """Whether a write keeps what a chunk at the array's edge holds beyond it.

        zarr writes shards in parts, even where it says that they are written completely.
        """
        return chain.reader.shard is not None and self._codecs.supports_partial_encode

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

        return make_plan(
            batch,
            array,
            chain.order,
            itemsize,
            file_prefix,
            describe,
            not reading and array.ndim == 0,
            tuple(drop_axes),
            chain.reader.shard,
            self.keeps_overhang(chain),
        )

    def settings(self, spec: ArraySpec, *, in_memory: bool, reading: bool) -> Settings:
        """Return how files are read or written; `in_memory`: chunks are in no files."""
        gap = getattr(spec.config, "sharding_coalesce_max_gap_bytes", MAX_STORE_GAP)
        span = getattr(spec.config, "sharding_coalesce_max_bytes", MAX_STORE_SPAN)
        # A write must not merge with an open file that another writer has replaced.
        return Settings(
            cached_files=self.options.file_handle_cache_size if reading else 0,
            direct=self.options.direct_io,
            sync=self.options.fsync is True and not reading,
            exchange=self.options.fsync == NEVER and not reading,
            max_gap=gap if in_memory else min(MAX_GAP, gap),
            max_span=span if in_memory else min(MAX_SPAN, span),
        )

    def _waiting_threads(self, plan: Plan, threads: int) -> int:
        # Those that commit new files, where no CPU is left and users set no limit.
        if (
            plan.in_memory
            or self.options.chunk_concurrent_maximum is not None
            or not threads == available_cpus() > 1
        ):
            return 0
        return min(WAITING * threads, MAX_WAITING, plan.n_tasks - 1)

    def _useful_threads(self, plan: Plan, size: int, units: int) -> int:
        cost = plan.n_units * CHUNK_COST + size // BYTES_A_MICROSECOND
        options = self.options
        return max(
            1,
            min(
                options.chunks_at_once,
                units,
                cost // THREAD_COST,
            ),
        )


def _call_of(chain: Chain, spec: ArraySpec) -> Call | None:
    return Call(spec.prototype) if chain.python or chain.strings else None


def _same(a: Any, b: Any) -> bool:
    return a is b or (np.asarray(a).tobytes() == np.asarray(b).tobytes())


def _units(plan: Plan, reader: NativeChain, size: int) -> int:
    # How many parts of a read threads can do; they can share raw chunks and Blosc's blocks.
    if reader.shard is None and not reader.supports_partial_decode:
        return max(plan.n_units, size // MIN_SHARE if reader.supports_shared_decode else 0)
    while reader.shard is not None:
        reader = reader.shard.chain
    return plan.n_units + (size // PIECE if reader.supports_partial_decode else 0)
