"""The contract between Python and the native loops, with Python's side of it.

Python makes chains, shards and layouts of what it has decided. The loops see the structs in them,
which ``_core.pxd`` declares. Codec modules register here.
"""

from cpython.object cimport PyObject
from libc.stdlib cimport free
from libc.string cimport memset

#: The data types of numbers, as parameters and failures count them.
NUMBER_TYPES = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
                "float16", "float32", "float64")

cdef const Codec* _table[MAX_CODECS]
cdef dict _slots = {"python": PYTHON_SLOT}


cdef int register_codec(const Codec* codec) except -1:
    """Add a codec, or put it in the place of another one of its name, which chains use."""
    cdef str name = codec.name.decode()
    cdef int slot = _slots.setdefault(name, len(_slots))
    if slot >= MAX_CODECS:
        raise ValueError(f"no room for codec {name!r}: raise MAX_CODECS")
    _table[slot] = codec
    return 0


def registered_codecs() -> frozenset[str]:
    """The names of all codecs that chains can use."""
    return frozenset([name for name, slot in _slots.items() if _table[slot] != NULL])


cdef int slot_of(str name) except -1:
    """The place of a registered codec in the table."""
    return _slots[name]


cdef const Codec* codec_at(int slot) noexcept nogil:
    """The codec at a place in the table."""
    return _table[slot]


cdef class NativeChain:
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

    def __init__(self, stages, tail: int = 0, Shard shard=None, strings: bool = False,
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
            self.spec.shard = &shard.spec
            self.spec.is_open = self.spec.is_open or shard.chain.spec.is_open
            return
        if strings:
            self.spec.is_open = True
            return
        self.spec.is_raw = self.spec.n_stages == 0
        stage = &self.spec.stages[0]
        self.spec.is_blosc = self.spec.n_stages == 1 and stages[0][0] == "blosc"
        self.spec.has_prefix = self.spec.n_stages > 0 and stage.codec.feed != NULL
        self.spec.is_checked_raw = (
            self.spec.n_stages == 1 and stage.codec.kind == CHECKSUM and stage.codec.piecewise
            and stage.params.v[VERIFY] and not stage.params.v[AT_START]
        )

    @property
    def supports_partial_decode(self) -> bool:
        """Whether any part of a chunk can be decoded without what is before it."""
        return self.spec.is_raw or self.spec.is_blosc

    @property
    def supports_shared_decode(self) -> bool:
        """Whether several threads can decode one chunk."""
        return self.supports_partial_decode or (
            self.spec.is_checked_raw and self.spec.stages[0].codec.combine != NULL
        )

    @property
    def has_prefix(self) -> bool:
        """Whether decoding can stop early."""
        return self.spec.has_prefix


cdef class Shard:
    """What a shard holds: the inner chunks' shape and chain, and how its index is stored.

    Parameters
    ----------
    shape : tuple of int
        Of an inner chunk, its axes in the order in which the shard is stored.
    order : tuple of int
        The shard's axes in the order in which an inner chunk is stored.
    itemsize : int
    chain : NativeChain
        Of the inner chunks.
    index_at_start, index_swapped, index_checksum : bool
        Where the index is, whether its numbers are in foreign byte order, and whether a CRC-32C
        follows them.
    verify : bool
        Whether that is verified.
    write_order : int
        A `WriteOrder`.
    """

    def __init__(self, shape, order, itemsize: int, chain: NativeChain, *, index_at_start: bool,
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

    def __dealloc__(self):
        free(self.inner_order)

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
        The fill value, in the array's bytes for reads, in the chunk's for writes.
    fill_kind : int
        A `FillKind`.
    fill_swapped : bool
        Whether the numbers of a chunk are in foreign byte order.
    kind : int
        An `ItemKind`.
    descriptor : numpy.dtype, optional
        Of NumPy's strings, the array's data type.
    """

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
        self.spec.fill_kind = <FillKind> fill_kind
        self.spec.fill_swapped = fill_swapped
