"""``sharding/_index`` function by function: reading, checking and making the index of a shard."""

import itertools
import math
import os
import struct
from functools import partial
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from native_kernels import Axis, Memory, examples, kernels, make_shard

from zarrs._core import IndexFault, NativeChain, NoStage, Status

EXAMPLES = examples(100)
ABSENT = (2**64 - 1, 2**64 - 1)
CHECKSUM = ("crc32c", (1,))
CRC_SIZE = 4
FEW = 16  # so many wanted entries are compared with all others, more are sorted

Entries = list[tuple[int, int]]


def encoded(entries: Entries, swapped: bool, checksum: bool) -> bytes:
    """The index as the specification has it, on a machine of little-endian numbers."""
    flat = [number for entry in entries for number in entry]
    data = struct.pack(f"{'>' if swapped else '<'}{len(flat)}Q", *flat)
    return data + struct.pack("<I", google_crc32c.value(data)) if checksum else data


def untouched() -> int:
    return int(kernels().UNTOUCHED)


def signed(number: int) -> int:
    """How a failure says a number of 64 bits."""
    return number - 2**64 if number >= 2**63 else number


FORMS = list(itertools.product([False, True], repeat=3))
each_form = pytest.mark.parametrize(("at_start", "swapped", "checksum"), FORMS)
NUMBERS = st.one_of(
    st.integers(0, 300), st.integers(0, 2**64 - 1), st.sampled_from([2**63, 2**64 - 1])
)
INDEXES = st.lists(st.one_of(st.just(ABSENT), st.tuples(NUMBERS, NUMBERS)), max_size=40)


# ----------------------------------------------------------------------------- bytes and back


@EXAMPLES
@given(INDEXES, st.sampled_from(FORMS), st.binary(max_size=50), st.booleans(), st.integers(0, 7))
def test_read_and_encode(
    entries: Entries, form: tuple[bool, bool, bool], rest: bytes, verify: bool, offset: int
) -> None:
    """Entries may be anything, and come from memory that is aligned or not."""
    at_start, swapped, checksum = form
    shard = make_shard(at_start=at_start, swapped=swapped, checksum=checksum, verify=verify)
    n, data = len(entries), encoded(entries, swapped, checksum)
    assert kernels().index_size(shard, n) == len(data)
    written = Memory(len(data))
    written.view(0, (), (), len(data))[...] = np.frombuffer(data, np.uint8)
    kernels().encode_index(shard, entries, written.at(0))
    written.check()
    whole = data + rest if at_start else rest + data
    stored = Memory(offset + len(whole))
    stored.put(whole, offset)
    status, found, _ = kernels().read_index(shard, n, stored.at(0), len(whole), offset)
    assert (status, found) == (Status.OK, entries)
    stored.check()


@each_form
def test_read_from_a_file(tmp_path: Path, at_start: bool, swapped: bool, checksum: bool) -> None:
    """Of a shard that begins anywhere in a file."""
    entries = [(k, 2**64 - k) for k in range(1, 1200)]
    data = encoded(entries, swapped, checksum)
    shard = make_shard(at_start=at_start, swapped=swapped, checksum=checksum)
    size = len(data) + 100
    path = tmp_path / "shard"
    path.write_bytes(b"before" + (data + bytes(100) if at_start else bytes(100) + data) + b"after")
    file = os.open(path, os.O_RDONLY)
    try:
        status, found, _ = kernels().read_index(shard, len(entries), (file,), size, 6)
        assert (status, found) == (Status.OK, entries)
        # Somebody has cut it short since it was opened.
        os.truncate(path, 6 + len(data) - 1)
        status, found, said = kernels().read_index(shard, len(entries), (file,), size, 6)
        assert (status, found) == (Status.WRONG_SIZE, None)
        assert said[0] == NoStage.THE_INDEX
    finally:
        os.close(file)


@each_form
def test_shards_that_are_too_short(at_start: bool, swapped: bool, checksum: bool) -> None:
    entries = [(0, 5), ABSENT, (5, 9)]
    data = encoded(entries, swapped, checksum)
    shard = make_shard(at_start=at_start, swapped=swapped, checksum=checksum)
    for size in range(len(data)):
        memory = Memory(size)
        memory.put(data[:size] if at_start else data[len(data) - size :])
        status, found, said = kernels().read_index(shard, 3, memory.at(0), size)
        assert (status, found) == (Status.BAD_INDEX, None)
        assert said == (NoStage.THE_INDEX, IndexFault.TOO_SHORT, len(data), size)


@each_form
def test_damage(at_start: bool, swapped: bool, checksum: bool) -> None:
    """A wrong checksum is found, unless nobody asks for it; every changed bit makes it wrong."""
    entries = [(0, 5), ABSENT, (5, 9)]
    data = encoded(entries, swapped, checksum)
    make = partial(make_shard, at_start=at_start, swapped=swapped, checksum=checksum)
    strict, lax = make(verify=True), make(verify=False)
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 1 << at % 8
        memory = Memory(len(data))
        memory.put(bytes(damaged))
        numbers = struct.unpack_from(f"{'>' if swapped else '<'}6Q", damaged)
        expected = list(zip(numbers[::2], numbers[1::2], strict=True))
        status, found, said = kernels().read_index(strict, 3, memory.at(0), len(data))
        if checksum:
            stored = int.from_bytes(damaged[-CRC_SIZE:], "little")
            computed = google_crc32c.value(bytes(damaged[:-CRC_SIZE]))
            assert (status, found) == (Status.BAD_CHECKSUM, None)
            assert said == (NoStage.THE_INDEX, untouched(), stored, computed)
        else:
            assert (status, found) == (Status.OK, expected)
        status, found, _ = kernels().read_index(lax, 3, memory.at(0), len(data))
        assert (status, found) == (Status.OK, expected)


# -------------------------------------------------------------------------------- lying entries


@pytest.mark.parametrize(
    ("entry", "absent"),
    [
        (ABSENT, True),
        ((2**64 - 1, 0), False),
        ((0, 2**64 - 1), False),
        ((2**64 - 1, 2**64 - 2), False),
        ((0, 0), False),
    ],
)
def test_absent(entry: tuple[int, int], absent: bool) -> None:
    assert kernels().is_absent(entry) == absent
    status, said = kernels().check_entry(make_shard(), 2, entry, 1000)
    if absent:
        assert (status, said) == (Status.MISSING, (untouched(),) * 4)
    elif entry != (0, 0):
        assert status == Status.BAD_INDEX


def near(numbers: list[int]) -> list[int]:
    """These numbers and their neighbours, and those at the ends of 64 bits."""
    ends = [2**32, 2**63, 2**64]
    found = {number + k for number in (*numbers, *ends) for k in (-2, -1, 0, 1)}
    return sorted(k for k in found if 0 <= k < 2**64)


@pytest.mark.parametrize("checksum", [False, True])
@pytest.mark.parametrize("at_start", [False, True])
def test_check_entry(at_start: bool, checksum: bool) -> None:
    """Inside of the shard and outside of the index, whatever offset plus size overflow to."""
    n, size = 3, 300
    shard = make_shard(at_start=at_start, checksum=checksum)
    index = kernels().index_size(shard, n)
    low, high = (index, size) if at_start else (0, size - index)
    checked = set()
    for offset in near([low, high, size]):
        for length in near([0, index, high - low, high - offset, 2**64 - offset]):
            inside = low <= offset and offset + length <= high
            status, said = kernels().check_entry(shard, n, (offset, length), size)
            if inside:
                assert (status, said) == (Status.OK, (untouched(),) * 4)
            elif (offset, length) == ABSENT:
                assert status == Status.MISSING
            else:
                assert status == Status.BAD_INDEX
                wrong = (signed(length), signed(offset))
                assert said == (NoStage.THE_INDEX, IndexFault.OUTSIDE, *wrong)
            checked.add(status)
    assert checked == {Status.OK, Status.MISSING, Status.BAD_INDEX}


def overlapping(entries: Entries, wanted: set[int]) -> set[tuple[int, int]]:
    """Pairs of entries of which one is wanted that share a byte.

    Entries that nobody wants may lie; one that is not below 2^63 is no range of bytes.
    """
    held = [
        (i, offset, offset + size)
        for i, (offset, size) in enumerate(entries)
        if 0 < size < 2**63 and offset < 2**63
    ]
    return {
        (i, k)
        for (i, low, high), (k, start, stop) in itertools.permutations(held, 2)
        if low < stop and start < high and (i in wanted or k in wanted)
    }


LIES = st.tuples(
    st.sampled_from([0, 5, 2**63 - 1, 2**63, 2**64 - 3, 2**64 - 1]),
    st.sampled_from([0, 7, 2**63 - 1, 2**63, 2**64 - 6, 2**64 - 1]),
)


@st.composite
def indexes(draw: st.DrawFn) -> tuple[Entries, list[int] | None]:
    """Inner chunks one after the other, some of which are moved; and those that are wanted."""
    n = draw(st.integers(1, 45))
    sizes = draw(st.lists(st.integers(1, 9), min_size=n, max_size=n))
    starts = list(itertools.accumulate(sizes, initial=draw(st.integers(0, 3))))
    entries = list(zip(starts[:-1], sizes, strict=True))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, n - 1))
        entries[at] = (draw(st.integers(0, starts[-1])), draw(st.integers(1, 12)))
    for _ in range(draw(st.integers(0, 4))):
        entries[draw(st.integers(0, n - 1))] = ABSENT
    entries = draw(st.permutations(entries)) if draw(st.booleans()) else entries
    if draw(st.booleans()):
        return entries, None
    most = draw(st.sampled_from([3, FEW, n]))
    wanted = draw(st.lists(st.integers(0, n - 1), unique=True, max_size=most))
    for at in set(range(n)) - set(wanted):  # which nobody has checked
        if draw(st.integers(0, 5)) == 0:
            end = starts[-1]
            anywhere = st.tuples(st.integers(0, end + 20), st.integers(0, end))
            entries[at] = draw(st.one_of(LIES, anywhere))
    return entries, wanted


@EXAMPLES
@given(indexes())
def test_check_overlaps(index: tuple[Entries, list[int] | None]) -> None:
    entries, wanted = index
    asked = set(range(len(entries)) if wanted is None else wanted)
    pairs = overlapping(entries, asked)
    status, (stage, code, number, at) = kernels().check_overlaps(entries, wanted)
    if not pairs:
        assert status == Status.OK
        assert (stage, code, number, at) == (untouched(),) * 4
        return
    assert status == Status.BAD_INDEX
    assert (stage, code) == (NoStage.THE_INDEX, IndexFault.OVERLAP)
    assert any(i == number and max(entries[i][0], entries[k][0]) == at for i, k in pairs)


@pytest.mark.parametrize("n", [2, FEW, FEW + 1, 200])
def test_one_overlap(n: int) -> None:
    """By one byte, by everything, from before; wanted ones few or many, the other one or not."""
    plain = [(10 * k + 5, 10) for k in range(n)]
    for at, (shift, size) in itertools.product({0, 1, n // 2, n - 1}, [(-1, 11), (0, 10), (1, 9)]):
        entries = list(plain)
        entries[at] = (plain[at][0] + shift, size)
        other = at - 1
        bad = shift < 0 and at > 0
        for wanted in (None, [at], list(range(n)), list(range(n))[::-1]):
            status, _ = kernels().check_overlaps(entries, wanted)
            assert status == (Status.BAD_INDEX if bad else Status.OK)
        if bad:
            rest = [k for k in range(n) if k not in (at, other)]
            assert kernels().check_overlaps(entries, rest)[0] == Status.OK
            assert kernels().check_overlaps(entries, [other])[0] == Status.BAD_INDEX
    twice = [*plain, plain[n // 2]]
    for wanted in (None, [n // 2], [n], list(range(n + 1))):
        assert kernels().check_overlaps(twice, wanted)[0] == Status.BAD_INDEX


@pytest.mark.parametrize("n", [3, FEW, FEW + 1, 40])
def test_an_overlap_behind_another(n: int) -> None:
    """One that nobody wants reaches over a second such one to the last of those wanted."""
    entries = [(10 * k, 10) for k in range(n)] + [(10 * n, 100), (10 * n + 5, 5)]
    wanted = list(range(n))
    assert kernels().check_overlaps(entries, wanted)[0] == Status.OK
    entries.append((10 * n + 50, 10))
    assert kernels().check_overlaps(entries, wanted)[0] == Status.OK
    status, said = kernels().check_overlaps(entries, [*wanted, n + 2])
    assert status == Status.BAD_INDEX
    assert said == (NoStage.THE_INDEX, IndexFault.OVERLAP, n, 10 * n + 50)


@pytest.mark.parametrize("wanted", [[1], [0, 1]])
def test_nothing_overlaps_nothing(wanted: list[int]) -> None:
    """An inner chunk of no bytes shares none, wherever it is."""
    entries = [(0, 10), (5, 0)]
    assert kernels().check_overlaps(entries, None)[0] == Status.OK
    assert kernels().check_overlaps(entries, [0])[0] == Status.OK
    assert kernels().check_overlaps(entries, wanted)[0] == Status.OK


# ----------------------------------------------------------------------------------- counting


@pytest.mark.parametrize(
    ("shape", "inner"), [((), ()), ((6,), (6,)), ((12, 5, 8), (4, 1, 8)), ((0, 4), (3, 2))]
)
def test_count_inner_chunks(shape: tuple[int, ...], inner: tuple[int, ...]) -> None:
    axes = [Axis(n, 0, 1, n, 0) for n in shape]
    expected = math.prod(n // m for n, m in zip(shape, inner, strict=True))
    assert kernels().count_inner_chunks(make_shard(inner=inner), axes) == expected


def bounds(n: int, inner: int, checksum: bool) -> int:
    """What `n` inner chunks of at most so many bytes come to; 0: too many to count."""
    total = n * inner + 16 * n + 4 * checksum
    return total if inner > 0 and total <= kernels().MOST_BYTES else 0


@pytest.mark.parametrize("checksum", [False, True])
def test_shard_bound(checksum: bool) -> None:
    """As integers of any size have it, up to the biggest buffer; of shards in shards, too."""
    chain = NativeChain([CHECKSUM], tail=3)
    for itemsize, n in itertools.product((0, 1, 24, 2**20, 2**59), (1, 7, 2**20, 2**40)):
        plain = make_shard(inner=(5,), itemsize=itemsize, checksum=checksum)
        assert kernels().shard_bound(plain, n) == bounds(n, 5 * itemsize, checksum)
        checked = make_shard(inner=(5,), itemsize=itemsize, checksum=checksum, chain=chain)
        inner = 5 * itemsize + CRC_SIZE + 3 if itemsize else 0
        assert kernels().shard_bound(checked, n) == bounds(n, inner, checksum)
        around = NativeChain([CHECKSUM], shard=plain)
        outer = make_shard(inner=(20,), itemsize=itemsize, checksum=checksum, chain=around)
        inner = bounds(4, 5 * itemsize, checksum)
        assert kernels().shard_bound(outer, n) == bounds(n, inner and inner + CRC_SIZE, checksum)


@pytest.mark.parametrize("itemsize", [1, 100, 2**30])
def test_shard_bound_at_the_limit(itemsize: int) -> None:
    shard = make_shard(inner=(1,), itemsize=itemsize)
    most = (kernels().MOST_BYTES - CRC_SIZE) // (itemsize + 16)
    for n in (most - 1, most, most + 1, most + 2):
        assert kernels().shard_bound(shard, n) == bounds(n, itemsize, True)
    assert kernels().shard_bound(shard, most) > 0
