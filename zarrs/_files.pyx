"""Files without the GIL.

A missing file is a status of its own, as a missing chunk is no error. A write goes to a temporary
file in the same directory, which then takes the place of the old one: readers, and whoever looks
after a crash, see the old bytes or the new ones. Temporary names end in ``.partial``, as those of
zarr's own local store do.
"""

from libc.errno cimport EEXIST, EINTR, EISDIR, ENOENT, ENOTDIR, errno
from libc.stdint cimport uint8_t, uint64_t
from libc.stdio cimport rename, snprintf
from libc.stdlib cimport free, malloc
from libc.string cimport strlen
from posix.fcntl cimport O_CREAT, O_EXCL, O_NONBLOCK, O_RDONLY, O_WRONLY, open
from posix.stat cimport S_ISDIR, S_ISREG, fstat, mkdir, struct_stat
from posix.types cimport off_t
from posix.unistd cimport close, pread, unlink, write

from zarrs._core cimport IO_ERROR, MISSING, NO_MEMORY, OK, WRONG_SIZE, Failure, Status


cdef extern from "<fcntl.h>" nogil:
    const int O_CLOEXEC

cdef enum:
    SUFFIX_SIZE = 32  # ".", 16 hexadecimal digits, ".partial", NUL
    MAX_ATTEMPTS = 100
    MAX_TRANSFER = 1 << 30  # Linux moves at most 2 GiB a call, macOS less than that


cdef inline Status _io_error(Failure* failure) noexcept nogil:
    failure.code = errno
    return IO_ERROR


cdef Status open_file(
    const char* path, int* fd, Py_ssize_t* size, Failure* failure,
) noexcept nogil:
    """Open a file for reading and learn its size; what is no file counts as missing."""
    cdef struct_stat info
    # O_NONBLOCK: somebody's FIFO in the place of a chunk must not hang the reader.
    fd[0] = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    if fd[0] < 0:
        if errno == ENOENT or errno == ENOTDIR or errno == EISDIR:
            return MISSING
        return _io_error(failure)
    if fstat(fd[0], &info) < 0:
        _io_error(failure)
        close(fd[0])
        return IO_ERROR
    if not S_ISREG(info.st_mode):
        close(fd[0])
        if S_ISDIR(info.st_mode):
            return MISSING
        failure.code = EEXIST
        return IO_ERROR
    size[0] = info.st_size
    return OK


cdef void close_file(int fd) noexcept nogil:
    """Close a file that was only read."""
    close(fd)


cdef Status read_at(
    int fd, uint8_t* dst, Py_ssize_t n, Py_ssize_t offset, Failure* failure,
) noexcept nogil:
    """Read exactly ``n`` bytes; a file that ends before is WRONG_SIZE."""
    cdef Py_ssize_t done = 0
    cdef Py_ssize_t got
    while done < n:
        got = pread(fd, dst + done, min(n - done, <Py_ssize_t> MAX_TRANSFER),
                    <off_t> (offset + done))
        if got < 0:
            if errno == EINTR:
                continue
            return _io_error(failure)
        if got == 0:
            failure.expected = offset + n
            failure.found = offset + done
            return WRONG_SIZE
        done += got
    return OK


cdef Status _make_parents(char* path, Failure* failure) noexcept nogil:
    # Makes every missing directory above `path`; cuts and restores the string on the way.
    cdef size_t i = strlen(path)
    cdef size_t n = i
    cdef int result
    # Back to the deepest directory that exists or can be made ...
    while True:
        while i > 0 and path[i] != c"/":
            i -= 1
        if i == 0:
            return OK
        path[i] = 0
        result = mkdir(path, 0o777)
        if result == 0 or errno == EEXIST:
            path[i] = c"/"
            break
        if errno != ENOENT:
            path[i] = c"/"
            return _io_error(failure)
        path[i] = c"/"
        i -= 1
    # ... and forth again, making the others.
    i += 1
    while i < n:
        if path[i] == c"/":
            path[i] = 0
            result = mkdir(path, 0o777)
            path[i] = c"/"
            if result < 0 and errno != EEXIST:
                return _io_error(failure)
        i += 1
    return OK


cdef int _open_temporary(
    char* temporary, size_t base, uint64_t nonce, Failure* failure,
) noexcept nogil:
    # A new file beside the old one; its name is completed in place after `base` characters.
    cdef int _attempt
    cdef int fd
    for _attempt in range(MAX_ATTEMPTS):
        snprintf(temporary + base, SUFFIX_SIZE, b".%016llx.partial", <unsigned long long> nonce)
        fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
        if fd >= 0:
            return fd
        if errno == EEXIST:
            nonce += 0x9E3779B97F4A7C15u
        elif errno == ENOENT:
            # mkdir and open again: another process may remove an empty directory in between
            temporary[base] = 0
            if _make_parents(temporary, failure) != OK:
                return -1
        else:
            break
    _io_error(failure)
    return -1


cdef Status replace_file(
    const char* path, const uint8_t* data, size_t n, uint64_t nonce, Failure* failure,
) noexcept nogil:
    """Put ``data`` in the place of the file ``path``, making directories as needed.

    On any failure the old file is as it was and no temporary file is left.
    """
    cdef size_t base = strlen(path)
    cdef char* temporary = <char*> malloc(base + SUFFIX_SIZE)
    cdef size_t i
    cdef size_t done = 0
    cdef Py_ssize_t put
    cdef int fd
    cdef Status status = OK
    if temporary == NULL:
        return NO_MEMORY
    for i in range(base):
        temporary[i] = path[i]
    fd = _open_temporary(temporary, base, nonce, failure)
    if fd < 0:
        free(temporary)
        return IO_ERROR
    while done < n:
        put = write(fd, data + done, min(n - done, <size_t> MAX_TRANSFER))
        if put < 0:
            if errno == EINTR:
                continue
            status = _io_error(failure)
            break
        done += put
    if close(fd) < 0 and status == OK:  # quota and network file systems report here
        status = _io_error(failure)
    if status == OK and rename(temporary, path) < 0:
        status = _io_error(failure)
    if status != OK:
        unlink(temporary)
    free(temporary)
    return status


cdef Status remove_file(const char* path, Failure* failure) noexcept nogil:
    """Remove a file; one that is not there is no error."""
    if unlink(path) < 0 and errno != ENOENT and errno != ENOTDIR:
        return _io_error(failure)
    return OK
