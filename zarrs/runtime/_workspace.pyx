"""What a thread needs for its work and keeps from call to call: codec contexts and scratch.

Making a context costs more than decoding a small chunk with it, and fresh memory costs a page
fault for every 4 KiB, so both are kept. Threads come and go; workspaces wait in a list, which the
GIL guards.
"""

from cpython.object cimport PyObject
from libc.stdint cimport uint8_t
from libc.stdlib cimport free, malloc

from zarrs._core cimport MAX_CODECS, MAX_SIZE, PYTHON_SLOT, Buffer, Workspace, codec_at

cdef enum:
    KEEP = 16 * 1024 * 1024  # scratch of each kind that is kept from call to call
    MAX_IDLE = 64  # workspaces kept

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
                codec_at(k).release_decoder(self.space.decoders[k])
            if self.space.encoders[k] != NULL:
                codec_at(k).release_encoder(self.space.encoders[k])

    cdef void leave(self) noexcept:
        # What belonged to a call.
        self.space.call = NULL
        self.space.decoders[PYTHON_SLOT] = self.space.encoders[PYTHON_SLOT] = NULL

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


cdef class CallContext:
    def __cinit__(self, call):
        self.call = call


cdef class Workspaces:
    """The workspaces of one call, one for each of its threads."""

    def __cinit__(self, int n):
        self.team.threads = n
        self.owners = []
        self.contexts = []
        self.team.spaces = <Workspace**> malloc(n * sizeof(Workspace*))
        if self.team.spaces == NULL:
            raise MemoryError("no memory for workspaces")
        for k in range(n):
            try:
                owner = _idle.pop()
            except IndexError:
                owner = _WorkspaceOwner()
            self.owners.append(owner)
            self.team.spaces[k] = &(<_WorkspaceOwner> owner).space

    def __dealloc__(self):
        free(self.team.spaces)

    cdef int bind(self, object call) except -1:
        """Name the call that the thread works for; the caller keeps it alive."""
        cdef int k
        for k in range(self.team.threads):
            call_context = CallContext(call)
            self.contexts.append(call_context)
            self.team.spaces[k].call = <PyObject*> call
            self.team.spaces[k].decoders[PYTHON_SLOT] = <PyObject*> call_context
            self.team.spaces[k].encoders[PYTHON_SLOT] = <PyObject*> call_context
        return 0

    cdef int release(self) except -1:
        """Put the workspaces by for the next call."""
        for owner in self.owners:
            (<_WorkspaceOwner> owner).leave()
            if len(_idle) < MAX_IDLE:
                (<_WorkspaceOwner> owner).trim(KEEP)
                _idle.append(owner)
        return 0
