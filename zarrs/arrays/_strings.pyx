"""Strings and bytes of variable length: from their encoded form into arrays, and back.

Format: numcodecs' ``vlen-utf8`` and ``vlen-bytes``, which Zarr's codecs of these names are. The
number of items, then of each its length and its bytes; numbers are little-endian uint32.

An array holds them as pointers to Python objects or, as NumPy's StringDType, in memory that belongs
to the data type. The former need the GIL, the latter the lock of that memory; everything else is
done without.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.string cimport memcmp, memcpy

from zarrs._core cimport (
    BAD_STRINGS,
    BYTES_OBJECTS,
    CUT_SHORT,
    MAX_SIZE,
    NO_MEMORY,
    NO_TEXT,
    OK,
    PYTHON_ERROR,
    STRINGS,
    TEXT_OBJECTS,
    THE_FILE,
    UNSUPPORTED,
    WRONG_COUNT,
    Box,
    Failure,
    Item,
    LayoutSpec,
    Region,
    Status,
    StringFault,
    Workspace,
)
from zarrs.runtime._failures cimport keep_exception
from zarrs.runtime._workspace cimport reserve


cdef extern from *:
    """
    #define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
    #define NPY_TARGET_VERSION NPY_2_0_API_VERSION
    #include <numpy/arrayobject.h>
    """
    ctypedef struct PyArray_StringDTypeObject:
        pass
    ctypedef struct npy_string_allocator:
        pass
    ctypedef struct npy_packed_static_string:
        pass
    ctypedef struct npy_static_string:
        size_t size
        const char* buf
    int _import_array() except -1
    npy_string_allocator* NpyString_acquire_allocator(
        const PyArray_StringDTypeObject*) nogil
    void NpyString_release_allocator(npy_string_allocator*) nogil
    int NpyString_load(
        npy_string_allocator*, const npy_packed_static_string*, npy_static_string*) nogil
    int NpyString_pack(
        npy_string_allocator*, npy_packed_static_string*, const char*, size_t) nogil

# These need the GIL, and their callers hold it: Cython sees only the functions in between,
# which know nothing of it.
cdef extern from "Python.h" nogil:
    ctypedef struct PyObject:
        pass
    PyObject* Py_None
    PyObject* PyUnicode_DecodeUTF8(const char*, Py_ssize_t, const char*)
    PyObject* PyBytes_FromStringAndSize(const char*, Py_ssize_t)
    const char* PyUnicode_AsUTF8AndSize(PyObject*, Py_ssize_t*)
    char* PyBytes_AS_STRING(PyObject*)
    Py_ssize_t PyBytes_GET_SIZE(PyObject*)
    bint PyUnicode_Check(PyObject*)
    bint PyBytes_Check(PyObject*)
    void Py_INCREF(PyObject*)
    void Py_XDECREF(PyObject*)

cdef extern from "_native/utf8.h" nogil:
    bint zarrs_is_utf8(const uint8_t* p, size_t n)

_import_array()

cdef uint8_t _nothing = 0  # where empty strings point

cdef enum:
    LENGTH_SIZE = 4
    MAX_LENGTH = 0xFFFFFFFF


cdef struct View:
    const uint8_t* data
    size_t size


# What is done with every selected item; `place` is where it is in the array.
ctypedef Status (*VisitFn)(Visit* visit, View* view, char* place) noexcept nogil

cdef struct Visit:
    VisitFn function
    View* views  # of the chunk's items; NULL: `same` stands for all
    View same
    npy_string_allocator* allocator  # of STRINGS
    Py_ssize_t itemsize
    bint writing
    void* call
    int64_t code  # of the exception, after PYTHON_ERROR


cdef Status _visit_box(
    Visit* visit, const Box* box, int axis, Py_ssize_t offset, char* place,
) noexcept nogil:
    cdef Py_ssize_t in_chunk, in_array, i
    cdef Status status = OK
    if axis == box.ndim:
        return visit.function(
            visit, &visit.same if visit.views == NULL else &visit.views[offset // visit.itemsize],
            place)
    in_chunk = box.dst_stride[axis] if visit.writing else box.src_stride[axis]
    in_array = box.src_stride[axis] if visit.writing else box.dst_stride[axis]
    for i in range(box.count[axis]):
        status = _visit_box(visit, box, axis + 1, offset + i * in_chunk, place + i * in_array)
        if status != OK:
            break
    return status


# ---------------------------------------------------------------------------------------------
# The encoded form

cdef inline uint32_t _load(const uint8_t* p) noexcept nogil:
    return (<uint32_t> p[0] | <uint32_t> p[1] << 8 | <uint32_t> p[2] << 16
            | <uint32_t> p[3] << 24)


cdef inline void _store(uint32_t x, uint8_t* p) noexcept nogil:
    cdef int k
    for k in range(LENGTH_SIZE):
        p[k] = (x >> (8 * k)) & 0xFF


cdef Status _bad(
    StringFault fault, int64_t expected, int64_t found, Failure* failure,
) noexcept nogil:
    failure.stage = THE_FILE
    failure.code = fault
    failure.expected = expected
    failure.found = found
    return BAD_STRINGS


cdef Status _find_views(
    const uint8_t* payload, size_t size, Py_ssize_t n, bint is_text, View* views, Failure* failure,
) noexcept nogil:
    # Where the items are; what follows the last one is ignored, as everybody does.
    cdef size_t at = LENGTH_SIZE
    cdef Py_ssize_t i
    if size < LENGTH_SIZE:
        return _bad(CUT_SHORT, n, 0, failure)
    if _load(payload) != <size_t> n:
        return _bad(WRONG_COUNT, n, _load(payload), failure)
    for i in range(n):
        if size - at < LENGTH_SIZE:
            return _bad(CUT_SHORT, n, i, failure)
        views[i].size = _load(payload + at)
        at += LENGTH_SIZE
        if size - at < views[i].size:
            return _bad(CUT_SHORT, n, i, failure)
        views[i].data = payload + at
        at += views[i].size
        if is_text and not zarrs_is_utf8(views[i].data, views[i].size):
            return _bad(NO_TEXT, n, i, failure)
    return OK


cdef Status _join_views(
    const View* views, Py_ssize_t n, Workspace* space, const uint8_t** payload, size_t* size,
) noexcept nogil:
    cdef size_t total = LENGTH_SIZE
    cdef uint8_t* dst
    cdef Py_ssize_t i
    for i in range(n):
        if views[i].size > MAX_LENGTH or n > MAX_LENGTH:
            space.failure.expected = MAX_LENGTH
            space.failure.found = max(n, <Py_ssize_t> views[i].size)
            return UNSUPPORTED
        total += LENGTH_SIZE + views[i].size
    dst = reserve(&space.span, total)
    if dst == NULL:
        return NO_MEMORY
    payload[0] = dst
    size[0] = total
    _store(<uint32_t> n, dst)
    dst += LENGTH_SIZE
    for i in range(n):
        _store(<uint32_t> views[i].size, dst)
        memcpy(dst + LENGTH_SIZE, views[i].data, views[i].size)
        dst += LENGTH_SIZE + views[i].size
    return OK


cdef bint _are_all(const View* views, Py_ssize_t n, const char* fill, size_t size) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        if views[i].size != size or memcmp(views[i].data, fill, size):
            return False
    return True


# ---------------------------------------------------------------------------------------------
# Into arrays

cdef Status _put_string(Visit* visit, View* view, char* place) noexcept nogil:
    if NpyString_pack(visit.allocator, <npy_packed_static_string*> place, <const char*> view.data,
                      view.size):
        return NO_MEMORY
    return OK


cdef int _raise_waiting() except -1:
    # The C interface has set an exception; this makes Cython see it.
    return -1


cdef Status _take_error(Visit* visit) noexcept nogil:
    with gil:
        try:
            _raise_waiting()
        except BaseException as error:
            visit.code = keep_exception(<object> visit.call, error)
    return PYTHON_ERROR


cdef inline void _put(PyObject* made, char* place) noexcept nogil:
    cdef PyObject* before
    memcpy(&before, place, sizeof(PyObject*))
    memcpy(place, &made, sizeof(PyObject*))
    Py_XDECREF(before)


cdef Status _put_text(Visit* visit, View* view, char* place) noexcept nogil:
    cdef PyObject* made = PyUnicode_DecodeUTF8(<const char*> view.data, view.size, NULL)
    if made == NULL:
        return _take_error(visit)
    _put(made, place)
    return OK


cdef Status _put_bytes(Visit* visit, View* view, char* place) noexcept nogil:
    cdef PyObject* made = PyBytes_FromStringAndSize(<const char*> view.data, view.size)
    if made == NULL:
        return _take_error(visit)
    _put(made, place)
    return OK


# ---------------------------------------------------------------------------------------------
# From arrays; the bytes stay where they are, with the objects or in the memory of the data type

cdef Status _see_string(Visit* visit, View* view, char* place) noexcept nogil:
    cdef npy_static_string text
    cdef int result = NpyString_load(visit.allocator, <npy_packed_static_string*> place, &text)
    if result < 0:
        return NO_MEMORY
    view.data = &_nothing
    view.size = 0
    if result == 0:  # above, it is a missing value, which is stored as an empty one
        view.data = <const uint8_t*> text.buf
        view.size = text.size
    return OK


cdef inline PyObject* _object_at(const char* place) noexcept nogil:
    cdef PyObject* one
    memcpy(&one, place, sizeof(PyObject*))
    return Py_None if one == NULL else one


cdef Status _see_text(Visit* visit, View* view, char* place) noexcept nogil:
    cdef PyObject* one = _object_at(place)
    cdef Py_ssize_t size = 0
    view.data = &_nothing
    if PyUnicode_Check(one):
        view.data = <const uint8_t*> PyUnicode_AsUTF8AndSize(one, &size)
        if view.data == NULL:
            return _take_error(visit)
    view.size = size
    return OK


cdef Status _see_bytes(Visit* visit, View* view, char* place) noexcept nogil:
    cdef PyObject* one = _object_at(place)
    view.data = &_nothing
    view.size = 0
    if PyBytes_Check(one):
        view.data = <const uint8_t*> PyBytes_AS_STRING(one)
        view.size = PyBytes_GET_SIZE(one)
    return OK


cdef Status _look_at_text(Visit* visit, View* view, char* place) noexcept nogil:
    cdef PyObject* one = _object_at(place)
    return OK if PyUnicode_Check(one) else _look_at_other(visit, one)


cdef Status _look_at_bytes(Visit* visit, View* view, char* place) noexcept nogil:
    cdef PyObject* one = _object_at(place)
    return OK if PyBytes_Check(one) else _look_at_other(visit, one)


cdef Status _look_at_other(Visit* visit, PyObject* one) noexcept nogil:
    # None and 0 are missing values, which are stored as empty ones, as numcodecs does it. To
    # compare them can run any code, so it is done before the addresses of any bytes are taken.
    cdef Status status = OK
    if one != Py_None:
        with gil:
            try:
                item = <object> one
                if not item == 0:
                    raise TypeError(f"expected a string, found {item!r}")
            except BaseException as error:
                visit.code = keep_exception(<object> visit.call, error)
                status = PYTHON_ERROR
    return status


# ---------------------------------------------------------------------------------------------
# Regions

cdef Status _visit_region(
    Visit* visit, const Item* item, const Region* region, Failure* failure,
) noexcept nogil:
    cdef Py_ssize_t i
    cdef Status status = OK
    visit.itemsize = item.size
    if not region.is_scattered:
        status = _visit_box(visit, &region.box, 0, region.offset, region.data)
    else:
        for i in range(region.n):
            if status == OK:
                status = _visit_box(visit, &region.box, 0, region.offsets[i],
                                    region.data + region.array_offsets[i])
    if status == PYTHON_ERROR:
        failure.code = visit.code
    return status


cdef Status _put_region(
    Visit* visit, const Item* item, const Region* region, Failure* failure,
) noexcept nogil:
    cdef Status status
    visit.writing = False
    if item.kind == STRINGS:
        visit.function = _put_string
        visit.allocator = NpyString_acquire_allocator(
            <const PyArray_StringDTypeObject*> item.descriptor)
        status = _visit_region(visit, item, region, failure)
        NpyString_release_allocator(visit.allocator)
        return status
    visit.function = _put_text if item.kind == TEXT_OBJECTS else _put_bytes
    with gil:
        status = _visit_region(visit, item, region, failure)
    return status


cdef View* _reserve_views(Workspace* space, Py_ssize_t n) noexcept nogil:
    if n > <Py_ssize_t> (MAX_SIZE // sizeof(View)):
        return NULL
    return <View*> reserve(&space.chunk, n * sizeof(View))


cdef Status unpack_strings(
    const Item* item, const Region* region, const uint8_t* payload, size_t n, Workspace* space,
) noexcept nogil:
    """Put what is selected of a decoded chunk where it goes in the array."""
    cdef Py_ssize_t n_items = region.nbytes // item.size
    cdef Visit visit
    cdef Status status
    visit.call = space.call
    visit.views = _reserve_views(space, n_items)
    if visit.views == NULL:
        return NO_MEMORY
    status = _find_views(payload, n, n_items, item.kind != BYTES_OBJECTS, visit.views,
                         &space.failure)
    if status == OK:
        status = _put_region(&visit, item, region, &space.failure)
    return status


cdef Status fill_strings(
    const LayoutSpec* layout, const Region* region, Workspace* space,
) noexcept nogil:
    """Put the fill value where a missing chunk would go."""
    cdef Visit visit
    visit.call = space.call
    visit.views = NULL
    visit.same.data = <const uint8_t*> layout.fill
    visit.same.size = layout.fill_size
    return _put_region(&visit, &layout.item, region, &space.failure)


cdef Status _pack(
    Visit* visit, const LayoutSpec* layout, const Region* region, bint keep_empty,
    Workspace* space, const uint8_t** payload, size_t* n,
) noexcept nogil:
    # The items of the array stay where they are until this is done: it runs under their lock.
    cdef Py_ssize_t n_items = region.nbytes // layout.item.size
    cdef Status status = _visit_region(visit, &layout.item, region, &space.failure)
    if status != OK:
        return status
    if not keep_empty and _are_all(visit.views, n_items, layout.fill, layout.fill_size):
        payload[0] = NULL
        return OK
    return _join_views(visit.views, n_items, space, payload, n)


cdef Status pack_strings(
    const LayoutSpec* layout, const Region* region, const uint8_t* old, size_t n_old,
    bint keep_empty, Workspace* space, const uint8_t** payload, size_t* n,
) noexcept nogil:
    """Merge what is written into a decoded chunk, ``old``, or NULL for one of fill values.

    In the end ``payload`` is in scratch; NULL for a chunk that is not stored, being empty.
    """
    cdef const Item* item = &layout.item
    cdef Py_ssize_t n_items = region.nbytes // item.size
    cdef Py_ssize_t i
    cdef Visit visit
    cdef Status status = OK
    visit.call = space.call
    visit.views = _reserve_views(space, n_items)
    if visit.views == NULL:
        return NO_MEMORY
    if old != NULL:
        status = _find_views(old, n_old, n_items, item.kind != BYTES_OBJECTS, visit.views,
                             &space.failure)
    elif not region.covers:
        for i in range(n_items):
            visit.views[i].data = <const uint8_t*> layout.fill
            visit.views[i].size = layout.fill_size
    if status != OK:
        return status
    visit.writing = True
    if item.kind == STRINGS:
        visit.function = _see_string
        visit.allocator = NpyString_acquire_allocator(
            <const PyArray_StringDTypeObject*> item.descriptor)
        status = _pack(&visit, layout, region, keep_empty, space, payload, n)
        NpyString_release_allocator(visit.allocator)
        return status
    with gil:
        visit.function = _look_at_text if item.kind == TEXT_OBJECTS else _look_at_bytes
        status = _visit_region(&visit, item, region, &space.failure)
        if status == OK:
            visit.function = _see_text if item.kind == TEXT_OBJECTS else _see_bytes
            status = _pack(&visit, layout, region, keep_empty, space, payload, n)
    return status
