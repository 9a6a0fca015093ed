# sharding/_index: the last part of kernels.pyx.

cdef int _source(Input* source, data, Py_ssize_t size, Py_ssize_t offset) except -1:
    # `data` is an address, or a file's descriptor in a tuple.
    memset(source, 0, sizeof(Input))
    source.size = size
    source.fd = -1
    if isinstance(data, tuple):
        source.fd = data[0]
        source.offset = offset
    else:
        source.data = <const uint8_t*> <size_t> data + offset
    return 0


cdef class Entries:
    """An index in C's memory."""

    cdef Entry* data
    cdef Py_ssize_t n

    def __cinit__(self, entries):
        cdef Py_ssize_t i
        self.n = len(entries)
        self.data = <Entry*> malloc(max(self.n, 1) * sizeof(Entry))
        if self.data == NULL:
            raise MemoryError(f"no memory for {self.n} entries")
        for i in range(self.n):
            self.data[i].offset, self.data[i].size = entries[i]

    def __dealloc__(self):
        free(self.data)


def is_absent(entry):
    cdef Entries entries = Entries([entry])
    return bool(_index.is_absent(entries.data))


def count_inner_chunks(Shard shard, axes):
    cdef Selected selected = Selected(axes, None)
    return _index.count_inner_chunks(&shard.spec, selected.axes)


def index_size(Shard shard, Py_ssize_t n):
    return _index.index_size(&shard.spec, n)


def shard_bound(Shard shard, Py_ssize_t n):
    return _index.shard_bound(&shard.spec, n)


def read_index(Shard shard, Py_ssize_t n, data, Py_ssize_t size, Py_ssize_t offset=0):
    cdef Input source
    cdef Entry* index = <Entry*> &source  # which has to become NULL
    cdef Failure failure
    cdef Status status
    _source(&source, data, size, offset)
    _forget(&failure)
    status = _index.read_index(&source, &shard.spec, n, &index, &failure)
    entries = None
    if index != NULL:
        entries = [(index[i].offset, index[i].size) for i in range(n)]
    free(index)
    return status, entries, _said(&failure)


def check_entry(Shard shard, Py_ssize_t n, entry, Py_ssize_t size):
    cdef Entries entries = Entries([entry])
    cdef Input source
    cdef Failure failure
    cdef Status status
    _source(&source, 0, size, 0)
    _forget(&failure)
    status = _index.check_entry(entries.data, &source, &shard.spec, n, &failure)
    return status, _said(&failure)


def check_overlaps(entries, wanted):
    cdef Entries index = Entries(entries)
    cdef Numbers numbers
    cdef Failure failure
    cdef Status status
    _forget(&failure)
    if wanted is None:
        status = _index.check_overlaps(index.data, index.n, NULL, index.n, &failure)
    else:
        numbers = Numbers(wanted)
        status = _index.check_overlaps(index.data, index.n, numbers.data, len(wanted), &failure)
    return status, _said(&failure)


def encode_index(Shard shard, entries, size_t dst):
    cdef Entries index = Entries(entries)
    _index.encode_index(&shard.spec, index.data, index.n, <uint8_t*> dst)


def unwrap_shard(NativeChain chain, Py_ssize_t n, bint owned, data, Py_ssize_t size):
    """Status, bytes of the shard, whether they are memory to be freed, and what has failed."""
    cdef Workspaces spaces = Workspaces(1)
    cdef Workspace* space = spaces.team.spaces[0]
    cdef Input source
    cdef Status status
    cdef uint8_t* decoded = NULL
    _source(&source, data, size, 0)
    _forget(&space.failure)
    status = _index.unwrap_shard(&chain.spec, n, owned, &source, &decoded, space)
    shard = None
    if status == OK and source.data != NULL:
        shard = (<const char*> source.data)[:source.size]
    in_memory = decoded != NULL
    free(decoded)
    said = _said(&space.failure)
    spaces.release()
    return status, shard, source.size, in_memory, source.fd, said
