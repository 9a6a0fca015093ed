"""How an array is cut into chunks, and what these are called in the store.

Numbers of chunks become keys natively, as the encodings ``default`` and ``v2`` of the Zarr
specification say; other encodings are asked chunk by chunk.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer

from zarrs._core cimport MAX_NDIM

import numpy as np

cdef enum:
    DIGITS = 20  # of a number, with its separator

# So that sums of positions and sizes of chunks remain numbers.
cdef Py_ssize_t MAX_EXTENT = <Py_ssize_t> 1 << 62
cdef Py_ssize_t MAX_ITEMS = <Py_ssize_t> 1 << 60


cdef class Grid:
    """The chunks of an array.

    Parameters
    ----------
    shape : tuple of int
        Of the array.
    chunks : tuple of (int or sequence of int)
        Along every axis the size of all chunks, or that of each.
    order : tuple of int
        The array's axes in the order in which chunks are stored.
    head : str
        What all keys begin with.
    separator : str
        What precedes every number in a key; if the first one, too, is said by `leads`.
    leads : bool
    encode : callable, optional
        Maps a chunk's numbers to its key. Default: head, separators and numbers make the key.

    Raises
    ------
    ValueError
        If the array has too many or too long axes, or too big chunks, or keys that no file can
        have.
    """

    def __cinit__(
        self, tuple shape, tuple chunks, tuple order, str head, str separator, bint leads,
        encode=None,
    ):
        cdef int k
        cdef Py_ssize_t most = 1
        cdef Py_ssize_t longest
        self.ndim = len(shape)
        if self.ndim > MAX_NDIM:
            raise ValueError(f"arrays of {self.ndim} dimensions are not planned natively")
        self.kept = []
        self.encode = encode
        try:
            self.head = head.encode()
        except UnicodeEncodeError:
            raise ValueError("a chunk's key is no valid UTF-8") from None
        if b"\0" in self.head:
            raise ValueError("a chunk's key holds a NUL character")
        self.leads = leads
        self.separator = ord(separator)
        for k in range(self.ndim):
            self.order[k] = order[k]
            longest = self.add_axis(&self.axes[k], shape[k], chunks[k])
            if most > MAX_ITEMS // max(longest, 1):
                raise ValueError(f"chunks of {chunks} items are too big for native code")
            most *= longest
        self.largest = most

    cdef Py_ssize_t add_axis(self, GridAxis* axis, Py_ssize_t extent, object sizes) except -1:
        # Returns the size of the longest chunk.
        cdef Py_buffer view
        if extent > MAX_EXTENT:
            raise ValueError(f"an axis of {extent} items is too long for native code")
        axis.extent = extent
        if isinstance(sizes, int):
            axis.size = sizes
            axis.n = (extent + axis.size - 1) // axis.size if extent > 0 else 0
            return axis.size
        ends = np.cumsum(np.asarray(sizes, dtype=np.intp))
        self.kept.append(ends)
        PyObject_GetBuffer(ends, &view, PyBUF_SIMPLE)
        axis.ends = <const Py_ssize_t*> view.buf
        PyBuffer_Release(&view)
        if len(ends) == 0 or ends[len(ends) - 1] < extent:
            raise ValueError(f"chunks of {sizes} items do not cover an axis of {extent}")
        axis.n = np.searchsorted(ends, extent) + 1 if extent > 0 else 0
        return max(sizes)

    cdef Py_ssize_t key_size(self) noexcept:
        """The most bytes that the numbers of a key take."""
        return self.ndim * DIGITS

    cdef Py_ssize_t put_numbers(self, const Py_ssize_t* numbers, char* key) noexcept:
        """Put the numbers of a chunk into a key, after its head; return how many bytes they are."""
        cdef char digits[DIGITS]
        cdef Py_ssize_t n = 0
        cdef Py_ssize_t left
        cdef int k, m
        for k in range(self.ndim):
            if k > 0 or self.leads:
                key[n] = self.separator
                n += 1
            left = numbers[k]
            m = 0
            while True:
                digits[m] = c"0" + <char> (left % 10)
                m += 1
                left //= 10
                if left == 0:
                    break
            while m > 0:
                m -= 1
                key[n] = digits[m]
                n += 1
        return n
