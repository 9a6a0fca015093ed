"""Damaged shards: a clear error that names the shard, nothing lost, never a crash.

As for single chunks, everything hostile is read and written in child processes; a child that dies
is a failing test, and the last line it reported says where.
"""

import gzip
import re
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from helpers import (
    assert_same,
    bits,
    emit,
    make_data,
    ours_open,
    run_child,
    stock_read,
    stock_write,
    stored_files,
)
from shards import EMPTY, SHARDING, Layout, Sharding, create_sharded
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, ShardingCodec, ZstdCodec

import zarrs

pytestmark = pytest.mark.filterwarnings("ignore:Combining a .sharding_indexed. codec")

DTYPE = "<i4"
SHARD, INNER, COUNTS = (12, 10), (4, 5), (3, 2)
BAD = (1, 1)  # the inner chunk whose entry is at fault
KEY = "c/1/0"  # the shard it is in


# ------------------------------------------------------------- what is wrong with one entry

Fault = Callable[[int, int, int, Layout], tuple[int, int]]

# From the offset and the length of the entry and the size of the shard to a wrong entry. These
# point to bytes that are not in the shard, or say only half of what an empty entry says.
OUTSIDE: dict[str, Fault] = {
    "offset-at-end": lambda o, n, size, _: (size, n),
    "offset-just-before-end": lambda o, n, size, _: (size - 1, n),
    "offset-2^31": lambda o, n, size, _: (2**31, n),
    "offset-2^40": lambda o, n, size, _: (2**40, n),
    "offset-2^63-1": lambda o, n, size, _: (2**63 - 1, n),
    "offset-2^63": lambda o, n, size, _: (2**63, n),
    "offset-2^63-more": lambda o, n, size, _: (2**63 + o, n),
    "offset-2^64-2": lambda o, n, size, _: (EMPTY - 1, n),
    "length-one-past-end": lambda o, n, size, _: (o, size - o + 1),
    "length-2^31": lambda o, n, size, _: (o, 2**31),
    "length-2^32-more": lambda o, n, size, _: (o, 2**32 + n),
    "length-2^63": lambda o, n, size, _: (o, 2**63),
    "length-2^63-more": lambda o, n, size, _: (o, 2**63 + n),
    "length-2^64-2": lambda o, n, size, _: (o, EMPTY - 1),
    "sum-2^63": lambda o, n, size, _: (2**63 - n, n),
    "sum-2^64": lambda o, n, size, _: (2**64 - n, n),
    "sum-wraps": lambda o, n, size, _: (2**64 - 8, n + 8),
    "sum-wraps-into-place": lambda o, n, size, _: (2**64 - 16, 16 + o + n),
    "length-wraps": lambda o, n, size, _: (o + n, 2**64 - n),
    "only-offset-empty": lambda o, n, size, _: (EMPTY, n),
    "only-length-empty": lambda o, n, size, _: (o, EMPTY),
    "offset-empty-length-0": lambda o, n, size, _: (EMPTY, 0),
    "offset-0-length-empty": lambda o, n, size, _: (0, EMPTY),
}
# These stay inside, with another length than the inner chunk has.
LENGTH: dict[str, Fault] = {
    "length-0": lambda o, n, size, _: (o, 0),
    "zeros": lambda o, n, size, _: (0, 0),
    "length-0-at-end": lambda o, n, size, _: (size, 0),
    "length-1": lambda o, n, size, _: (o, 1),
    "length-short": lambda o, n, size, _: (o, n - 1),
    "length-long": lambda o, n, size, _: (o, n + 1),
    "all-of-the-shard": lambda o, n, size, _: (0, size),
}
# These have the right length: other inner chunks, or the index itself, are in the way.
PLACE: dict[str, Fault] = {
    "shifted": lambda o, n, size, _: (o + 1, n),
    "overlaps-half": lambda o, n, size, _: (o - n // 2, n),
    "in-the-index": lambda o, n, size, lay: (0 if lay.location == "start" else size - n, n),
    "across-the-index": lambda o, n, size, lay: (
        lay.size - 5 if lay.location == "start" else size - lay.size - n + 5,
        n,
    ),
}


def entry(fault: Fault) -> Callable[[Layout, bytes], bytes]:
    """The shard with the entry of one inner chunk at fault, and a right checksum."""

    def damage(layout: Layout, blob: bytes) -> bytes:
        index = layout.index(blob).copy()
        index[BAD] = fault(int(index[BAD][0]), int(index[BAD][1]), len(blob), layout)
        return layout.with_index(blob, index)

    return damage


def same_as_another(layout: Layout, blob: bytes) -> bytes:
    """Two entries for the same bytes: no writer that we know of does that."""
    index = layout.index(blob).copy()
    index[BAD] = index[0, 0]
    return layout.with_index(blob, index)


def all_zeros(layout: Layout, blob: bytes) -> bytes:
    return layout.with_index(blob, np.zeros((*layout.counts, 2), "u8"))


def flip_in_index(layout: Layout, blob: bytes, place: int = 3) -> bytes:
    """Another number in the index, of which its checksum knows nothing."""
    at = layout.place(blob).start + place
    return blob[:at] + bytes([blob[at] ^ 1]) + blob[at + 1 :]


def flip_in_checksum(layout: Layout, blob: bytes) -> bytes:
    return flip_in_index(layout, blob, layout.size - 2)


def cut_short(layout: Layout, blob: bytes) -> bytes:
    """One byte less than the index needs."""
    return blob[: layout.size - 1] if layout.location == "start" else blob[-layout.size + 1 :]


Damage = Callable[[Layout, bytes], bytes]
DAMAGE: dict[str, tuple[str, Damage]] = {
    **{name: ("outside", entry(fault)) for name, fault in OUTSIDE.items()},
    **{name: ("length", entry(fault)) for name, fault in LENGTH.items()},
    **{name: ("place", entry(fault)) for name, fault in PLACE.items()},
    "same-as-another": ("alias", same_as_another),
    "all-zeros": ("length", all_zeros),
    "empty-file": ("index", lambda layout, blob: b""),
    "one-byte": ("index", lambda layout, blob: blob[:1]),
    "shorter-than-index": ("index", cut_short),
    "index-flip": ("checksum", flip_in_index),
    "checksum-flip": ("checksum", flip_in_checksum),
    "cut": ("cut", lambda layout, blob: blob[:-30]),
}

ERROR, RIGHT = {"error"}, {"right"}
REFUSED, EITHER = {"refused"}, {"refused", "right"}
READS_FAIL = {"whole": ERROR, "window": ERROR, "point": ERROR, "column": ERROR}
READS_MAY_FAIL = {name: {"error", "as zarr"} for name in READS_FAIL}
# What each operation may do. "refused": the error, and the stored bytes stay as they were. "right"
# for a write: all that could be read still can, and what could not has not become something else.
EXPECTED: dict[str, dict[str, set[str]]] = {
    "outside": READS_FAIL
    | {"beside": {"error", "right"}, "merge": REFUSED, "merge beside": REFUSED, "cover": EITHER},
    "length": READS_FAIL
    | {"beside": {"error", "right"}, "merge": REFUSED, "merge beside": EITHER, "cover": EITHER},
    "place": READS_FAIL
    | {"beside": {"error", "right"}, "merge": REFUSED, "merge beside": EITHER, "cover": EITHER},
    "alias": READS_MAY_FAIL
    | {"beside": {"error", "right"}, "merge": EITHER, "merge beside": EITHER, "cover": EITHER},
    "index": READS_FAIL
    | {"beside": ERROR, "merge": REFUSED, "merge beside": REFUSED, "cover": REFUSED},
    "cut": {name: {"error", "right"} for name in READS_FAIL}
    | {"whole": ERROR, "beside": {"error", "right"}}
    | {"merge": REFUSED, "merge beside": REFUSED, "cover": REFUSED},
}
EXPECTED["checksum"] = EXPECTED["index"]

LAYOUTS = [
    Layout(COUNTS),
    Layout(COUNTS, "start"),
    Layout(COUNTS, "end", "big", False),
    Layout(COUNTS, "start", "little", False),
]
OUTER = Layout((2, 1), "end")  # around the shard at fault, where shards are nested
SITES = [(i, nested) for nested in (False, True) for i in range(4)]
CODECS: dict[str, list[Any]] = {"crc32c": [BytesCodec(), Crc32cCodec()], "raw": [BytesCodec()]}


def possible(name: str, layout: Layout) -> bool:
    """Without a checksum in the index nothing is known of changes there."""
    return layout.checksum or DAMAGE[name][0] != "checksum"


# ---------------------------------------------------------------------------- in the children


def tried(read: Callable[..., Any], expected: np.ndarray) -> str:
    """One word for what a read did; anything unexpected is spelled out."""
    try:
        result = np.asarray(read())
    except zarrs.ChunkError:
        return "error"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    if result.shape != expected.shape or result.dtype != expected.dtype:
        return f"shape {result.shape}, type {result.dtype}"
    return "right" if bits(result) == bits(expected) else "other"


class Site:
    """An array of shards, or of shards in shards, and the shard in it that is to be damaged."""

    def __init__(self, path: Path, layout: Layout, codecs: list[Any], nested: bool) -> None:
        self.path, self.layout, self.nested = path, layout, nested
        self.shape, self.height = ((48, 20), 24) if nested else ((24, 20), 12)
        self.top = self.shape[0] - 12  # first row of the shard at fault
        sharding = Sharding("", layout, lambda ndim: codecs, outer=[OUTER] if nested else [])
        with zarr.config.set({"codec_pipeline.strict": True}):
            self.array = create_sharded(path, sharding, self.shape, shard=SHARD, inner=INNER)
        self.data = make_data(DTYPE, self.shape)
        stock_write(path, ..., self.data)
        self.file = path / KEY
        self.good = self.file.read_bytes()

    def damage(self, change: Damage) -> None:
        if not self.nested:
            self.file.write_bytes(change(self.layout, self.good))
            return
        shards = OUTER.split(self.good)
        shards[1, 0] = change(self.layout, shards[1, 0])
        self.file.write_bytes(OUTER.build(shards))

    def rows(self, start: int, stop: int) -> slice:
        """Rows of the shard at fault, counted from its first."""
        return slice(self.top + start, self.top + stop)

    def read(self, selection: Any) -> str:
        """Try to read; other data may be what zarr's own pipeline reads, too."""
        word = tried(lambda: self.array[selection], np.asarray(self.data[selection]))
        if word != "other":
            return word
        try:
            theirs = np.asarray(stock_read(self.path, selection))
        except Exception:
            return word
        return "as zarr" if bits(theirs) == bits(self.array[selection]) else word

    def inner_chunks(self, data: np.ndarray) -> dict[tuple[int, ...], str]:
        """What a read of each inner chunk of the shard at fault does."""
        words = {}
        for coords in np.ndindex(COUNTS):
            i, j = (c * n for c, n in zip(coords, INNER, strict=True))
            part = (self.rows(i, i + 4), slice(j, j + 5))
            words[coords] = tried(lambda p=part: self.array[p], data[part])
        return words

    def write(self, selection: Any) -> str:
        """Try to write, and see what became of the stored bytes and of the rest."""
        before, expected = stored_files(self.path), self.data.copy()
        old = self.inner_chunks(expected)
        value = make_data(DTYPE, expected[selection].shape, seed=9)
        expected[selection] = value
        try:
            self.array[selection] = value
        except zarrs.ChunkError:
            return "refused" if stored_files(self.path) == before else "error, and data lost"
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        for coords, word in self.inner_chunks(expected).items():
            # what was an error may stay one, but must not turn into fill values
            fine = {"right", "error"} if old[coords] == "error" else {"right"}
            if word not in fine and (coords != BAD or old[coords] == "error"):
                return f"inner chunk {coords} is lost"
        return "right"


def operations(site: Site) -> dict[str, str]:
    """Everything there is to try with a damaged shard, each on the same bytes."""
    bad = site.file.read_bytes()
    column = slice(5, 10)  # of the inner chunk at fault
    words = {
        "whole": site.read(...),
        "window": site.read((site.rows(2, 6), slice(3, 8))),
        "point": site.read((site.top + 5, 6)),
        "column": site.read((slice(None), 6)),
        "beside": site.read((site.rows(0, 4), slice(0, 5))),
        "elsewhere": site.read(slice(0, site.shape[0] - site.height)),
        "other shard": site.read((slice(None), slice(10, 20))),
    }
    for name, selection in (
        ("merge", (site.rows(5, 7), slice(6, 8))),
        ("merge beside", (site.rows(0, 2), slice(0, 2))),
        ("cover", (site.rows(4, 8), column)),
    ):
        words[name] = site.write(selection)
        site.file.write_bytes(bad)
    everything = (slice(site.shape[0] - site.height, None), slice(0, 10))
    words["replace"] = site.write(everything)
    value = np.array(site.data)
    value[everything] = make_data(DTYPE, value[everything].shape, seed=9)
    words["whole after"] = tried(lambda: site.array[...], value)
    leftovers = [str(p) for p in site.path.rglob("*") if "partial" in p.name]
    words["leftovers"] = ", ".join(leftovers)
    return words


def child_damage(root: str, number: int, nested: bool) -> None:
    for codecs in CODECS:
        site = Site(Path(root) / codecs, LAYOUTS[number], CODECS[codecs], nested)
        for name, (_, change) in DAMAGE.items():
            if not possible(name, site.layout):
                continue
            emit({"codecs": codecs, "name": name})
            site.damage(change)
            words, message = {}, ""
            try:
                site.array[...]
            except Exception as error:
                message = str(error)
            words = operations(site)
            site.file.write_bytes(site.good)
            emit({"codecs": codecs, "name": name, "words": words, "message": message})
        assert_same(site.array[...], site.data, "after the damage was undone")


# ------------------------------------------------------------------------------- the results


@pytest.mark.parametrize(
    ("number", "nested"),
    SITES,
    ids=[f"{'nested-' if nested else ''}{LAYOUTS[i]}" for i, nested in SITES],
)
def test_damaged_index(tmp_path: Path, number: int, nested: bool) -> None:
    """Reads and merges that need what is lost fail; nothing else is harmed; all can be replaced.

    A place of the shard is one test, as one child does all that can be done to it.
    """
    lines = run_child(child_damage, str(tmp_path), number, nested).check()
    done = [line for line in lines if "words" in line]
    names = [name for name in DAMAGE if possible(name, LAYOUTS[number])]
    assert [(line["codecs"], line["name"]) for line in done] == [
        (codecs, name) for codecs in CODECS for name in names
    ]
    for found in done:
        kind = DAMAGE[found["name"]][0]
        if kind == "place" and found["codecs"] == "raw":
            kind = "alias"  # any bytes of this length are an inner chunk
        words = found["words"]
        for operation, allowed in EXPECTED[kind].items():
            assert words[operation] in allowed, (operation, found)
        for operation in ("elsewhere", "other shard", "replace", "whole after"):
            assert words[operation] == "right", (operation, found)
        assert words["leftovers"] == "", found
        if words["whole"] == "error":
            assert KEY in found["message"], found


# -------------------------------------------------------------------------- random damage


def fuzz_site(root: str, name: str, number: int) -> Site:
    codecs: dict[str, list[Any]] = {
        **CODECS,
        "zstd": [BytesCodec(), ZstdCodec()],
        "blosc": [BytesCodec(), BloscCodec(cname="lz4", shuffle="shuffle", typesize=4)],
        "gzip": [BytesCodec(), GzipCodec()],
    }
    return Site(Path(root) / f"{name}-{number}", LAYOUTS[number], codecs[name], False)


FUZZ = [
    ("crc32c", 0),
    ("crc32c", 1),
    ("raw", 2),
    ("raw", 3),
    ("zstd", 3),
    ("blosc", 2),
    ("gzip", 1),
]


def child_fuzz(root: str, kind: str) -> None:
    """Change random bytes, or cut the shard anywhere; count what reads and writes do."""
    for name, number in FUZZ:
        emit({"name": name, "number": number})
        site = fuzz_site(root, name, number)
        rng = np.random.default_rng([number, len(site.good)])
        good, place = site.good, site.layout.place(site.good)
        lengths = rng.choice(len(good), 60, replace=False)
        found: dict[str, Counter[str]] = {k: Counter() for k in ("whole", "part", "merge")}
        for i in range(160 if kind == "flip" else len(lengths)):
            bad = bytearray(good)
            if kind == "flip":  # every second one in the index
                low, high = (place.start, place.stop) if i % 2 else (0, len(good))
                for at in rng.integers(low, high, 1 + i % 3):
                    bad[at] ^= int(rng.integers(1, 256))
            else:
                bad = bad[: lengths[i]]
            if bad == good:
                continue
            site.file.write_bytes(bad)
            data, array = site.data, site.array
            found["whole"][tried(lambda a=array: a[...], data)] += 1
            for selection in ((17, 6), (slice(13, 17), slice(3, 8)), (slice(None), 0)):
                expected = np.asarray(data[selection])
                found["part"][tried(lambda a=array, s=selection: a[s], expected)] += 1
            if i % 4 == 0:
                try:
                    array[13:15, 2:4] = 5
                    found["merge"]["done"] += 1
                except zarrs.ChunkError:
                    found["merge"]["error" if site.file.read_bytes() == bad else "lost"] += 1
                except Exception as error:
                    found["merge"][f"{type(error).__name__}: {error}"] += 1
        site.file.write_bytes(good)
        assert_same(site.array[...], site.data, "after the damage was undone")
        emit({"name": name, "number": number, "found": found})


@pytest.mark.parametrize("kind", ["flip", "cut"])
def test_random_damage(tmp_path: Path, kind: str) -> None:
    """An error, or data; where everything has a checksum, an error or the right data."""
    lines = run_child(child_fuzz, str(tmp_path), kind).check()
    done = [line for line in lines if "found" in line]
    assert [(line["name"], line["number"]) for line in done] == FUZZ
    for line in done:
        found = line["found"]
        # a cut moves the index, unless it is first; without a checksum it may make sense
        at_start = LAYOUTS[line["number"]].location == "start"
        sound = line["name"] == "crc32c" or (kind == "cut" and at_start)
        other = set() if sound else {"other"}
        assert set(found["whole"]) <= {"error"} | (other and {"right", "other"}), line
        assert set(found["part"]) <= {"error", "right"} | other, line
        assert set(found["merge"]) <= {"error", "done"}, line


@pytest.mark.parametrize("number", range(4))
def test_bytes_after_the_end(native: None, tmp_path: Path, number: int) -> None:
    """Unused space where the index is first, a wrong index where it should be last."""
    site = Site(tmp_path, LAYOUTS[number], CODECS["crc32c"], False)
    for tail in (b"\0", b"x" * 300):
        site.file.write_bytes(site.good + tail)
        if site.layout.location == "start":
            assert_same(site.array[...], site.data)
            assert_same(site.array[13:20, 3:8], site.data[13:20, 3:8])
        else:
            with pytest.raises(zarrs.ChunkError, match=KEY):
                site.array[...]


# ------------------------------------------------------------------------ a bad inner chunk

INNER_CODECS: dict[str, list[Any]] = {
    "crc32c": [BytesCodec(), Crc32cCodec()],
    "zstd-crc32c": [BytesCodec(), ZstdCodec(), Crc32cCodec()],
    "zstd": [BytesCodec(), ZstdCodec(checksum=True)],
    "gzip": [BytesCodec(), GzipCodec()],
    "blosc": [BytesCodec(), BloscCodec(cname="lz4", typesize=4)],
}
NAMED = (2, 1)  # in shard (0, 0), where counting in the shard or in the array is the same


@pytest.mark.parametrize("how", ["changed", "short"])
@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("codecs", INNER_CODECS)
def test_damaged_inner_chunk(
    native: None, tmp_path: Path, codecs: str, number: int, how: str
) -> None:
    """The error says which one; all others read, and are written, as if nothing had happened."""
    site = Site(tmp_path, LAYOUTS[number], INNER_CODECS[codecs], False)
    layout, array, data = site.layout, site.array, site.data
    file = tmp_path / "c/0/0"
    chunks = layout.split(file.read_bytes())
    bad = chunks[NAMED][:-9]  # neither its checksum nor its length is right any more
    if how == "changed" and codecs == "blosc":
        bad = chunks[NAMED][:4] + b"\1\0\0\0" + chunks[NAMED][8:]  # another decoded size
    elif how == "changed":
        middle = len(bad) // 2
        bad = bad[:middle] + bytes([bad[middle] ^ 0xFF]) + chunks[NAMED][middle + 1 :]
    file.write_bytes(layout.build(chunks | {NAMED: bad}))
    for selection in (..., (9, 7), (slice(6, 10), slice(0, 20)), (slice(None), 8)):
        with pytest.raises(zarrs.ChunkError, match="c/0/0") as caught:
            array[selection]
        message = str(caught.value)
        assert re.search(r"inner chunk.{0,12}\b2\D{1,4}1\b", message), message
        assert codecs.split("-")[-1] in message
        assert isinstance(caught.value, ValueError)
        assert isinstance(caught.value, RuntimeError)
    assert_same(array[:8], data[:8])
    assert_same(array[8:12, :5], data[8:12, :5])
    assert_same(array[12:], data[12:])
    before = file.read_bytes()
    with pytest.raises(zarrs.ChunkError, match="c/0/0"):
        array[9, 7] = 5
    assert file.read_bytes() == before
    array[0:6, 2] = data[0:6, 2] = 5  # the others; what is bad is none of our business
    assert layout.split(file.read_bytes())[NAMED] == bad
    assert_same(array[:8], data[:8])
    array[8:12, 5:10] = data[8:12, 5:10] = 6  # and now it is good again
    assert_same(array[...], data)
    assert_same(stock_read(tmp_path), data)


def test_the_first_bad_inner_chunk_is_named(native: None, tmp_path: Path) -> None:
    """Whatever order threads work in, the error is the same."""
    layout = Layout((40,))
    serializer = ShardingCodec(chunk_shape=(10,), codecs=INNER_CODECS["crc32c"])
    array = create_sharded(
        tmp_path, SHARDING["crc32c"], (2000,), shard=(400,), inner=(10,), serializer=serializer
    )
    array[...] = data = make_data(DTYPE, (2000,))
    for number, inner in ((1, (7,)), (1, (30,)), (2, (0,)), (4, (39,))):
        file = tmp_path / "c" / str(number)
        chunks = layout.split(file.read_bytes())
        file.write_bytes(layout.build(chunks | {inner: bytes(44)[:-1] + b"\1"}))
    messages = set()
    for _ in range(20):
        with pytest.raises(zarrs.ChunkError, match=r"\bc/1\b") as caught:
            array[...]
        messages.add(str(caught.value))
        assert_same(array[:470], data[:470])
        assert_same(array[810:1990], data[810:1990])
    assert len(messages) == 1
    assert re.search(r"inner chunk.{0,12}\b(7|47)\b", messages.pop())


# ----------------------------------------------------------------------------- odds and ends


@pytest.mark.parametrize("name", ["after-gzip", "after-crc32c", "after-zstd", "before-and-after"])
def test_damage_to_codecs_around(native: None, tmp_path: Path, name: str) -> None:
    """What is around a shard fails as it does around a chunk."""
    array = create_sharded(tmp_path, SHARDING[name])
    array[...] = data = make_data(DTYPE, (29, 17, 13))
    file = tmp_path / "c/1/0/0"
    good = file.read_bytes()
    for bad in (good[:-5], b"", good[:3], good[: len(good) // 2]):
        file.write_bytes(bad)
        for selection in (..., (13, 2, 3), (slice(10, 14), 0, slice(None))):
            with pytest.raises(zarrs.ChunkError, match="c/1/0/0"):
                array[selection]
        with pytest.raises(zarrs.ChunkError, match="c/1/0/0"):
            array[13, 2, 3] = 1
        assert file.read_bytes() == bad
        assert_same(array[:12], data[:12])
    array[12:24, :12, :12] = data[12:24, :12, :12] = 3
    assert_same(array[...], data)


@pytest.mark.parametrize("fault", ["offset-2^40", "sum-wraps", "only-length-empty"])
def test_bad_index_below_gzip(native: None, tmp_path: Path, fault: str) -> None:
    """The bounds are those of the decoded shard, not of the file."""
    sharding = SHARDING["after-gzip"]
    layout = sharding.layout.of(3, 1, 2)
    array = create_sharded(tmp_path, sharding)
    array[...] = data = make_data(DTYPE, (29, 17, 13))
    file = tmp_path / "c/1/0/0"
    blob = gzip.decompress(file.read_bytes())
    index = layout.index(blob).copy()
    offset, length = (int(x) for x in index[1, 0, 1])
    index[1, 0, 1] = OUTSIDE[fault](offset, length, len(blob), layout)
    bad = gzip.compress(layout.with_index(blob, index))
    file.write_bytes(bad)
    for selection in (..., (17, 2, 8)):
        with pytest.raises(zarrs.ChunkError, match="c/1/0/0"):
            array[selection]
    with pytest.raises(zarrs.ChunkError, match="c/1/0/0"):
        array[12, 0, 0] = 1
    assert file.read_bytes() == bad
    array[12:24] = data[12:24] = 3
    assert_same(array[...], data)


@pytest.mark.parametrize("number", [0, 1])
def test_checksums_on_and_off(native: None, tmp_path: Path, number: int) -> None:
    """An index whose checksum is wrong is an error, unless the user says not to look."""
    site = Site(tmp_path, LAYOUTS[number], CODECS["crc32c"], False)
    site.damage(flip_in_checksum)
    with pytest.raises(zarrs.ChunkError, match=f"index.*{KEY}.*checksum"):
        site.array[...]
    with zarr.config.set({"codec_pipeline.validate_checksums": False}):
        lax = ours_open(tmp_path)
    assert_same(lax[...], site.data)
    assert_same(lax[14:18, 3], site.data[14:18, 3])
    lax[13:15, 1] = site.data[13:15, 1] = 5  # which writes a right one
    assert_same(site.array[...], site.data)
    assert_same(stock_read(tmp_path), site.data)


def child_lax(root: str, number: int) -> None:
    with zarr.config.set({"codec_pipeline.validate_checksums": False}):
        site = Site(Path(root) / "site", LAYOUTS[number], CODECS["raw"], False)
    for name, fault in OUTSIDE.items():
        emit(name)
        site.damage(entry(fault))
        part = (site.top + 5, 6)
        emit([site.read(...), site.read(part), site.write((site.top + 1, 1))])


@pytest.mark.parametrize("number", [0, 1])
def test_bounds_are_checked_without_checksums(tmp_path: Path, number: int) -> None:
    lines = run_child(child_lax, str(tmp_path), number).check()
    assert len(lines) == 2 * len(OUTSIDE)
    for name, words in zip(lines[::2], lines[1::2], strict=True):
        assert words == ["error", "error", "refused"], name


def child_missing_index(root: str) -> None:
    """A file of a few bytes where the index alone would have 256 MiB."""
    warnings.simplefilter("ignore")
    for location in ("start", "end"):
        count = 2**31
        serializer = ShardingCodec(chunk_shape=(128,), index_location=location)
        array = create_sharded(
            Path(root) / location, SHARDING["zstd"], (count,), "u1", (count,), (128,),
            serializer=serializer,
        )  # fmt: skip
        (Path(root) / location / "c").mkdir()
        (Path(root) / location / "c" / "0").write_bytes(bytes(500))
        fill = np.zeros((), "u1")
        emit([tried(lambda a=array: a[5], fill), tried(lambda a=array: a[-1], fill)])
        try:
            array[5] = 1
        except zarrs.ChunkError:
            emit("refused")


def test_an_index_larger_than_the_file(tmp_path: Path) -> None:
    lines = run_child(child_missing_index, str(tmp_path)).check()
    assert lines == [["error", "error"], "refused"] * 2
