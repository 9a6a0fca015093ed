"""Stages that run in Python, one chunk at a time, while other threads go on without the GIL.

Params: the address of an object with methods ``encode`` and ``decode``, which take a ``bytearray``
and the call, and return something with the buffer interface; or None, if there is nothing to store,
or as good as nothing is stored. Whoever has made the chain keeps the object. The context is a
thread's ``CallContext``.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_FromStringAndSize
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t
from libc.string cimport memcpy, memset

from zarrs._core cimport (
    MISSING,
    NO_ROOM,
    OK,
    PYTHON_ERROR,
    TRANSFORM,
    Codec,
    Failure,
    Params,
    Status,
    register_codec,
)
from zarrs.runtime._failures cimport keep_exception
from zarrs.runtime._workspace cimport CallContext

cdef enum:
    LONG = 128 * 1024  # bytes whose copy takes longer than to get the GIL back


cdef int _copy(uint8_t* dst, const uint8_t* src, size_t n) except -1:
    # Others have the GIL meanwhile, if that is worth while.
    if n < LONG:
        memcpy(dst, src, n)
    else:
        with nogil:
            memcpy(dst, src, n)
    return 0


cdef Status _run(
    CallContext bound, object stage, bint decoding, const uint8_t* src, size_t n,
    uint8_t* dst, size_t capacity, size_t* written,
) except *:
    cdef Py_buffer view
    cdef object result = bound.result
    bound.result = None
    if dst == NULL:
        return OK
    if result is None:
        data = PyByteArray_FromStringAndSize(NULL, n)
        _copy(<uint8_t*> PyByteArray_AS_STRING(data), src, n)
        result = stage.decode(data, bound.call) if decoding else stage.encode(data, bound.call)
    if result is None:
        return MISSING
    PyObject_GetBuffer(result, &view, PyBUF_SIMPLE)
    written[0] = view.len
    if written[0] <= capacity:
        _copy(dst, <const uint8_t*> view.buf, view.len)
    else:
        bound.result = result  # so that the codec is called once
    PyBuffer_Release(&view)
    return OK if written[0] <= capacity else NO_ROOM


cdef Status _try(
    const Params* params, void** context, bint decoding, const uint8_t* src, size_t n,
    uint8_t* dst, size_t capacity, size_t* written, Failure* failure,
) noexcept nogil:
    cdef Status status
    with gil:
        bound = <CallContext> context[0]
        try:
            stage = <object> <PyObject*> <size_t> params.v[0]
            status = _run(bound, stage, decoding, src, n, dst, capacity, written)
        except BaseException as error:
            failure.code = keep_exception(bound.call, error)
            status = PYTHON_ERROR
    return status


cdef Status decode(
    const Params* params, void** context, const uint8_t* src, size_t n,
    uint8_t* dst, size_t capacity, size_t* written, Failure* failure,
) noexcept nogil:
    return _try(params, context, True, src, n, dst, capacity, written, failure)


cdef Status encode(
    const Params* params, void** context, const uint8_t* src, size_t n,
    uint8_t* dst, size_t capacity, size_t* written, Failure* failure,
) noexcept nogil:
    return _try(params, context, False, src, n, dst, capacity, written, failure)


cdef Codec _codec
memset(&_codec, 0, sizeof(Codec))
_codec.name = b"python"
_codec.kind = TRANSFORM
_codec.decode = decode
_codec.encode = encode
register_codec(&_codec)
