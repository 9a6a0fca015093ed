"""A call in another thread that the caller waits for, whatever signals interrupt that.

Python runs handlers of signals between its own instructions, and one that raises in the middle of
``concurrent.futures.Future`` can leave its lock held for ever: then the thread that is to run the
call waits for ever, and all calls behind it. This is compiled, so nothing comes in between.
"""

import threading

cdef object _new_lock = threading.Lock


cdef class BlockingCall:
    """What ``concurrent.futures.Future`` is to a thread that waits, as far as that is needed."""

    cdef object running  # a lock, which is given back when the call has ended
    cdef object value
    cdef object error
    cdef list callbacks
    cdef bint has_begun
    cdef bint has_ended
    cdef bint is_cancelled

    def __cinit__(self):
        self.running = _new_lock()
        self.running.acquire()
        self.callbacks = []

    # For the thread that waits.

    def add_done_callback(self, callback) -> None:
        """Let a function be called when the call has ended, before the caller learns of it."""
        self.callbacks.append(callback)

    def cancel(self) -> bool:
        """Let the call not begin; return whether that has come in time."""
        self.is_cancelled = not self.has_begun
        return self.is_cancelled

    def done(self) -> bool:
        """Return whether the call has ended, or will not begin."""
        return self.has_ended or self.is_cancelled

    def wait(self) -> None:
        """Wait until the call has ended."""
        self.running.acquire()
        self.running.release()

    def result(self):
        """Wait until the call has ended; return what it returned, or raise what it raised."""
        self.wait()
        if self.error is None:
            return self.value
        error, self.error = self.error, None  # whose traceback leads here
        raise error

    # For the thread that runs the call.

    def set_running_or_notify_cancel(self) -> bool:
        """Begin, unless the call was cancelled; return whether it has begun."""
        if self.is_cancelled:
            self._end()
            return False
        self.has_begun = True
        return True

    def set_result(self, value) -> None:
        """End the call, which has returned something."""
        self.value = value
        self._end()

    def set_exception(self, error) -> None:
        """End the call, which has raised something."""
        self.error = error
        self._end()

    cdef _end(self):
        try:
            for callback in self.callbacks:
                callback(self)
        finally:
            self.callbacks = []
            self.has_ended = True
            self.running.release()
