"""Stages that run in Python, one chunk at a time, while other threads go on without the GIL.

Params: the address of an object with methods ``encode`` and ``decode``, which take a ``bytearray``
and return something with the buffer interface; ``encode`` may return None, if there is nothing to
store. Whoever has made the chain keeps the object.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytearray cimport PyByteArray_FromStringAndSize
from cpython.object cimport PyObject
from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport uint8_t
from libc.string cimport memcpy, memset

from zarrs._core cimport (
    MISSING,
    NO_ROOM,
    OK,
    PYTHON_ERROR,
    TRANSFORM,
    WRONG_SIZE,
    Codec,
    Failure,
    Params,
    Status,
)
from zarrs._failures cimport keep_exception


cdef Status _copy(
    object result, uint8_t* dst, size_t capacity, size_t* written,
) except *:
    cdef Py_buffer view
    PyObject_GetBuffer(result, &view, PyBUF_SIMPLE)
    written[0] = view.len
    if written[0] <= capacity:
        memcpy(dst, view.buf, view.len)
    PyBuffer_Release(&view)
    return OK if written[0] <= capacity else NO_ROOM


cdef Status decode(
    const Params* params, void** context, const uint8_t* src, size_t n,
    uint8_t* dst, size_t capacity, size_t* written, Failure* failure,
) noexcept nogil:
    cdef Status status
    with gil:
        try:
            stage = <object> <PyObject*> <size_t> params.v[0]
            data = PyByteArray_FromStringAndSize(<const char*> src, n)
            status = _copy(stage.decode(data), dst, capacity, written)
        except BaseException as error:
            failure.code = keep_exception(error)
            status = PYTHON_ERROR
    if status == NO_ROOM:
        failure.expected = capacity
        failure.found = written[0]
        return WRONG_SIZE
    return status


cdef Status encode(
    const Params* params, void** context, const uint8_t* src, size_t n,
    uint8_t* dst, size_t capacity, size_t* written, Failure* failure,
) noexcept nogil:
    cdef Status status
    with gil:
        try:
            stage = <object> <PyObject*> <size_t> params.v[0]
            data = PyByteArray_FromStringAndSize(<const char*> src, n)
            result = stage.encode(data)
            status = MISSING if result is None else _copy(result, dst, capacity, written)
        except BaseException as error:
            failure.code = keep_exception(error)
            status = PYTHON_ERROR
    return status


cdef Codec _codec
memset(&_codec, 0, sizeof(Codec))
_codec.name = b"python"
_codec.kind = TRANSFORM
_codec.decode = decode
_codec.encode = encode


def capsule() -> object:
    """The codec's table entry, for ``_core.register_codec``."""
    return PyCapsule_New(&_codec, b"zarrs.codec", NULL)
