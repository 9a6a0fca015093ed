"""What a thread needs for its work and keeps from call to call: codec contexts and scratch.

Making a context costs more than decoding a small chunk with it, and fresh memory costs a page
fault for every 4 KiB, so both are kept. Threads come and go; workspaces wait in a list, which the
GIL guards.
"""

from cpython.object cimport PyObject
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport uint8_t
from libc.stdlib cimport free, malloc

from zarrs._core cimport MAX_CODECS, MAX_SIZE, Buffer, Codec, Workspace

cdef enum:
    KEEP = 16 * 1024 * 1024  # scratch of each kind that is kept from call to call
    MAX_IDLE = 64  # workspaces kept

cdef const Codec* _table[MAX_CODECS]
cdef dict _slots = {"python": 0}  # the first one belongs to calls, not to threads
cdef int _python_slot = _slots["python"]


def register_codec(name: str, capsule: object) -> None:
    """Add a codec module's table entry under the name that chains use."""
    cdef int slot = _slots.setdefault(name, len(_slots))
    if slot >= MAX_CODECS:
        raise ValueError(f"no room for codec {name!r}: raise MAX_CODECS")
    _table[slot] = <const Codec*> PyCapsule_GetPointer(capsule, b"zarrs.codec")


cdef int slot_of(str name) except -1:
    """The place of a registered codec in the table."""
    return _slots[name]


cdef const Codec* codec_at(int slot) noexcept nogil:
    """The codec at a place in the table."""
    return _table[slot]


cdef uint8_t* reserve(Buffer* buffer, size_t n) noexcept nogil:
    """Memory for ``n`` bytes whose old contents do not matter; NULL when there is none."""
    if n > MAX_SIZE:
        return NULL
    if n > buffer.capacity or buffer.data == NULL:
        free(buffer.data)
        buffer.capacity = n + n // 8 + 64
        buffer.data = <uint8_t*> malloc(buffer.capacity)
        if buffer.data == NULL:
            buffer.capacity = 0
    return buffer.data


cdef void _drop(Buffer* buffer) noexcept nogil:
    free(buffer.data)
    buffer.data = NULL
    buffer.capacity = 0


cdef class _WorkspaceOwner:
    cdef Workspace space

    def __dealloc__(self):
        cdef int k
        self.trim(0)
        self.leave()
        for k in range(MAX_CODECS):
            if self.space.decoders[k] != NULL:
                _table[k].release_decoder(self.space.decoders[k])
            if self.space.encoders[k] != NULL:
                _table[k].release_encoder(self.space.encoders[k])

    cdef void leave(self) noexcept:
        # What belonged to a call.
        self.space.call = NULL
        self.space.decoders[_python_slot] = self.space.encoders[_python_slot] = NULL

    cdef void trim(self, size_t keep) noexcept:
        if self.space.span.capacity > keep:
            _drop(&self.space.span)
        if self.space.pairs.capacity > keep:
            _drop(&self.space.pairs)
        if self.space.file.capacity > keep:
            _drop(&self.space.file)
        if self.space.chunk.capacity > keep:
            _drop(&self.space.chunk)
        if self.space.stages[0].capacity > keep:
            _drop(&self.space.stages[0])
        if self.space.stages[1].capacity > keep:
            _drop(&self.space.stages[1])


cdef list _idle = []


cdef class Seat:
    def __cinit__(self, call):
        self.call = call


cdef class Crew:
    """The workspaces of one call, one for each of its threads."""

    def __cinit__(self, int n):
        self.n = n
        self.owners = []
        self.seats = []
        self.spaces = <Workspace**> malloc(n * sizeof(Workspace*))
        if self.spaces == NULL:
            raise MemoryError("no memory for workspaces")
        for k in range(n):
            try:
                owner = _idle.pop()
            except IndexError:
                owner = _WorkspaceOwner()
            self.owners.append(owner)
            self.spaces[k] = &(<_WorkspaceOwner> owner).space

    def __dealloc__(self):
        free(self.spaces)

    cdef int serve(self, object call) except -1:
        """Say which call this is; whoever says so keeps it."""
        cdef int k
        for k in range(self.n):
            seat = Seat(call)
            self.seats.append(seat)
            self.spaces[k].call = <PyObject*> call
            self.spaces[k].decoders[_python_slot] = <PyObject*> seat
            self.spaces[k].encoders[_python_slot] = <PyObject*> seat
        return 0

    cdef int disband(self) except -1:
        """Put the workspaces by for the next call."""
        for owner in self.owners:
            (<_WorkspaceOwner> owner).leave()
            if len(_idle) < MAX_IDLE:
                (<_WorkspaceOwner> owner).trim(KEEP)
                _idle.append(owner)
        return 0
