"""The codec pipeline that zarr calls.

A call becomes a plan, and the plan is run by the native loops; or there is a reason why not, and
zarr's own pipeline takes the call.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from zarr.abc.codec import CodecPipeline
from zarr.core.codec_pipeline import BatchedCodecPipeline
from zarr.storage import StorePath

from zarrs import _run
from zarrs._config import Options, read_options
from zarrs._planner import BatchInfo, Planner
from zarrs.execution._job import Job
from zarrs.runtime._errors import NotNativeError, split_key
from zarrs.runtime._task_group import until_done
from zarrs.runtime._turns import is_loop_waiting
from zarrs.storage._kept import writing
from zarrs.storage._key_locks import key_locks, lock_names
from zarrs.storage._stores import directory_at, location

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from zarr.abc.codec import Codec
    from zarr.abc.store import ByteGetter, ByteSetter
    from zarr.core.array_spec import ArraySpec
    from zarr.core.buffer import Buffer, NDBuffer

PRESENT = {"status": "present"}
MISSING = {"status": "missing"}


class ZarrsCodecPipeline(CodecPipeline):
    """Codec pipeline that reads and writes chunks in parallel native loops.

    zarr makes it; users name it in ``zarr.config`` under ``codec_pipeline.path``. Options are read
    from ``zarr.config`` when a pipeline is made and again when it is unpickled.

    Parameters
    ----------
    zarr_pipeline : BatchedCodecPipeline
        zarr's own pipeline of the same codecs. It takes what is not native.

    Examples
    --------
    >>> import zarr, zarrs
    >>> with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
    ...     array = zarr.create_array({}, shape=(4,), chunks=(2,), dtype="i4")
    >>> zarrs.explain(array).native
    True
    """

    def __init__(self, zarr_pipeline: BatchedCodecPipeline) -> None:
        self._zarr = zarr_pipeline
        self.planner = Planner(zarr_pipeline, read_options())

    def __getstate__(self) -> BatchedCodecPipeline:
        return self._zarr

    def __setstate__(self, state: BatchedCodecPipeline) -> None:
        self.__init__(state)  # type: ignore[misc]

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        """Return what dask names arrays by: the codecs, not how they happen to be pickled."""
        from dask.base import normalize_token

        return "zarrs.ZarrsCodecPipeline", normalize_token(self._zarr)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ZarrsCodecPipeline):
            return NotImplemented
        return self._zarr == other._zarr

    def __hash__(self) -> int:
        return hash(self._zarr)

    def __repr__(self) -> str:
        return f"ZarrsCodecPipeline({list(self)!r})"

    def __iter__(self) -> Iterator[Codec]:
        return iter(self._zarr)

    @property
    def options(self) -> Options:
        """The options in force."""
        return self.planner.options

    def with_options(self, **options: Any) -> ZarrsCodecPipeline:
        """Return a pipeline of the same codecs with some other options."""
        pipeline = ZarrsCodecPipeline(self._zarr)
        pipeline.planner = Planner(self._zarr, replace(self.options, **options))
        return pipeline

    # What has nothing to do with chunks is zarr's.

    @classmethod
    def from_codecs(cls, codecs: Iterable[Codec]) -> Self:
        """Make a pipeline of codecs, in the order of encoding."""
        return cls(BatchedCodecPipeline.from_codecs(codecs))

    def evolve_from_array_spec(self, array_spec: ArraySpec) -> Self:
        """Return the pipeline for arrays of one specification."""
        return type(self)(self._zarr.evolve_from_array_spec(array_spec))

    @property
    def supports_partial_decode(self) -> bool:
        """Whether zarr's own pipeline can decode parts of a chunk."""
        return self._zarr.supports_partial_decode

    @property
    def supports_partial_encode(self) -> bool:
        """Whether zarr's own pipeline can encode parts of a chunk."""
        return self._zarr.supports_partial_encode

    def validate(self, *, shape: tuple[int, ...], dtype: Any, chunk_grid: Any) -> None:
        """Raise if the codecs do not fit an array."""
        self._zarr.validate(shape=shape, dtype=dtype, chunk_grid=chunk_grid)

    def compute_encoded_size(self, byte_length: int, array_spec: ArraySpec) -> int:
        """Return the size of an encoded chunk, for codecs of which it is known."""
        return self._zarr.compute_encoded_size(byte_length, array_spec)

    async def decode(
        self, chunk_bytes_and_specs: Iterable[tuple[Buffer | None, ArraySpec]]
    ) -> Iterable[NDBuffer | None]:
        """Decode chunks that the caller has fetched."""
        return await self._zarr.decode(chunk_bytes_and_specs)

    async def encode(
        self, chunk_arrays_and_specs: Iterable[tuple[NDBuffer | None, ArraySpec]]
    ) -> Iterable[Buffer | None]:
        """Encode chunks that the caller will store."""
        return await self._zarr.encode(chunk_arrays_and_specs)

    # Reading and writing.

    async def read(
        self,
        batch_info: Iterable[tuple[ByteGetter, ArraySpec, Any, Any, bool]],
        out: NDBuffer,
        drop_axes: tuple[int, ...] = (),
    ) -> Any:
        """Read selections of chunks into an array.

        Parameters
        ----------
        batch_info : iterable of tuple
            For every chunk its byte getter, its specification, the selection in the chunk, the
            selection in ``out``, and whether the chunk is selected completely.
        out : NDBuffer
            The array to fill.
        drop_axes : tuple of int
            Axes of length 1 that the selections in chunks have and ``out`` has not.

        Returns
        -------
        tuple of GetResult
            For every chunk, whether it was present or missing.

        Raises
        ------
        ChunkError
            If a chunk is damaged.
        OSError
            If a file cannot be read. What a store raises is passed on, with a note of the key.
        NotNativeError
            If the call is not native and ``codec_pipeline.strict`` is set.
        """
        if is_loop_waiting():
            await asyncio.sleep(0)
        batch: BatchInfo = list(batch_info)
        if not batch:
            return ()
        groups = self.planner.by_shape(batch)
        if len(groups) > 1:
            results: dict[int, Any] = {}
            for group in groups:
                part = await self.read([batch[i] for i in group], out, drop_axes)
                results.update(zip(group, part or (), strict=False))  # zarr 3.1 returns nothing
            return tuple(results[i] for i in sorted(results))
        job = self.planner.plan_read(batch, out, drop_axes)
        if isinstance(job, str):
            self._refuse_if_strict(batch, "reading", job)
            return await self._zarr.read(batch, out, drop_axes)
        await _run.read(job, self.options)
        return job.plan.results(PRESENT, MISSING)

    async def write(
        self,
        batch_info: Iterable[tuple[ByteSetter, ArraySpec, Any, Any, bool]],
        value: NDBuffer,
        drop_axes: tuple[int, ...] = (),
    ) -> None:
        """Write an array, or one value, to selections of chunks.

        A chunk that is not selected completely is read and merged; the file of every chunk is
        replaced in one step, so a failed write leaves the old one. In other stores a chunk is
        stored as the store stores values.

        Parameters
        ----------
        batch_info : iterable of tuple
            As for `read`.
        value : NDBuffer
            The values; of shape ``()`` for one that goes everywhere.
        drop_axes : tuple of int
            As for `read`.

        Raises
        ------
        ChunkError
            If a chunk that is to be merged is damaged, or one cannot be encoded.
        OSError
            If a file cannot be written. What a store raises is passed on, with a note of the key.
        NotNativeError
            If the call is not native and ``codec_pipeline.strict`` is set.
        """
        if is_loop_waiting():
            await asyncio.sleep(0)
        batch: BatchInfo = list(batch_info)
        if not batch:
            return
        groups = self.planner.by_shape(batch)
        if len(groups) > 1:
            for group in groups:
                await self.write([batch[i] for i in group], value, drop_axes)
            return
        job = self.planner.plan_write(batch, value, drop_axes)
        if isinstance(job, str):
            self._refuse_if_strict(batch, "writing", job)
            await self._leave_to_zarr(batch, value, drop_axes)
            return
        await _run.write(job, self.options)
        if job.store is None:
            await self._set_inner_chunks(job, batch)

    async def _leave_to_zarr(
        self, batch: BatchInfo, value: NDBuffer, drop_axes: tuple[int, ...]
    ) -> None:
        first = batch[0][0]
        if not isinstance(first, StorePath):  # but zarr's own sharding codec
            await self._zarr.write(batch, value, drop_axes)
            return
        keys = [path.path for path, *_ in batch]
        _run.warn_of_store(first.store, self.options)
        where = location(first.store)
        async with key_locks().hold(lock_names(where, keys)):
            with writing(first.store, keys):
                if directory_at(where) is None or not self.options.lock_files:
                    await self._zarr.write(batch, value, drop_axes)
                    return
                # One by one: if one of several fails, zarr does not wait for the others.
                for key, one in zip(keys, batch, strict=True):
                    [(locks, _)] = _run.write_parts(where, [key], self.options)
                    async with locks:
                        await until_done(self._zarr.write([one], value, drop_axes))

    async def _set_inner_chunks(self, job: Job, batch: BatchInfo) -> None:
        # Inner chunks that zarr's own sharding codec holds.
        for i in job.plan.to_run():
            setter, spec, *_ = batch[i]
            encoded: Any = job.plan.take_encoded(i)  # a buffer, which Python 3.11 cannot say
            if encoded is None:
                await setter.delete()
            else:
                await setter.set(spec.prototype.buffer.from_bytes(encoded))

    def _refuse_if_strict(self, batch: BatchInfo, doing: str, reason: str) -> None:
        if self.options.strict:
            raise NotNativeError(
                f"{doing} {_place_of(batch)} is not native: {reason}; zarr's own pipeline would do "
                "it, but codec_pipeline.strict is on"
            )


def _place_of(batch: BatchInfo) -> str:
    # The first chunk of a call.
    place, spec, *_ = batch[0]
    if not isinstance(place, StorePath):  # but zarr's own sharding codec
        return "an inner chunk of a shard"
    array, chunk = split_key(place.path, len(spec.shape))
    return f"chunk {chunk!r} of array {array or str(place.store)!r}"
