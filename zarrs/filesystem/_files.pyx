"""Files without the GIL.

A missing file is a status of its own, as a missing chunk is no error. A write goes to a temporary
file in the same directory, which then takes the place of the old one: readers, and whoever looks
after a crash, see the old bytes or the new ones. Temporary names end in ``.partial``, as those of
zarr's own local store do.

A file that was read to be merged with something, and is still open, is compared with the one that
is about to be replaced. If another writer was quicker, that is the status ``OVERTAKEN``, and what
he wrote stays. Somebody can still come between the comparison and the replacement.

Direct I/O bypasses the page cache and moves whole blocks between a file and aligned memory. Where a
file system refuses it, files are read and written as others are, and ``take_direct_refusal`` tells.
"""

from libc.errno cimport EEXIST, EINTR, EINVAL, EISDIR, ENOENT, ENOTDIR, errno
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdio cimport rename, snprintf
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memset, strlen
from posix.fcntl cimport O_CREAT, O_EXCL, O_NONBLOCK, O_RDONLY, O_WRONLY, open
from posix.stat cimport S_ISDIR, S_ISREG, fstat, mkdir, stat, struct_stat
from posix.stdlib cimport posix_memalign
from posix.time cimport nanosleep, timespec
from posix.types cimport off_t
from posix.unistd cimport close, ftruncate, pread, pwrite, unlink, write

from zarrs._core cimport (
    IO_ERROR,
    MISSING,
    NO_MEMORY,
    OK,
    OVERTAKEN,
    WRONG_SIZE,
    Buffer,
    Failure,
    FileOptions,
    FileStamp,
    Input,
    Status,
)
from zarrs.filesystem._handles cimport (
    acquire_handle,
    handle_generation,
    insert_handle,
    invalidate_handle,
    release_handle,
)
from zarrs.runtime._workspace cimport reserve


cdef extern from "<fcntl.h>" nogil:
    const int O_CLOEXEC

cdef extern from *:
    """
    #include <sys/stat.h>
    #ifdef __APPLE__
    #define ZARRS_CHANGED(info) ((info).st_mtimespec)
    #else
    #define ZARRS_CHANGED(info) ((info).st_mtim)
    #endif
    """
    timespec time_of_change "ZARRS_CHANGED"(struct_stat info) nogil

cdef extern from "_native/atomics.h" nogil:
    void zarrs_lower(Py_ssize_t* p, Py_ssize_t x)
    void zarrs_store(Py_ssize_t* p, Py_ssize_t x)
    Py_ssize_t zarrs_exchange(Py_ssize_t* p, Py_ssize_t x)

cdef extern from "_native/direct.h" nogil:
    bint zarrs_is_direct(int fd)
    void zarrs_set_direct(int fd, bint on)

cdef extern from "_native/exchange.h" nogil:
    int zarrs_exchange_names(const char* one, const char* other)

cdef extern from "_native/sync.h" nogil:
    int zarrs_sync(int fd)

cdef enum:
    SUFFIX_SIZE = 32  # ".", 16 hexadecimal digits, ".partial", NUL
    MAX_ATTEMPTS = 100
    MAX_TRANSFER = 1 << 30  # Linux moves at most 2 GiB a call, macOS less than that
    ALIGNMENT = 4096  # of direct I/O: of memory, of places in a file, and of sizes
    MAX_BOUNCE = 1024 * 1024  # bytes of a direct read that take the way through other memory
    BLOCK = 256 * 1024  # bytes: smaller pieces of a new file are gathered and written together
    SMALL = 64 * 1024


cdef inline Status _io_error(Failure* failure) noexcept nogil:
    failure.code = errno
    return IO_ERROR


cdef inline size_t _round_up(size_t n) noexcept nogil:
    return (n + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT


cdef uint8_t* _aligned_memory(size_t n) noexcept nogil:
    cdef void* memory = NULL
    if posix_memalign(&memory, ALIGNMENT, n) != 0:
        return NULL
    return <uint8_t*> memory


# ---------------------------------------------------------------------------------------------
# Direct I/O

cdef Py_ssize_t _refused = 0


def take_direct_refusal() -> bool:
    """Return whether direct I/O was refused since the last question."""
    return zarrs_exchange(&_refused, 0) != 0


cdef bint _became_direct(int fd) noexcept nogil:
    # After an attempt to make a file so.
    if zarrs_is_direct(fd):
        return True
    zarrs_store(&_refused, 1)
    return False


cdef void _give_up_direct(int fd) noexcept nogil:
    zarrs_set_direct(fd, False)
    zarrs_store(&_refused, 1)


# ---------------------------------------------------------------------------------------------
# Reading

cdef void _see(Input* source, const struct_stat* info) noexcept nogil:
    # What is to be known of an open file.
    source.size = info.st_size
    source.stamp.inode = info.st_ino
    source.stamp.size = info.st_size
    source.stamp.seconds = time_of_change(info[0]).tv_sec
    source.stamp.nanoseconds = time_of_change(info[0]).tv_nsec


cdef Status _open_regular(const char* path, Input* source, Failure* failure) noexcept nogil:
    # What is no file counts as missing.
    cdef struct_stat info
    cdef Status status
    # O_NONBLOCK: a FIFO in the place of a chunk must not hang the reader.
    source.fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    if source.fd < 0:
        if errno == ENOENT or errno == ENOTDIR or errno == EISDIR:
            return MISSING
        return _io_error(failure)
    if fstat(source.fd, &info) < 0:
        status = _io_error(failure)
    elif S_ISREG(info.st_mode):
        _see(source, &info)
        return OK
    elif S_ISDIR(info.st_mode):
        status = MISSING
    else:
        failure.code = EEXIST
        status = IO_ERROR
    close(source.fd)
    source.fd = -1
    return status


cdef bint _open_again(const char* path, bint direct, Input* source) noexcept nogil:
    # Takes a file from the cache, unless it has no name any more: then it was replaced.
    cdef struct_stat info
    cdef void* handle = acquire_handle(path, direct, &source.fd)
    if handle == NULL:
        return False
    if fstat(source.fd, &info) == 0 and info.st_nlink > 0:
        source.handle = handle
        _see(source, &info)
        return True
    invalidate_handle(path)
    release_handle(handle)
    source.fd = -1
    return False


cdef Status open_input(
    const char* path, const FileOptions* options, Input* source, Failure* failure,
) noexcept nogil:
    """Open a file for reading and learn its size; what is no file is MISSING."""
    cdef Py_ssize_t generation
    cdef Status status
    memset(source, 0, sizeof(Input))
    source.fd = -1
    if options.cache_size <= 0 or not _open_again(path, options.direct, source):
        generation = handle_generation()
        status = _open_regular(path, source, failure)
        if status != OK:
            return status
        if options.direct:
            zarrs_set_direct(source.fd, True)
        if options.cache_size > 0:
            source.handle = insert_handle(
                path, options.direct, source.fd, options.cache_size, generation)
    source.direct = options.direct and _became_direct(source.fd)
    return OK


cdef void close_input(Input* source) noexcept nogil:
    """End the use of an input; one in memory needs no such thing."""
    if source.handle != NULL:
        release_handle(source.handle)
    elif source.data == NULL and source.fd >= 0:
        close(source.fd)
    source.fd = -1
    source.handle = NULL


cdef Py_ssize_t _read_some(
    const Input* source, uint8_t* dst, Py_ssize_t n, Py_ssize_t position,
) noexcept nogil:
    # One successful pread, or -1 and errno.
    cdef bint direct = source.direct
    cdef Py_ssize_t got
    while True:
        got = pread(source.fd, dst, min(n, <Py_ssize_t> MAX_TRANSFER), <off_t> position)
        if got < 0 and errno == EINVAL and direct:  # a file system with other ideas of alignment
            _give_up_direct(source.fd)
            direct = False
        elif got >= 0 or errno != EINTR:
            return got


cdef Status _read_file(
    const Input* source, uint8_t* dst, Py_ssize_t n, Py_ssize_t offset, Failure* failure,
) noexcept nogil:
    # What is not aligned as it must be is read into a buffer, with what is around it.
    cdef Py_ssize_t unit = ALIGNMENT if source.direct else 1
    cdef Py_ssize_t done = 0
    cdef Py_ssize_t position, lead, room, got
    cdef uint8_t* buffer = NULL
    cdef Status status = OK
    while done < n:
        position = source.offset + offset + done
        if (position | (n - done) | <Py_ssize_t> (dst + done)) % unit == 0:
            got = _read_some(source, dst + done, n - done, position)
        else:
            lead = position % unit
            room = min(<Py_ssize_t> _round_up(lead + n - done), <Py_ssize_t> MAX_BOUNCE)
            if buffer == NULL:  # the first is the biggest
                buffer = _aligned_memory(room)
            if buffer == NULL:
                return NO_MEMORY
            got = _read_some(source, buffer, room, position - lead)
            if got >= 0:  # the file may end before `position`
                got = min(max(got - lead, 0), n - done)
                memcpy(dst + done, buffer + lead, got)
        if got < 0:
            status = _io_error(failure)
            break
        if got == 0:
            failure.expected = offset + n
            failure.found = offset + done
            status = WRONG_SIZE
            break
        done += got
    free(buffer)
    return status


cdef Status _check_range(
    const Input* source, Py_ssize_t n, Py_ssize_t offset, Failure* failure,
) noexcept nogil:
    if 0 <= n <= source.size and 0 <= offset <= source.size - n:
        return OK
    failure.expected = <int64_t> (<uint64_t> offset + <uint64_t> n)  # no overflow: it wraps
    failure.found = source.size
    return WRONG_SIZE


cdef Status read_input(
    const Input* source, uint8_t* dst, Py_ssize_t n, Py_ssize_t offset, Failure* failure,
) noexcept nogil:
    """Read exactly ``n`` bytes; an input that ends before is WRONG_SIZE."""
    cdef Status status = _check_range(source, n, offset, failure)
    if status == OK:
        if source.data == NULL:
            return _read_file(source, dst, n, offset, failure)
        memcpy(dst, source.data + offset, n)
    return status


cdef Status view_input(
    const Input* source, Py_ssize_t n, Py_ssize_t offset, Buffer* scratch,
    const uint8_t** bytes, Failure* failure,
) noexcept nogil:
    """Find exactly ``n`` bytes where they are in memory, or read them into ``scratch``."""
    cdef Status status = _check_range(source, n, offset, failure)
    if status != OK:
        return status
    if source.data != NULL:
        bytes[0] = source.data + offset
        return OK
    bytes[0] = reserve(scratch, n)
    if bytes[0] == NULL:
        return NO_MEMORY
    return _read_file(source, scratch.data, n, offset, failure)


# ---------------------------------------------------------------------------------------------
# Writing

cdef void _remember_parent(
    const char* path, size_t n, const FileOptions* options,
) noexcept nogil:
    # Of a directory that may be new: its name is in the one above.
    if options.top == NULL:
        return
    while n > 0 and path[n - 1] != c"/":
        n -= 1
    zarrs_lower(options.top, max(<Py_ssize_t> n - 1, <Py_ssize_t> 0))


cdef Status _make_parents(
    char* path, const FileOptions* options, Failure* failure,
) noexcept nogil:
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
    _remember_parent(path, i, options)
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
    char* temporary, size_t base, const FileOptions* options, uint64_t nonce, Failure* failure,
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
            if _make_parents(temporary, options, failure) != OK:
                return -1
        else:
            break
    _io_error(failure)
    return -1


cdef Status create_file(
    const char* path, const FileOptions* options, uint64_t nonce, NewFile* file, Failure* failure,
) noexcept nogil:
    """Begin a file that is to take the place of ``path``, making directories as needed.

    ``commit_file`` or ``abandon_file`` ends it. After a failure there is nothing to end.
    """
    memset(file, 0, sizeof(NewFile))
    file.fd = -1
    file.base = strlen(path)
    file.temporary = <char*> malloc(file.base + SUFFIX_SIZE)
    if file.temporary == NULL:
        return NO_MEMORY
    memcpy(file.temporary, path, file.base)
    file.fd = _open_temporary(file.temporary, file.base, options, nonce, failure)
    if file.fd < 0:
        free(file.temporary)
        file.temporary = NULL
        return IO_ERROR
    file.sync = options.top != NULL
    file.exchange = options.exchange
    if options.direct:
        # Not with open(): where that refuses, it may have made the file all the same.
        zarrs_set_direct(file.fd, True)
        file.direct = _became_direct(file.fd)
    return OK


cdef Status _write_all(
    const NewFile* file, const uint8_t* data, size_t n, Failure* failure,
) noexcept nogil:
    cdef bint direct = file.direct
    cdef size_t done = 0
    cdef Py_ssize_t put
    while done < n:
        put = write(file.fd, data + done, min(n - done, <size_t> MAX_TRANSFER))
        if put >= 0:
            done += put
        elif errno == EINVAL and direct:  # a file system with other ideas of alignment
            _give_up_direct(file.fd)
            direct = False
        elif errno != EINTR:
            return _io_error(failure)
    return OK


cdef Status _write_block(NewFile* file, Failure* failure) noexcept nogil:
    cdef size_t n = file.filled
    file.filled = 0
    return _write_all(file, file.block, n, failure)


cdef Status append_file(
    NewFile* file, const uint8_t* data, size_t n, Failure* failure,
) noexcept nogil:
    """Add bytes to a new file. Small pieces are gathered; after a failure, abandon the file."""
    cdef size_t part
    cdef Status status
    file.size += n
    if n >= SMALL and not file.direct:
        status = _write_block(file, failure)
        if status == OK:
            status = _write_all(file, data, n, failure)
        return status
    if file.block == NULL:
        file.block = _aligned_memory(BLOCK)
        if file.block == NULL:
            return NO_MEMORY
    while n > 0:
        part = min(n, BLOCK - file.filled)
        memcpy(file.block + file.filled, data, part)
        file.filled += part
        data += part
        n -= part
        if file.filled == BLOCK:
            status = _write_block(file, failure)
            if status != OK:
                return status
    return OK


cdef Status _write_rest(NewFile* file, Failure* failure) noexcept nogil:
    # Direct I/O writes whole blocks only: what is too much is cut off again.
    cdef size_t padded = _round_up(file.filled)
    cdef Status status
    if not file.direct or padded == file.filled:
        return _write_block(file, failure)
    memset(file.block + file.filled, 0, padded - file.filled)
    file.filled = padded
    status = _write_block(file, failure)
    if status == OK and ftruncate(file.fd, <off_t> file.size) < 0:
        status = _io_error(failure)
    return status


cdef Status patch_file(
    NewFile* file, const uint8_t* data, size_t n, Failure* failure,
) noexcept nogil:
    """Put other bytes in the place of the first ``n`` of a new file, to which all was appended."""
    cdef Status status = _write_rest(file, failure)
    cdef size_t done = 0
    cdef Py_ssize_t put
    if file.direct:  # what is left is no whole block
        zarrs_set_direct(file.fd, False)
        file.direct = False
    while status == OK and done < n:
        put = pwrite(file.fd, data + done, min(n - done, <size_t> MAX_TRANSFER), <off_t> done)
        if put >= 0:
            done += put
        elif errno != EINTR:
            status = _io_error(failure)
    return status


# ---------------------------------------------------------------------------------------------
# Taking the place of what there is

cdef Py_ssize_t _overtaken = 0


def take_overtaking() -> bool:
    """Return whether other writers replaced what was being merged since the last question."""
    return zarrs_exchange(&_overtaken, 0) != 0


cdef bint _is_same(const Input* old, const char* path) noexcept nogil:
    # Whether what was read, or that nothing was there, is what is there now. The file that was
    # read is still open, so that no other one has its number.
    cdef struct_stat info
    cdef Failure failure
    cdef Input now
    cdef bint result
    if stat(path, &info) < 0:
        return old.fd < 0 or not (errno == ENOENT or errno == ENOTDIR)
    if not S_ISREG(info.st_mode):
        return True
    if old.fd < 0:
        return False
    _see(&now, &info)
    if memcmp(&now.stamp, &old.stamp, sizeof(FileStamp)) == 0:
        return True
    # There are file systems that say other things of names than of open files.
    if _open_regular(path, &now, &failure) != OK:
        return False
    result = memcmp(&now.stamp, &old.stamp, sizeof(FileStamp)) == 0
    close(now.fd)
    return result


cdef bint _was_overtaken(const Input* old, const char* path) noexcept nogil:
    if old == NULL or _is_same(old, path):
        return False
    zarrs_store(&_overtaken, 1)
    return True


cdef void wait_for_others(int attempt, uint64_t nonce) noexcept nogil:
    """Wait a little before something is merged once more: longer each time, up to 10 ms."""
    cdef timespec duration
    duration.tv_sec = 0
    duration.tv_nsec = min(
        attempt * <long> (100_000 + nonce * 0x9E3779B97F4A7C15u % 100_000), 10_000_000)
    nanosleep(&duration, NULL)


cdef bint _is_file(const char* path) noexcept nogil:
    cdef struct_stat info
    return stat(path, &info) == 0 and S_ISREG(info.st_mode)


cdef Status _take_place(
    NewFile* file, const char* path, const Input* old, Failure* failure,
) noexcept nogil:
    # Of a new file that is closed.
    if _was_overtaken(old, path):
        return OVERTAKEN
    # The old file has the temporary name then, under which it is removed.
    if file.exchange and _is_file(path) and zarrs_exchange_names(file.temporary, path) == 0:
        return OK
    if rename(file.temporary, path) < 0:
        return _io_error(failure)
    free(file.temporary)
    file.temporary = NULL
    return OK


cdef Status commit_file(
    NewFile* file, const char* path, const Input* old, Failure* failure,
) noexcept nogil:
    """Put a new file in the place of ``path``.

    ``old`` is what was merged, if anything was, and still is to be there. On any failure the old
    file is as it was and no temporary file is left.
    """
    cdef Status status = _write_rest(file, failure)
    # first, lest a name on the disk leads to bytes that are not
    if status == OK and file.sync and zarrs_sync(file.fd) < 0:
        status = _io_error(failure)
    # quota and network file systems report when the file is closed
    if close(file.fd) < 0 and status == OK:
        status = _io_error(failure)
    file.fd = -1
    if status == OK:
        status = _take_place(file, path, old, failure)
    if status == OK:
        invalidate_handle(path)
    abandon_file(file)
    return status


cdef void abandon_file(NewFile* file) noexcept nogil:
    """Remove a new file, or what is left of it, and free its memory."""
    if file.fd >= 0:
        close(file.fd)
    if file.temporary != NULL:
        unlink(file.temporary)
    free(file.temporary)
    free(file.block)
    memset(file, 0, sizeof(NewFile))
    file.fd = -1


cdef Status write_file(
    const char* path, const FileOptions* options, const uint8_t* data, size_t n, uint64_t nonce,
    NewFile* file, Failure* failure,
) noexcept nogil:
    """Begin a file with all that it is to hold; see ``create_file``."""
    cdef Status status = create_file(path, options, nonce, file, failure)
    if status != OK:
        return status
    # Nothing comes after: gathering it in a block would only copy it.
    if file.direct:
        status = append_file(file, data, n, failure)
    else:
        status = _write_all(file, data, n, failure)
    if status != OK:
        abandon_file(file)
    return status


cdef Status remove_file(
    const char* path, const Input* old, Failure* failure,
) noexcept nogil:
    """Remove a file; one that is not there is no error. See ``commit_file`` for ``old``."""
    if _was_overtaken(old, path):
        return OVERTAKEN
    if unlink(path) < 0 and errno != ENOENT and errno != ENOTDIR:
        return _io_error(failure)
    invalidate_handle(path)
    return OK
