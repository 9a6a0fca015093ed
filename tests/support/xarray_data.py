"""Datasets of xarray, and how they are stored."""

from typing import Any

import numpy as np
import xarray as xr
from helpers import make_data
from zarr.codecs import BloscCodec, ZstdCodec


def dataset(times: int = 12, seed: int = 0) -> Any:
    """A little of everything that xarray puts into arrays of fixed-size items."""
    n = (times, 10, 14)
    stamps = make_data("<M8[ns]", (times,), seed)
    start, step = np.datetime64("2001-02-03T04", "ns"), np.timedelta64(6, "h")
    return xr.Dataset(
        {
            "t": (("time", "y", "x"), make_data("<f4", n, seed), {"units": "K", "odd": [1, 2]}),
            "n": (("time", "x"), make_data("<i8", (times, 14), seed + 1)),
            "packed": (("y", "x"), np.round(np.random.default_rng(seed).normal(0, 99, n[1:]), 1)),
            "mask": (("y", "x"), make_data("bool", n[1:], seed + 2)),
            "stamp": (("time",), stamps, {"long_name": "some of it is NaT"}),
            "scalar": ((), np.float64(4.5)),
        },
        coords={
            "time": start + np.arange(times) * step,
            "y": np.linspace(-1, 1, 10),
            "x": np.arange(14),
            "area": (("y", "x"), np.random.default_rng(seed + 3).random(n[1:])),
        },
        attrs={"title": "test", "levels": [1, 2, 3]},
    )


def encoding(zarr_format: int) -> dict[str, dict[str, Any]]:
    """Codecs and chunks other than the default ones, shards where there are any."""
    packed = {"dtype": "int16", "scale_factor": 0.1, "_FillValue": -32768, "chunks": (10, 5)}
    if zarr_format == 2:
        import numcodecs

        return {
            "t": {"chunks": (4, 5, 14), "compressors": (numcodecs.Blosc("zstd", 3),)},
            "n": {"chunks": (4, 7), "compressors": (numcodecs.Zlib(1),)},
            "packed": packed,
        }
    blosc = BloscCodec(cname="lz4", shuffle="bitshuffle", typesize=4)
    return {
        "t": {"chunks": (2, 5, 7), "shards": (4, 10, 14), "compressors": (blosc,)},
        "n": {"chunks": (4, 7), "compressors": (ZstdCodec(level=1),)},
        "packed": packed,
    }
