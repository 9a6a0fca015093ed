"""What the pipeline runs: chains, layouts, and the two calls that read and write a plan.

The loops behind them run over the chunks of a plan, or over the inner chunks of its shards, without
the GIL, and know nothing of Python: a task ends with a status, which ``Plan.failure`` reports.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t
from libc.stdlib cimport free
from libc.string cimport memset

from zarrs._chunk cimport decode_chunk, encode_chunk
from zarrs._core cimport (
    AT_START,
    CHECKSUM,
    MAX_INNER_CHUNKS,
    MAX_NDIM,
    MAX_SEGMENTS,
    MAX_STAGES,
    MIN_SPLIT,
    OK,
    PLAIN,
    VERIFY,
    Axis,
    ChainSpec,
    Failure,
    Input,
    ItemKind,
    LayoutSpec,
    ShardSpec,
    Stage,
    Status,
    Tasks,
    WriteOptions,
    WriteOrder,
)
from zarrs._open_shard cimport open_fetched, part_of_task, read_parts
from zarrs._plan cimport Batch, Plan
from zarrs._read_chunks cimport read_chunks
from zarrs._read_shards cimport read_shards
from zarrs._shard_index cimport make_write_order
from zarrs._sync cimport sync_directories
from zarrs._workspace cimport Crew, codec_at, slot_of
from zarrs._write_chunks cimport write_chunks
from zarrs._write_shards cimport write_shards
from zarrs.codecs._blosc cimport decode as decode_blosc

import os


cdef extern from "_native/openmp.h" nogil:
    void zarrs_release_team()
    int zarrs_start_openmp()

zarrs_start_openmp()

cdef class Chain:
    """The codecs from the items of a chunk to its bytes, for the native loops.

    Parameters
    ----------
    stages : sequence of (str, tuple of int)
        Registered name and parameters of the stages, in the order of encoding.
    tail : int
        Bytes after the data that are neither checked nor used.
    shard : Shard, optional
        What the stages are around, if that is a shard.
    strings : bool
        Whether what the stages are around are strings, as ``_strings.pyx`` encodes them.
    keep : sequence
        Objects that parameters point to.
    """

    cdef ChainSpec spec
    cdef readonly object shard
    cdef readonly bint strings
    cdef tuple kept

    def __init__(self, stages, tail: int = 0, shard: Shard | None = None, strings: bool = False,
                 keep=()):
        cdef int k
        cdef Stage* stage
        if len(stages) > MAX_STAGES:
            raise ValueError(f"at most {MAX_STAGES} stages are supported")
        memset(&self.spec, 0, sizeof(ChainSpec))
        self.spec.n_stages = len(stages)
        self.spec.tail = tail
        for i, (name, params) in enumerate(stages):
            stage = &self.spec.stages[<int> i]
            stage.slot = slot_of(name)
            stage.codec = codec_at(stage.slot)
            for k in range(len(params)):
                stage.params.v[k] = params[k]
            if stage.codec.kind != CHECKSUM and stage.codec.bound == NULL:
                self.spec.is_open = True
        self.kept = tuple(keep)
        self.shard = shard
        self.strings = strings
        if shard is not None:
            self.spec.shard = &(<Shard> shard).spec
            self.spec.is_open = self.spec.is_open or (<Shard> shard).chain.spec.is_open
            return
        if strings:
            self.spec.is_open = True
            return
        self.spec.is_raw = self.spec.n_stages == 0
        stage = &self.spec.stages[0]
        self.spec.is_blosc = self.spec.n_stages == 1 and stage.codec.decode == decode_blosc
        self.spec.has_prefix = self.spec.n_stages > 0 and stage.codec.feed != NULL
        self.spec.is_checked_raw = (
            self.spec.n_stages == 1 and stage.codec.kind == CHECKSUM and stage.codec.piecewise
            and stage.params.v[VERIFY] and not stage.params.v[AT_START]
        )

    @property
    def address(self) -> int:
        """Where the native code finds all this."""
        return <size_t> &self.spec

    @property
    def enterable(self) -> bool:
        """Whether any part of a chunk can be decoded without what is before it."""
        return self.spec.is_raw or self.spec.is_blosc

    @property
    def has_prefix(self) -> bool:
        """Whether decoding can stop early."""
        return self.spec.has_prefix

    def encode(self, data: bytes) -> bytes:
        """Encode a chunk through the stages."""
        cdef Crew crew = Crew(1)
        cdef const uint8_t* encoded = data
        cdef size_t n = len(data)
        cdef Failure failure
        cdef Status status
        memset(&failure, 0, sizeof(Failure))
        crew.serve(None)
        with nogil:
            status = encode_chunk(&self.spec, crew.spaces[0], &encoded, &n, 1, &failure)
        return self.finish(crew, status, &failure, encoded, n)

    def decode(self, data: bytes, nbytes: int) -> bytes:
        """Decode a chunk of ``nbytes`` through the stages."""
        cdef Crew crew = Crew(1)
        cdef const uint8_t* decoded = NULL
        cdef int64_t n = nbytes
        cdef Input source
        cdef Failure failure
        cdef Status status
        memset(&failure, 0, sizeof(Failure))
        memset(&source, 0, sizeof(Input))
        source.fd = -1
        source.data = data
        source.size = len(data)
        crew.serve(None)
        with nogil:
            status = decode_chunk(&source, &self.spec, crew.spaces[0], n, NULL, &decoded, &failure)
        return self.finish(crew, status, &failure, decoded, n)

    cdef bytes finish(
        self, Crew crew, Status status, const Failure* failure, const uint8_t* data, size_t n,
    ):
        cdef bytes result = None
        if status == OK:
            result = PyBytes_FromStringAndSize(<const char*> data, n)
        crew.disband()
        if result is None:
            raise ValueError(
                f"stage {failure.stage} failed with status {status}, code {failure.code}: "
                f"expected {failure.expected}, found {failure.found}"
            )
        return result


cdef class Shard:
    """What a shard holds: the inner chunks' shape and chain, and how its index is stored.

    Parameters
    ----------
    shape : tuple of int
        Of an inner chunk, its axes in the order in which the shard is stored.
    order : tuple of int
        The shard's axes in the order in which an inner chunk is stored.
    itemsize : int
    chain : Chain
        Of the inner chunks.
    index_at_start, index_swapped, index_checksum : bool
        Where the index is, whether its numbers are in foreign byte order, and whether a CRC-32C
        follows them.
    verify : bool
        Whether that is verified.
    write_order : int
        A ``WriteOrder`` of ``_core.pxd``.
    """

    cdef ShardSpec spec
    cdef readonly Chain chain
    cdef Py_ssize_t* inner_order

    def __init__(self, shape, order, itemsize: int, chain: Chain, *, index_at_start: bool,
                 index_swapped: bool, index_checksum: bool, verify: bool, write_order: int):
        cdef const ShardSpec* inner
        cdef Py_ssize_t size
        cdef int k
        if len(shape) > MAX_NDIM or len(order) != len(shape):
            raise ValueError(f"inner chunks of shape {shape} and axes {order}")
        memset(&self.spec, 0, sizeof(ShardSpec))
        self.chain = chain
        self.spec.chain = &chain.spec
        self.spec.ndim = len(shape)
        self.spec.inner_nbytes = itemsize
        for k in range(self.spec.ndim):
            self.spec.inner[k] = shape[k]
            self.spec.order[k] = order[k]
            self.spec.inner_nbytes *= self.spec.inner[k]
        self.spec.index_at_start = index_at_start
        self.spec.index_swapped = index_swapped
        if index_checksum:
            self.spec.checksum = codec_at(slot_of("crc32c"))
        self.spec.verify = verify
        self.spec.write_order = <WriteOrder> write_order
        if chain.spec.shard == NULL:
            return
        inner = chain.spec.shard
        self.spec.inner_n = 1
        for k in range(self.spec.ndim):
            size = self.spec.inner[self.spec.order[k]]
            if inner.inner[k] < 1 or size % inner.inner[k]:
                raise ValueError(f"shards of shape {shape} do not hold whole inner chunks")
            if self.spec.inner_n > MAX_INNER_CHUNKS // max(size // inner.inner[k], 1):
                raise ValueError(f"shards of shape {shape} hold too many inner chunks")
            self.spec.inner_n *= size // inner.inner[k]

    cdef int prepare_writing(self) except -1:
        """Put the inner chunks of inner shards in order, once."""
        cdef const ShardSpec* inner = self.spec.chain.shard
        cdef Axis axes[MAX_NDIM]
        cdef int k
        if inner == NULL:
            return 0
        (<Shard> self.chain.shard).prepare_writing()
        if self.inner_order != NULL:
            return 0
        for k in range(self.spec.ndim):
            axes[k].size = self.spec.inner[self.spec.order[k]]
        self.inner_order = make_write_order(inner, axes, self.spec.inner_n)
        if self.inner_order == NULL:
            raise MemoryError("no memory for the order of inner chunks")
        self.spec.inner_order = self.inner_order
        return 0

    def __dealloc__(self):
        free(self.inner_order)

    @property
    def address(self) -> int:
        """Where the native code finds all this."""
        return <size_t> &self.spec

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of an inner chunk, its axes in the order in which the shard is stored."""
        return tuple([self.spec.inner[k] for k in range(self.spec.ndim)])


cdef class Layout:
    """How items are copied between chunks and one array, and what a missing item is.

    Parameters
    ----------
    itemsize : int
    segments : sequence of (int, int, int)
        Offset, unit and count of the numbers in an item whose bytes are reversed.
    fill : bytes
        The fill value: for reads as it lies in the array, for writes as in the chunk.
    fill_kind : int
        A ``FillKind`` of ``_copy.pxd``.
    fill_swapped : bool
        Whether the numbers of a chunk are in foreign byte order.
    kind : int
        An ``ItemKind`` of ``_core.pxd``.
    descriptor : numpy.dtype, optional
        Of NumPy's strings, the array's data type.
    """

    cdef LayoutSpec spec
    cdef bytes fill
    cdef object descriptor

    def __init__(self, itemsize: int, segments, fill: bytes, fill_kind: int = 0,
                 fill_swapped: bool = False, kind: int = 0, descriptor=None):
        cdef int k
        if kind == PLAIN and len(fill) != itemsize:
            raise ValueError(f"fill value of {len(fill)} bytes for items of {itemsize}")
        if len(segments) > MAX_SEGMENTS:
            raise ValueError(f"at most {MAX_SEGMENTS} fields are supported")
        self.spec.item.size = itemsize
        self.spec.item.swap_unit = 0
        self.spec.item.n_segments = 0
        if len(segments) == 1 and segments[0][1] in (2, 4, 8) and (
            segments[0][0] == 0 and segments[0][1] * segments[0][2] == itemsize
        ):
            self.spec.item.swap_unit = segments[0][1]
        else:
            self.spec.item.n_segments = len(segments)
            for k in range(len(segments)):
                self.spec.item.segments[k].offset = segments[k][0]
                self.spec.item.segments[k].unit = segments[k][1]
                self.spec.item.segments[k].count = segments[k][2]
        self.spec.item.kind = <ItemKind> kind
        self.descriptor = descriptor
        self.spec.item.descriptor = <PyObject*> descriptor
        self.fill = fill
        self.spec.fill = self.fill
        self.spec.fill_size = len(fill)
        self.spec.fill_kind = fill_kind
        self.spec.fill_swapped = fill_swapped

    @property
    def address(self) -> int:
        """Where the native code finds all this."""
        return <size_t> &self.spec


# ---------------------------------------------------------------------------------------------
# The calls

def part_to_fetch(Plan plan, Chain chain, Py_ssize_t task) -> tuple[int, int] | None:
    """What to fetch first of a chunk.

    Returns
    -------
    (int, int) or None
        From which to which byte: what is needed of a raw chunk, or the index of a shard, which
        starts at -size if it is at the end. None: all of it.
    """
    return part_of_task(plan, &chain.spec, task)


def open_shard(Plan plan, Chain chain, Py_ssize_t task, object index) -> object | None:
    """Read the index of a shard, a ``Buffer``; None if it is damaged, which the plan knows."""
    return open_fetched(plan, &chain.spec, task, index)


def read(
    Plan plan, Chain chain, Layout layout, int threads, list fetched=None, list parts=None,
    call=None,
) -> None:
    """Read chunks of a plan into its array; the outcome is in the plan.

    Parameters
    ----------
    fetched : list of (int, bool, Buffer or None), optional
        The tasks to run and what was fetched of them; see ``Batch``. Default: all tasks.
    parts : list of (OpenShard, int, Buffer or None), optional
        Ranges of shards to read besides.
    call : Call, optional
        For stages in Python, and for strings.
    """
    cdef Batch batch = Batch(plan, fetched)
    cdef Crew crew = Crew(threads)
    cdef Tasks* tasks = batch.tasks
    tasks.chain = &chain.spec
    tasks.layout = &layout.spec
    crew.serve(call)
    try:
        if tasks.n > 0 and chain.spec.shard != NULL:
            read_shards(tasks, crew.spaces, threads)
        elif tasks.n > 0:
            read_chunks(tasks, crew.spaces, threads,
                        plan.is_simple and chain.enterable
                        and plan.touched_bytes >= plan.n_tasks * MIN_SPLIT)
        if parts:
            read_parts(tasks, parts, crew.spaces, threads)
    finally:
        crew.disband()


def write(
    Plan plan, Chain chain, Layout layout, int threads, int inner_threads, bint keep_empty,
    list fetched=None, call=None,
) -> None:
    """Write a plan's array into its chunks; the outcome is in the plan.

    Parameters
    ----------
    threads, inner_threads : int
        Chunks encoded at the same time, and threads inside a codec that can use them.
    keep_empty : bool
        Whether chunks of nothing but the fill value are stored.
    fetched : list of (int, bool, Buffer or None), optional
        As for `read`: the tasks to run and what is stored of those that are merged.
    call : Call, optional
        As for `read`.
    """
    cdef Batch batch = Batch(plan, fetched)
    cdef Crew crew = Crew(threads)
    cdef Tasks* tasks = batch.tasks
    cdef WriteOptions options
    options.keep_empty = keep_empty
    options.inner_threads = inner_threads
    options.seed = int.from_bytes(os.urandom(8), "little")
    if chain.shard is not None:
        (<Shard> chain.shard).prepare_writing()
    tasks.chain = &chain.spec
    tasks.layout = &layout.spec
    crew.serve(call)
    try:
        if chain.spec.shard != NULL:
            write_shards(tasks, &options, crew.spaces, threads)
        else:
            write_chunks(tasks, &options, crew.spaces, threads)
        if tasks.files.top != NULL:
            with nogil:
                sync_directories(tasks)
    finally:
        crew.disband()


def release_team() -> None:
    """End the threads that OpenMP keeps for the calling thread."""
    with nogil:
        zarrs_release_team()
