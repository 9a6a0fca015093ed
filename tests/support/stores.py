"""Stores of all kinds, servers for those that need one, and stores that watch what is asked.

A kind of store is a factory. Kinds that are written to make an empty store; those that are read
only make a store of the files below a directory, which somebody has written before.
"""

import asyncio
import base64
import logging
import threading
import urllib.request
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
import zarr
from helpers import ZARR_34, newer, stock
from zarr import storage
from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import (
    FsspecStore,
    LocalStore,
    LoggingStore,
    MemoryStore,
    ObjectStore,
    WrapperStore,
    ZipStore,
)

METADATA = ("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")


def is_chunk(key: str) -> bool:
    """Whether a key is of a chunk, not of metadata."""
    return key.rpartition("/")[2] not in METADATA


def part_of(value: bytes, wanted: ByteRequest | None) -> bytes:
    """What a store answers: a range beyond the end is cut off there."""
    if wanted is None:
        return value
    if isinstance(wanted, RangeByteRequest):
        return value[wanted.start : wanted.end]
    if isinstance(wanted, OffsetByteRequest):
        return value[wanted.offset :]
    return value[max(0, len(value) - wanted.suffix) :]


# ------------------------------------------------------------------- through any store at all


def ours(store: Store, path: str = "") -> zarr.Array[Any]:
    """The array in a store, freshly opened with the configured pipeline."""
    return zarr.open_array(store, path=path, mode="r" if store.read_only else "r+")


def theirs(store: Store, path: str = "") -> zarr.Array[Any]:
    """The array in a store, bound to zarr's default pipeline."""
    with stock():
        return ours(store, path)


def stored(store: Store) -> dict[str, bytes]:
    """The bytes of all chunks in a store, by key."""

    async def collect() -> dict[str, bytes]:
        keys = [key async for key in store.list_prefix("") if is_chunk(key)]
        found = {key: await store.get(key, default_buffer_prototype()) for key in sorted(keys)}
        return {key: value.to_bytes() for key, value in found.items() if value is not None}

    return sync(collect())


# --------------------------------------------------------------------------- stores of our own


class AsyncOnly(Store):
    """A dictionary behind the abstract methods of a store and nothing else."""

    supports_writes = True
    supports_deletes = True
    supports_listing = True

    def __init__(
        self, held: MutableMapping[str, bytes] | None = None, *, read_only: bool = False
    ) -> None:
        super().__init__(read_only=read_only)
        self.held: MutableMapping[str, bytes] = {} if held is None else held

    def with_read_only(self, read_only: bool = False) -> Self:
        return type(self)(self.held, read_only=read_only)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and self.held is other.held

    __hash__ = None  # type: ignore[assignment]

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        await asyncio.sleep(0)
        value = self.held.get(key)
        return None if value is None else prototype.buffer.from_bytes(part_of(value, byte_range))

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        return [await self.get(key, prototype, wanted) for key, wanted in key_ranges]

    async def exists(self, key: str) -> bool:
        return key in self.held

    async def set(self, key: str, value: Buffer) -> None:
        self._check_writable()
        await asyncio.sleep(0)
        self.held[key] = value.to_bytes()

    async def delete(self, key: str) -> None:
        self._check_writable()
        await asyncio.sleep(0)
        self.held.pop(key, None)

    async def list(self) -> AsyncIterator[str]:
        for key in [*self.held]:
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        for key in [*self.held]:
            if key.startswith(prefix):
                yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        start = f"{prefix.rstrip('/')}/" if prefix else ""
        for name in {k[len(start) :].split("/")[0] for k in self.held if k.startswith(start)}:
            yield name


@dataclass(frozen=True)
class Request:
    """What a store was asked to do.

    Parameters
    ----------
    verb : {"get", "set", "delete"}
    key : str
    range : ByteRequest or None
        None: all of it.
    size : int
        Bytes that were returned or stored; -1 if there were none.
    """

    verb: str
    key: str
    range: ByteRequest | None = None
    size: int = -1


class Watch:
    """Records requests for chunks, in the order in which they ended, and how many ran at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way = 0
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self.requests: list[Request] = []
        self.peak = 0

    @contextmanager
    def one(self, key: str) -> Iterator[Callable[[Request], None]]:
        """A request that is under way; call what is yielded with what it was."""
        with self._lock:
            self._under_way += is_chunk(key)
            self.peak = max(self.peak, self._under_way)
        try:
            yield lambda request: self.requests.append(request) if is_chunk(key) else None
        finally:
            with self._lock:
                self._under_way -= is_chunk(key)

    def of(self, verb: str) -> list[Request]:
        """The requests of one kind."""
        return [request for request in self.requests if request.verb == verb]

    @property
    def nbytes(self) -> int:
        """Bytes that were returned."""
        return sum(max(0, request.size) for request in self.of("get"))


class Spy(AsyncOnly):
    """An asynchronous store that watches, and takes its time."""

    def __init__(
        self,
        held: MutableMapping[str, bytes] | None = None,
        *,
        read_only: bool = False,
        delay: float = 0,
    ) -> None:
        super().__init__(held, read_only=read_only)
        self.watch = Watch()
        self.delay = delay

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        with self.watch.one(key) as done:
            await asyncio.sleep(self.delay)
            found = await super().get(key, prototype, byte_range)
            done(Request("get", key, byte_range, -1 if found is None else len(found)))
            return found

    async def set(self, key: str, value: Buffer) -> None:
        with self.watch.one(key) as done:
            await asyncio.sleep(self.delay)
            await super().set(key, value)
            done(Request("set", key, None, len(value)))

    async def delete(self, key: str) -> None:
        with self.watch.one(key) as done:
            await asyncio.sleep(self.delay)
            await super().delete(key)
            done(Request("delete", key))


class Ranges(Spy):
    """Has its own way of reading many ranges: the last first, two of them at a time."""

    def __init__(self, *args: Any, **kw: Any) -> None:
        super().__init__(*args, **kw)
        self.asked: list[tuple[str, list[ByteRequest | None]]] = []

    async def get_ranges(
        self,
        key: str,
        byte_ranges: Sequence[ByteRequest | None],
        *,
        prototype: BufferPrototype,
        max_concurrency: int = 10,
        max_gap_bytes: int = 1 << 20,
        max_coalesced_bytes: int = 16 << 20,
    ) -> AsyncIterator[Sequence[tuple[int, Buffer | None]]]:
        self.asked.append((key, list(byte_ranges)))
        value = self.held.get(key)
        if value is None:
            raise BaseExceptionGroup("no such key", [FileNotFoundError(key)])
        numbered = list(enumerate(byte_ranges))[::-1]
        for i in range(0, len(numbered), 2):
            await asyncio.sleep(self.delay)
            yield [
                (k, prototype.buffer.from_bytes(part_of(value, r))) for k, r in numbered[i : i + 2]
            ]


class SyncSpy(MemoryStore):
    """A store that blocks whoever asks it, in whichever way; watched."""

    def __init__(self, *args: Any, delay: float = 0, **kw: Any) -> None:
        super().__init__(*args, **kw)
        self.watch = Watch()
        self.delay = delay
        self.threads: set[int] = set()

    def get_sync(
        self,
        key: str,
        *,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        with self.watch.one(key) as done:
            self._wait()
            found = super().get_sync(key, prototype=prototype, byte_range=byte_range)
            done(Request("get", key, byte_range, -1 if found is None else len(found)))
            return found

    def set_sync(self, key: str, value: Buffer) -> None:
        with self.watch.one(key) as done:
            self._wait()
            super().set_sync(key, value)
            done(Request("set", key, None, len(value)))

    def delete_sync(self, key: str) -> None:
        with self.watch.one(key) as done:
            self._wait()
            super().delete_sync(key)
            done(Request("delete", key))

    async def get(self, key: str, *args: Any, **kw: Any) -> Buffer | None:
        return await super().get(key, *args, **kw)

    async def set(self, key: str, value: Buffer, *args: Any) -> None:
        await super().set(key, value, *args)

    async def delete(self, key: str) -> None:
        await super().delete(key)

    def _wait(self) -> None:
        self.threads.add(threading.get_ident())
        if self.delay:
            threading.Event().wait(self.delay)


def _scrambled(key: str, value: Buffer | None) -> Buffer | None:
    # Every byte of a chunk is another one; the same once more makes it what it was.
    if value is None or not is_chunk(key):
        return value
    return type(value).from_bytes((np.frombuffer(value.to_bytes(), "u1") ^ 0x5A).tobytes())


class CountingLocal(LocalStore):
    """Overrides nothing but ``get``: nobody may read past it."""

    gets = 0

    async def get(self, key: str, *args: Any, **kw: Any) -> Buffer | None:
        self.gets += is_chunk(key)
        return await super().get(key, *args, **kw)


class ReadScrambled(LocalStore):
    """Overrides nothing but ``get``, which returns other bytes than there are."""

    async def get(self, key: str, *args: Any, **kw: Any) -> Buffer | None:
        return _scrambled(key, await super().get(key, *args, **kw))


class ScrambledLocal(LocalStore):
    """Has its own idea of bytes in all its methods, those that block included."""

    async def get(self, key: str, *args: Any, **kw: Any) -> Buffer | None:
        return _scrambled(key, await super().get(key, *args, **kw))

    async def set(self, key: str, value: Buffer) -> None:
        changed = _scrambled(key, value)
        assert changed is not None
        await super().set(key, changed)

    async def delete(self, key: str) -> None:
        await super().delete(key)

    def get_sync(self, key: str, **kw: Any) -> Buffer | None:
        return _scrambled(key, super().get_sync(key, **kw))

    def set_sync(self, key: str, value: Buffer) -> None:
        changed = _scrambled(key, value)
        assert changed is not None
        super().set_sync(key, changed)

    def delete_sync(self, key: str) -> None:
        super().delete_sync(key)


class Latency(WrapperStore[Store]):
    """A wrapper that lets every request wait; it knows nothing of methods that block."""

    seconds = 0.001

    async def get(self, key: str, *args: Any, **kw: Any) -> Buffer | None:
        await asyncio.sleep(self.seconds)
        return await self._store.get(key, *args, **kw)

    async def set(self, key: str, value: Buffer) -> None:
        await asyncio.sleep(self.seconds)
        await self._store.set(key, value)


class Mapping(MutableMapping[str, Buffer]):
    """A mapping of a user's own, for a ``MemoryStore``."""

    def __init__(self) -> None:
        self.inside: dict[str, Buffer] = {}
        self.lookups = 0

    def __getitem__(self, key: str) -> Buffer:
        self.lookups += 1
        return self.inside[key]

    def __setitem__(self, key: str, value: Buffer) -> None:
        self.inside[key] = value

    def __delitem__(self, key: str) -> None:
        del self.inside[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.inside)

    def __len__(self) -> int:
        return len(self.inside)


# ------------------------------------------------------------------------------------- servers


@dataclass(frozen=True)
class HttpRequest:
    """What a server was asked for, and how many bytes it sent."""

    method: str
    path: str
    range: str
    status: int
    sent: int


class HttpServer:
    """Serves directories on the loopback, from a thread with an event loop of its own.

    Attributes
    ----------
    latency : float
        Seconds that every request waits.
    requests : list of HttpRequest
    """

    def __init__(self) -> None:
        self._directories: dict[str, Path] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="http", daemon=True)
        self._thread.start()
        self.forget()
        self.latency = 0.0
        self.url = self._call(self._start())

    def publish(self, directory: Path) -> str:
        """Serve a directory; return its URL."""
        name = uuid.uuid4().hex
        self._directories[name] = directory
        return f"{self.url}/{name}"

    def forget(self) -> None:
        """Begin the record anew."""
        self.requests: list[HttpRequest] = []

    @property
    def sent(self) -> int:
        """Bytes sent, of bodies."""
        return sum(request.sent for request in self.requests)

    def close(self) -> None:
        self._call(self._runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _start(self) -> str:
        from aiohttp import web

        app = web.Application()
        app.router.add_get("/{name}/{key:.*}", self._answer)  # HEAD as well
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        return f"http://{host}:{port}"

    async def _answer(self, request: Any) -> Any:
        await asyncio.sleep(self.latency)
        status, body, headers = self._find(request)
        sent = len(body) if request.method == "GET" else 0
        asked = request.headers.get("Range", "")
        self.requests.append(HttpRequest(request.method, request.path, asked, status, sent))

        from aiohttp import web

        return web.Response(status=status, body=body, headers=headers)

    def _find(self, request: Any) -> tuple[int, bytes, dict[str, str]]:
        path = self._directories[request.match_info["name"]] / request.match_info["key"]
        if not path.is_file():
            return 404, b"", {}
        body = path.read_bytes()
        wanted = request.http_range
        start, stop, _ = wanted.indices(len(body))
        if "Range" not in request.headers:
            return 200, body, {"Accept-Ranges": "bytes"}
        if start >= stop:
            return 416, b"", {"Content-Range": f"bytes */{len(body)}"}
        return 206, body[start:stop], {"Content-Range": f"bytes {start}-{stop - 1}/{len(body)}"}


BUCKET = "bucket"
S3_KEY = S3_SECRET = "testing"
S3_REGION = "us-east-1"


class S3Server:
    """moto's imitation of S3 on the loopback, with one bucket."""

    def __init__(self) -> None:
        from moto.server import ThreadedMotoServer

        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for every request
        self._server.start()
        host, port = self._server.get_host_and_port()
        self.url = f"http://{host}:{port}"
        bucket = urllib.request.Request(f"{self.url}/{BUCKET}", method="PUT")
        with urllib.request.urlopen(bucket, timeout=30):
            pass

    def close(self) -> None:
        self._server.stop()


class Services:
    """Servers that start when they are needed first, and what must be closed before they stop."""

    def __init__(self) -> None:
        self._http: HttpServer | None = None
        self._s3: S3Server | None = None
        self._file_systems: dict[int, Any] = {}

    @property
    def http(self) -> HttpServer:
        self._http = self._http or HttpServer()
        return self._http

    @property
    def s3(self) -> S3Server:
        self._s3 = self._s3 or S3Server()
        return self._s3

    def tidy(self, store: FsspecStore) -> FsspecStore:
        """See to it that the connections of a store are closed."""
        inner = getattr(store.fs, "fss", {}).values()
        for file_system in (store.fs, *inner):
            self._file_systems[id(file_system)] = file_system
        return store

    def close(self) -> None:
        for file_system in self._file_systems.values():
            if getattr(file_system, "_session", None) is not None:  # HTTP
                sync(file_system._session.close())
            if getattr(file_system, "_s3creator", None) is not None:
                sync(file_system._s3creator.__aexit__(None, None, None))
        for server in (self._http, self._s3):
            if server is not None:
                server.close()


# ------------------------------------------------------------------------------- kinds of store


@dataclass(frozen=True)
class Kind:
    """A kind of store.

    Parameters
    ----------
    name : str
        Shown in test ids.
    make : callable
        From a directory and the servers to a store. What is written to is new and empty; what is
        read-only has the files below the directory.
    writable : bool
    deletes : bool
        Whether keys can be deleted.
    formats : tuple of int
        The Zarr formats that it takes.
    remote : bool
        Every request takes milliseconds.
    warnings : tuple of str
        Filters for the warnings of others.
    """

    name: str
    make: Callable[[Path, Services], Store]
    writable: bool = True
    deletes: bool = True
    formats: tuple[int, ...] = (2, 3)
    remote: bool = False
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name

    @property
    def marks(self) -> list[pytest.MarkDecorator]:
        """What tests with this kind of store are marked with."""
        return [pytest.mark.filterwarnings(text) for text in self.warnings]

    def new(self, path: Path, services: Services) -> Store:
        """Make a store of this kind."""
        return self.make(path, services)


def _fsspec_memory(path: Path, services: Services) -> Store:
    return services.tidy(FsspecStore.from_url(f"memory://{path}/{uuid.uuid4().hex}"))


def _fsspec_local(path: Path, services: Services) -> Store:
    url = (path / "fsspec").as_uri()
    return services.tidy(FsspecStore.from_url(url, storage_options={"auto_mkdir": True}))


def _fsspec_http(path: Path, services: Services) -> Store:
    return services.tidy(FsspecStore.from_url(services.http.publish(path), read_only=True))


def _fsspec_s3(path: Path, services: Services) -> Store:
    options = {
        "endpoint_url": services.s3.url,
        "key": S3_KEY,
        "secret": S3_SECRET,
        "client_kwargs": {"region_name": S3_REGION},
    }
    url = f"s3://{BUCKET}/{uuid.uuid4().hex}"
    return services.tidy(FsspecStore.from_url(url, storage_options=options))


def references(directory: Path, url: str, one_file: str = "packed") -> dict[str, Any]:
    """What kerchunk would say of the files below a directory.

    Every third chunk is inline, every third a whole file, every third a part of one file.
    """
    found: dict[str, Any] = {}
    packed = b"in front"
    files = [p for p in sorted(directory.rglob("*")) if p.is_file() and p.name != one_file]
    for i, path in enumerate(files):
        key, value = path.relative_to(directory).as_posix(), path.read_bytes()
        if not is_chunk(key):
            found[key] = value.decode()
        elif i % 3 == 0:
            found[key] = "base64:" + base64.b64encode(value).decode()
        elif i % 3 == 1:
            found[key] = [f"{url}/{key}"]
        else:
            found[key] = [f"{url}/{one_file}", len(packed), len(value)]
            packed += value + b"between"
    (directory / one_file).write_bytes(packed)
    return found


def _fsspec_reference(path: Path, services: Services) -> Store:
    from fsspec.implementations.reference import ReferenceFileSystem

    file_system = ReferenceFileSystem(
        fo=references(path, services.http.publish(path)),
        remote_protocol="http",
        remote_options={"asynchronous": True},
        asynchronous=True,
    )
    return services.tidy(FsspecStore(file_system, read_only=True, path=""))


def _obstore_memory(path: Path, services: Services) -> Store:
    from obstore.store import MemoryStore as Inner

    return ObjectStore(Inner())


def _obstore_local(path: Path, services: Services) -> Store:
    from obstore.store import LocalStore as Inner

    return ObjectStore(Inner(prefix=str(path / "obstore"), mkdir=True))


def _obstore_s3(path: Path, services: Services) -> Store:
    from obstore.store import S3Store

    inner = S3Store(
        BUCKET,
        prefix=uuid.uuid4().hex,
        endpoint=services.s3.url,
        access_key_id=S3_KEY,
        secret_access_key=S3_SECRET,
        region=S3_REGION,
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )
    return ObjectStore(inner)


def _obstore_http(path: Path, services: Services) -> Store:
    from obstore.store import HTTPStore

    url = services.http.publish(path)
    inner = HTTPStore.from_url(url, client_options={"allow_http": True})
    return ObjectStore(inner, read_only=True)


def _cache(path: Path, services: Services) -> Store:
    from zarr.experimental.cache_store import CacheStore

    return CacheStore(LocalStore(path / "cached"), cache_store=MemoryStore())


def _icechunk(path: Path, services: Services) -> Store:
    import icechunk

    repository = icechunk.Repository.create(icechunk.local_filesystem_storage(str(path / "ice")))
    return repository.writable_session("main").store


def _zip(path: Path, services: Services) -> Store:
    return ZipStore(path / "store.zip", mode="w")


KINDS = [
    Kind("memory", lambda path, services: MemoryStore()),
    Kind("memory-mapping", lambda path, services: MemoryStore(Mapping())),
    Kind("zip", _zip, deletes=False, warnings=("ignore:Duplicate name:UserWarning",)),
    Kind("logging", lambda path, services: LoggingStore(LocalStore(path / "log"), "ERROR")),
    Kind("wrapper", lambda path, services: WrapperStore(MemoryStore())),
    Kind("latency", lambda path, services: Latency(MemoryStore())),
    Kind("local-own-get", lambda path, services: CountingLocal(path / "counting")),
    Kind("local-own-all", lambda path, services: ScrambledLocal(path / "scrambled")),
    Kind("async-only", lambda path, services: AsyncOnly()),
    Kind("own-ranges", lambda path, services: Ranges()),
    Kind("sync-spy", lambda path, services: SyncSpy()),
    Kind("fsspec-memory", _fsspec_memory),
    Kind("fsspec-local", _fsspec_local),
    Kind("fsspec-s3", _fsspec_s3, remote=True),
    Kind("obstore-memory", _obstore_memory),
    Kind("obstore-local", _obstore_local),
    Kind("obstore-s3", _obstore_s3, remote=True),
    Kind("icechunk", _icechunk, formats=(3,)),
]
if hasattr(storage, "ManagedMemoryStore"):
    KINDS.append(
        Kind("managed-memory", lambda path, services: newer("zarr.storage", "ManagedMemoryStore")())
    )
if ZARR_34:
    KINDS.append(Kind("cache", _cache))
READ_ONLY_KINDS = [
    Kind("fsspec-http", _fsspec_http, writable=False),
    Kind("fsspec-reference", _fsspec_reference, writable=False),
    Kind("obstore-http", _obstore_http, writable=False),
]
KIND = {kind.name: kind for kind in (*KINDS, *READ_ONLY_KINDS)}


def each_kind(*names: str, read_only: bool = False) -> pytest.MarkDecorator:
    """Parametrize `kind`: the named ones, or all that are written to, and the others if asked."""
    if names:
        kinds = [KIND[name] for name in names if name in KIND]
    else:
        kinds = [*KINDS, *(READ_ONLY_KINDS if read_only else ())]
    marked = [pytest.param(kind, id=kind.name, marks=kind.marks) for kind in kinds]
    return pytest.mark.parametrize("kind", marked)


def filled(kind: Kind, path: Path, services: Services, fill: Callable[[Store], object]) -> Store:
    """A store of any kind with an array that zarr's default pipeline has written.

    Parameters
    ----------
    fill : callable
        Creates and writes the array in the store that it is given.
    """
    store = kind.new(path, services) if kind.writable else LocalStore(path / "files")
    with stock():
        fill(store)
    return store if kind.writable else kind.new(path / "files", services)
