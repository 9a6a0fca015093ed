"""The C contract of the native code: statuses, the codec table, chains, tasks.

Everything else may use it, and it uses nothing of ours. ``cpdef`` enumerations are in Python's
``zarrs._core``, too.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t


cpdef enum Status:
    # The outcome of one task, and of one codec call. Everything above MISSING is an error.
    OK = 0
    MISSING = 1  # there is no such chunk: the fill value takes its place
    IO_ERROR = 2  # code: errno
    CORRUPT = 3  # the codec refused its input; code: the library's own
    WRONG_SIZE = 4  # expected and found are byte counts
    BAD_CHECKSUM = 5  # expected is the stored, found the computed value
    NO_MEMORY = 6
    UNSUPPORTED = 7  # valid, but outside of what this codec reads or writes
    ENCODE_FAILED = 8  # code: the library's own
    BAD_INDEX = 9  # of a shard; code: an IndexFault
    # What becomes of an item does not fit a codec's data type; code: a NumberFault, plus 256 and
    # 65536 times the item's type and that one, as NUMBER_TYPES counts them; expected: the bits of
    # the item; found: its number in the chunk.
    OUT_OF_RANGE = 10
    PYTHON_ERROR = 11  # code: which exception of a Python stage
    BAD_STRINGS = 12  # code: a StringFault
    # Of a codec without a bound: to be called again, with room for `written` bytes, or, to give up,
    # with `dst` NULL.
    NO_ROOM = 13
    NOT_SYNCED = 14  # a directory; code: errno, found: how many levels above the chunk
    EMPTY = 15  # a chunk of no bytes; expected: the bytes it should have, -1: unknown
    OVERTAKEN = 16  # another writer has replaced the chunk since it was read to be merged


cpdef enum IndexFault:
    # What is wrong with a shard's index.
    TOO_SHORT = 0  # expected and found: sizes of the index and of the shard
    OUTSIDE = 1  # an inner chunk's bytes are not in the shard; found: their offset, expected: size
    OVERLAP = 2  # two inner chunks share bytes; found: the offset of the second


cpdef enum StringFault:
    # What is wrong with encoded strings.
    WRONG_COUNT = 0  # expected and found: numbers of strings
    CUT_SHORT = 1  # found: the number of the first string that is not whole
    NO_TEXT = 2  # found: the number of the first that is no UTF-8


cpdef enum NumberFault:
    # What is wrong with a number.
    OUTSIDE_OF_TYPE = 0
    REMAINDER = 1  # it cannot be divided


cpdef enum NoStage:
    # What a failure's stage is where it is none of the codecs'.
    THE_FILE = -1  # or strings
    THE_INDEX = -2


cdef struct Failure:
    # Why a task failed. `stage` counts stages, or is a NoStage. In shards
    # `depth` says whose codecs they are (0: around the shard, 1: of its inner chunks, ...), and
    # `inner` which inner chunk of the outermost shard it was (-1: none).
    Status status
    int stage
    int depth
    int64_t inner
    int64_t code
    int64_t expected
    int64_t found


# A codec's parameters, in an order which the codec's own module documents.
cdef struct Params:
    int64_t v[6]


# Decodes all of `src` into `dst`, never past `capacity`, and sets `written`.
# `context` belongs to the calling thread; the codec makes it on first use.
ctypedef Status (*DecodeFn)(
    const Params* params, void** context, const uint8_t* src, size_t n,
    uint8_t* dst, size_t capacity, size_t* written, Failure* failure) noexcept nogil

# Encodes all of `src` into `dst`, whose capacity is at least `bound(params, n)`.
ctypedef Status (*EncodeFn)(
    const Params* params, void** context, const uint8_t* src, size_t n,
    uint8_t* dst, size_t capacity, size_t* written, Failure* failure) noexcept nogil

ctypedef size_t (*BoundFn)(const Params* params, size_t n) noexcept nogil

# Decoding of a prefix: `begin` once, then `feed` with successive pieces of the input until
# `position`, the number of bytes decoded into `dst`, reaches `need` or the input is used up.
# `dst` and `capacity`, the size of the whole, stay the same from call to call.
ctypedef Status (*BeginFn)(
    const Params* params, void** context, Failure* failure) noexcept nogil
ctypedef Status (*FeedFn)(
    const Params* params, void** context, const uint8_t* src, size_t n,
    uint8_t* dst, size_t capacity, size_t need, size_t* position,
    Failure* failure) noexcept nogil

ctypedef void (*ReleaseFn)(void* context) noexcept nogil

# The checksum of a CHECKSUM codec after `n` more bytes, from what it was before them.
ctypedef uint32_t (*ExtendFn)(
    const Params* params, uint32_t sum, const uint8_t* src, size_t n) noexcept nogil


# The checksum of data in two pieces, from that of each and the size of the second.
ctypedef uint32_t (*CombineFn)(uint32_t first, uint32_t second, size_t n) noexcept nogil


cdef enum CodecKind:
    TRANSFORM = 0  # anything that has `decode`, `encode` and `bound`
    CHECKSUM = 1  # the input with a little-endian checksum; see `_checksum_stage.pxd`


cdef enum:
    # The parameters that all CHECKSUM codecs have; those from 2 on are a codec's own.
    VERIFY = 0  # whether the checksum is verified
    AT_START = 1  # whether it is before the data


cdef struct Codec:
    const char* name
    CodecKind kind
    DecodeFn decode
    EncodeFn encode
    BoundFn bound  # NULL: the encoded size has no known bound
    BeginFn begin  # NULL: no prefix decoding
    FeedFn feed
    int feed_pays  # if what is not needed is at least one of so many parts of the whole
    ReleaseFn release_decoder
    ReleaseFn release_encoder
    ExtendFn extend  # a CHECKSUM's, which needs nothing else
    uint32_t first  # the checksum of no bytes
    bint piecewise  # whether `extend` may be called piece by piece
    CombineFn combine  # NULL: pieces are only read one after the other


cpdef enum:
    # Python refuses what has more.
    MAX_STAGES = 16
    MAX_SEGMENTS = 64
    # Bytes of a raw chunk with a checksum that are worth another thread.
    MIN_SHARE = 2 * 1024 * 1024

cdef enum:
    MAX_CODECS = 32
    PYTHON_SLOT = 0  # of workspaces' contexts, those of stages in Python, which belong to a call
    CHECKSUM_SIZE = 4
    MAX_NDIM = 64
    MIN_SPLIT = 512 * 1024  # needed bytes of a chunk from which on chunks are taken apart

# No buffer is bigger, and no shard has more inner chunks: room for sums and small products remains.
cdef extern from *:
    """
    #define ZARRS_MAX_SIZE ((size_t)(PTRDIFF_MAX / 8))
    #define ZARRS_MAX_INNER_CHUNKS ((ptrdiff_t)1 << 40)
    """
    const size_t MAX_SIZE "ZARRS_MAX_SIZE"
    const Py_ssize_t MAX_INNER_CHUNKS "ZARRS_MAX_INNER_CHUNKS"


cdef struct Stage:
    const Codec* codec
    int slot  # which pair of a workspace's contexts is this codec's
    Params params


# Part of an item whose bytes are reversed on the way between chunk and array.
cdef struct SwapSegment:
    Py_ssize_t offset
    Py_ssize_t unit
    Py_ssize_t count


cpdef enum ItemKind:
    PLAIN = 0  # bytes
    TEXT_OBJECTS = 1  # pointers to str
    BYTES_OBJECTS = 2  # pointers to bytes
    STRINGS = 3  # of NumPy's StringDType


cdef struct Item:
    # How one item is copied: its size, and what is swapped in it.
    ItemKind kind
    void* descriptor  # of STRINGS: the array's data type, which owns their memory
    Py_ssize_t size  # in the array
    int swap_unit  # 2, 4 or 8: the whole item is one such number; 0: nothing, or `segments`
    int n_segments
    SwapSegment segments[MAX_SEGMENTS]


cdef struct ShardSpec


cdef struct ChainSpec:
    Stage stages[MAX_STAGES]  # filters, compressors, checksums in the order of encoding
    int n_stages
    Py_ssize_t tail  # bytes after the data that are neither checked nor used
    bint is_open  # strings or Python stages: the decoded size is unknown
    bint is_raw  # no stage, and items of fixed size
    bint is_blosc  # one stage, whose blocks can be decoded on their own
    bint is_checked_raw  # one stage, a checksum after the data that is verified
    bint has_prefix  # decoding can stop early
    const ShardSpec* shard  # what the stages are around; NULL: items


cpdef enum WriteOrder:
    # The order of inner chunks in a new shard.
    LEXICOGRAPHIC = 0
    COLEXICOGRAPHIC = 1
    MORTON = 2


cdef struct ShardSpec:
    int ndim
    Py_ssize_t inner[MAX_NDIM]  # shape of an inner chunk; axes as in the shard
    int order[MAX_NDIM]  # the shard's axes in the order in which an inner chunk is stored
    int64_t inner_nbytes  # of a decoded inner chunk
    Py_ssize_t inner_n  # inner chunks of an inner chunk, if that is a shard again ...
    const Py_ssize_t* inner_order  # ... and the order in which it is written
    const ChainSpec* chain  # of the inner chunks
    bint index_at_start
    bint index_swapped  # the numbers of the index are in foreign byte order
    const Codec* checksum  # of the index; NULL: none
    bint verify  # whether it is verified
    WriteOrder write_order


cpdef enum FillKind:
    FILL_BITS = 0  # an item is empty when its bytes are the fill value's
    FILL_NAN2 = 1  # ... when it is any NaN of 2, 4 or 8 bytes, byte order of the machine
    FILL_NAN4 = 2
    FILL_NAN8 = 3


cdef struct LayoutSpec:
    Item item
    # One item, in the array's bytes for reads, in the chunk's for writes; of strings the text.
    const char* fill
    Py_ssize_t fill_size
    FillKind fill_kind
    bint fill_swapped  # the numbers of a chunk are in foreign byte order


# A box of items on two sides, axis by axis; byte strides and offsets. For reads `src` is the
# decoded chunk, with its axes in stored order so that src_stride falls from axis to axis.
cdef struct Box:
    int ndim
    Py_ssize_t count[MAX_NDIM]
    Py_ssize_t src_stride[MAX_NDIM]
    Py_ssize_t dst_stride[MAX_NDIM]


cdef struct Buffer:
    uint8_t* data
    size_t capacity


# What tells a file from the one that takes its place.
cdef struct FileStamp:
    uint64_t inode
    int64_t size
    int64_t seconds  # when it was changed
    int64_t nanoseconds


# Where encoded bytes are: in memory, or in an open file.
cdef struct Input:
    const uint8_t* data  # NULL: in a file
    Py_ssize_t size
    Py_ssize_t offset  # in the file, of the first byte
    int fd
    bint direct  # the file was opened with O_DIRECT
    void* handle  # by what the cache of open files knows it; NULL: it is not in there
    FileStamp stamp  # of the file; in memory, zeros


cdef struct FileOptions:
    int cache_size  # files that are kept open from call to call
    bint direct  # use O_DIRECT where the file system takes it
    # The topmost directory that is synced after a write, as the length of its name: the store's
    # root, or one above it in which a call has made a directory. NULL: nothing is synced.
    Py_ssize_t* top
    bint exchange  # a new file changes names with the old one, which no file system syncs


# Scratch and codec contexts of one thread; `_workspace.pyx` looks after them.
cdef struct Workspace:
    Buffer span  # encoded inner chunks that were read together
    Buffer pairs  # offsets of scattered boxes
    Buffer file  # encoded bytes as they are stored
    Buffer chunk  # decoded bytes
    Buffer stages[2]  # what is between two codecs
    Failure failure  # of the task that the thread is about
    void* decoders[MAX_CODECS]
    void* encoders[MAX_CODECS]
    void* call  # what Python wants to know of a call: a `Call` of _python_stages.py, or None


# The threads of a call: how many, and the workspace of each.
cdef struct Team:
    int threads
    Workspace** spaces


# One axis of what is selected in a chunk, in items: a range, or a list of positions that rise.
cdef struct Axis:
    Py_ssize_t size  # of the chunk
    Py_ssize_t start
    Py_ssize_t step
    Py_ssize_t count
    Py_ssize_t stride  # in the array: bytes from one selected item to the next
    const Py_ssize_t* chosen  # the positions, plus `origin`; NULL: a range
    const Py_ssize_t* array_offsets  # and where they are in the array, in bytes
    Py_ssize_t origin


# What is selected in a chunk: along every axis, or single points.
cdef struct Selection:
    const Axis* axes  # in the order in which the chunk is stored
    bint has_lists  # some axis is a list
    bint has_points
    Py_ssize_t n_points
    const Py_ssize_t* points  # of each its number among the chunk's items as they are stored
    const Py_ssize_t* array_offsets  # and where it is in the array, in bytes


# What one more selection of a call wants of a chunk.
cdef struct Share:
    Selection select
    Py_ssize_t array_offset  # as in a Task


# What is selected in a chunk or inner chunk, and where that is in the array: one box, or boxes of
# one shape scattered over chunk and array.
cdef struct Region:
    Box box  # reads: from chunk to array; writes: from array to chunk
    int64_t nbytes  # of the decoded chunk
    Py_ssize_t offset  # of the box's first item in the decoded chunk; of scattered boxes, 0
    char* data  # and in the array
    bint covers  # the box is all of the chunk
    Py_ssize_t low  # of the decoded chunk, the first byte that is needed
    Py_ssize_t high  # and past the last
    bint is_scattered
    Py_ssize_t n  # scattered boxes
    const Py_ssize_t* offsets  # of each its first item in the decoded chunk
    const Py_ssize_t* array_offsets  # and in the array


# One chunk of a call. It is stored in a file, or (path is NULL) in memory.
cdef struct Task:
    const char* path
    const uint8_t* stored  # NULL: there is no such chunk
    Py_ssize_t stored_size
    bint is_part  # of a raw chunk only what is needed is in memory ...
    Py_ssize_t part_low  # ... from this byte ...
    Py_ssize_t part_high  # ... up to this one
    uint8_t* encoded  # what a write into memory leaves behind; NULL: the chunk is to be deleted
    size_t encoded_size
    int64_t nbytes  # of the decoded chunk
    Selection select
    Py_ssize_t array_offset  # of the first selected item, as far as the axes are ranges
    const Share* shares  # of a read of many selections: what the others want of this chunk
    Py_ssize_t n_shares
    bint whole  # what the array has of the chunk is selected
    bint complete  # nothing of what is stored survives a write
    bint covers  # the selection is all of the decoded chunk
    bint empty  # nothing is selected, or it has been read already
    bint overtaken  # another writer has replaced it since it was read to be merged
    const char* key  # and its hash, if there is a cache of decoded chunks
    uint64_t key_hash
    Failure failure


cdef struct WriteOptions:
    bint keep_empty  # store chunks of nothing but the fill value
    int inner_threads  # inside a codec that can use them
    uint64_t seed  # for the names of temporary files
    int waiting  # threads that commit new files, as soon as one thread waited longer for that ...
    Py_ssize_t patience  # ... than so many microseconds


# The chunks of a call, and those of them that a loop runs over.
cdef struct Tasks:
    int ndim
    Py_ssize_t n  # to run
    const Py_ssize_t* chosen  # their numbers; NULL: all
    char* data  # of the array
    Task* items
    const ChainSpec* chain
    const LayoutSpec* layout
    FileOptions files
    Py_ssize_t max_gap  # of two ranges of a shard that are read in one go
    Py_ssize_t max_span  # of all ranges that are
    Py_ssize_t* first_failed  # the first task known to have failed; -1: cancelled
    void* cache  # of decoded chunks; NULL: none. See `caching/_chunk_cache.pyx`
    int64_t cached_array  # which array's they are
    Py_ssize_t writes_seen  # by the cache when the call began
    bint only_kept  # read what is in the cache, and leave the rest as it is


cdef inline Py_ssize_t task_number(const Tasks* tasks, Py_ssize_t k) noexcept nogil:
    """Which task is the k-th to run."""
    return k if tasks.chosen == NULL else tasks.chosen[k]


# ---------------------------------------------------------------------------------------------
# What Python makes

cdef class Shard


cdef class NativeChain:
    cdef ChainSpec spec
    cdef readonly Shard shard
    cdef readonly bint strings
    cdef tuple kept


cdef class Shard:
    cdef ShardSpec spec
    cdef readonly NativeChain chain
    cdef Py_ssize_t* inner_order


cdef class Layout:
    cdef LayoutSpec spec
    cdef bytes fill
    cdef object descriptor


cdef int register_codec(const Codec* codec) except -1

cdef int slot_of(str name) except -1

cdef const Codec* codec_at(int slot) noexcept nogil
