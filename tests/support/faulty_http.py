"""A web server, and a store in this process, that do to requests what a test tells them."""

import asyncio
import re
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from aiohttp import web
from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import MemoryStore

T = TypeVar("T")


def is_metadata(key: str) -> bool:
    """Whether a key is not a chunk's."""
    return key.rpartition("/")[2] in {"zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata"}


# ------------------------------------------------------------------------------ the server


@dataclass(frozen=True)
class Asked:
    """A request for a chunk: its key and its range, if it has one."""

    key: str
    range: tuple[int, int] | None
    number: int


Fault = int | str | None


class FaultyServer:
    """Serves a dictionary at 127.0.0.1, in a thread and an event loop of its own.

    Parameters
    ----------
    files : dict
        From keys to bytes; it may change.

    Attributes
    ----------
    fault : callable
        What is wrong with the answer to a request for a chunk: a status; one of the names below;
        None. Metadata are never at fault.

        "cut", "short"
            Half of the body comes; the connection is reset, or closed as if that were all.
        "no ranges"
            All of it, with status 200.
        "few", "few, lying"
            Fewer bytes than asked for, which the header says, or does not.
        "more"
            More bytes than asked for.
        "elsewhere"
            Another range, with the header of the one that was asked for.
    asked : list of Asked
        Requests for chunks.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.fault: Callable[[Asked], Fault] = lambda asked: None
        self.asked: list[Asked] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.url = self._call(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _call(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    async def _start(self) -> str:
        app = web.Application()
        app.router.add_get("/{key:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}/"

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        key = request.match_info["key"]
        body = self.files.get(key)
        wanted = _range(request.headers.get("Range"), len(body or b""))
        fault: Fault = None
        if not is_metadata(key) and request.method == "GET":
            asked = Asked(key, wanted, len(self.asked))
            self.asked.append(asked)
            fault = self.fault(asked)
        if isinstance(fault, int):
            return web.Response(status=fault)
        if body is None:
            return web.Response(status=404)
        if wanted is None or fault == "no ranges":
            return await self._send(request, 200, body, {}, fault)
        start, stop = wanted
        if start >= len(body):
            return web.Response(status=416)
        stop = min(stop, len(body))
        said = f"bytes {start}-{stop - 1}/{len(body)}"
        if fault in ("few", "few, lying"):
            stop -= min(7, stop - start - 1)
        elif fault == "more":
            start, stop = max(start - 9, 0), stop + 9
        elif fault == "elsewhere":
            shift = -4 if start >= 4 else 4
            start, stop = start + shift, stop + shift
        if fault == "few":
            said = f"bytes {start}-{stop - 1}/{len(body)}"
        return await self._send(request, 206, body[start:stop], {"Content-Range": said}, fault)

    async def _send(
        self, request: web.Request, status: int, body: bytes, headers: dict[str, str], fault: Fault
    ) -> web.StreamResponse:
        if fault not in ("cut", "short"):
            return web.Response(status=status, body=body, headers=headers)
        response = web.StreamResponse(status=status, headers=headers)
        response.content_length = len(body)
        await response.prepare(request)
        await response.write(body[: len(body) // 2])
        if request.transport is not None:
            if fault == "cut":
                request.transport.abort()
            else:
                request.transport.close()
        return response


def _range(header: str | None, size: int) -> tuple[int, int] | None:
    if header is None:
        return None
    matched = re.fullmatch(r"bytes=(\d*)-(\d*)", header)
    assert matched is not None, header
    start, last = matched.groups()
    if not start:
        return max(0, size - int(last)), size
    return int(start), int(last) + 1 if last else size


@contextmanager
def fsspec_store(url: str) -> Iterator[Any]:
    """The server as a ``FsspecStore``, whose session is closed in the end."""
    from zarr.storage import FsspecStore

    options = {"asynchronous": True, "skip_instance_cache": True}
    store = FsspecStore.from_url(url.rstrip("/"), storage_options=options, read_only=True)
    try:
        yield store
    finally:
        session = getattr(store.fs, "_session", None)
        if session is not None:
            sync(session.close())


@contextmanager
def obstore_store(url: str) -> Iterator[Any]:
    """The server as an ``ObjectStore`` that does not try again."""
    from obstore.store import HTTPStore
    from zarr.storage import ObjectStore

    options: Any = {"allow_http": True, "timeout": "20s"}
    store = HTTPStore.from_url(url, client_options=options, retry_config={"max_retries": 0})
    yield ObjectStore(store, read_only=True)


# ------------------------------------------------------------------- a store in this process


@dataclass
class Request:
    """A request for a chunk in a `ToldStore`.

    Attributes
    ----------
    what : {"get", "set", "delete"}
    key : str
    range : ByteRequest or None
    number : int
        Of requests of this kind.
    go_on : callable
        Do what a store does.
    """

    what: str
    key: str
    range: ByteRequest | None
    number: int
    go_on: Callable[[], Awaitable[Any]]


class ToldStore(MemoryStore):
    """An asynchronous store whose requests for chunks do what a test tells them.

    Attributes
    ----------
    hook : callable
        From a `Request` to what comes of it.
    asked : list of Request
    running, peak : int
        Requests under way, and the most there were.
    """

    def __init__(self, store_dict: Any = None, *, read_only: bool = False) -> None:
        super().__init__(store_dict, read_only=read_only)
        self.reset()

    def reset(self) -> None:
        """Behave, and forget what was asked."""
        self.hook: Callable[[Request], Awaitable[Any]] = _go_on
        self.asked: list[Request] = []
        self.running = self.peak = 0
        self._counts = {"get": 0, "set": 0, "delete": 0}

    async def get(
        self, key: str, prototype: Any = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        prototype = prototype or default_buffer_prototype()
        plain = super().get
        got: Buffer | None = await self._tell(
            "get", key, byte_range, lambda: plain(key, prototype, byte_range)
        )
        return got

    async def set(self, key: str, value: Buffer, byte_range: Any = None) -> None:
        plain = super().set
        await self._tell("set", key, None, lambda: plain(key, value))

    async def delete(self, key: str) -> None:
        plain = super().delete
        await self._tell("delete", key, None, lambda: plain(key))

    async def _tell(self, what: str, key: str, byte_range: Any, go_on: Any) -> Any:
        if is_metadata(key):
            return await go_on()
        request = Request(what, key, byte_range, self._counts[what], go_on)
        self._counts[what] += 1
        self.asked.append(request)
        self.running += 1
        self.peak = max(self.peak, self.running)
        try:
            await asyncio.sleep(0)
            return await self.hook(request)
        finally:
            self.running -= 1

    def chunks(self) -> dict[str, bytes]:
        """The chunks that are stored."""
        return {k: v.to_bytes() for k, v in self._store_dict.items() if not is_metadata(k)}

    def put(self, key: str, value: bytes | None) -> None:
        """Replace or remove a chunk behind everybody's back."""
        if value is None:
            self._store_dict.pop(key, None)
        else:
            self._store_dict[key] = default_buffer_prototype().buffer.from_bytes(value)


async def _go_on(request: Request) -> Any:
    return await request.go_on()


def slow(seconds: float) -> Callable[[Request], Awaitable[Any]]:
    """A hook: every request takes so long."""

    async def hook(request: Request) -> Any:
        await asyncio.sleep(seconds)
        return await request.go_on()

    return hook


# -------------------------------------------------------------------------------- in bounds


def in_time(function: Callable[[], T], seconds: float = 30) -> T:
    """Call a function in a thread, and fail if it has not ended in time."""
    done: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            done.append(function())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), f"no end after {seconds} s"
    if errors:
        raise errors[0]
    return done[0]


def tasks_left() -> list[str]:
    """What is left on zarr's event loop."""

    async def others() -> list[str]:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        return [repr(task) for task in tasks if not task.done()]

    with suppress(TimeoutError):
        return sync(others(), timeout=10)
    return ["the loop does not answer"]
