"""The data sets; all are the same in every run."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Shape = tuple[int, ...]


@functools.cache
def polynomial(shape: Shape) -> Array:
    """Return the function of LDeakin/zarr_benchmarks, x + y²/32 + z³ modulo 2¹⁶: uint16."""
    z, y, x = np.ogrid[tuple(slice(n) for n in shape)]
    values: Array = x.astype("u2") + (y**2 // 32).astype("u2") + (z**3).astype("u2")
    return values


def smooth_field(shape: Shape) -> Array:
    """Return waves of another length along each axis: float32."""
    axes = np.meshgrid(
        *[np.linspace(0, 7 + 3 * axis, n, dtype="f4") for axis, n in enumerate(shape)],
        indexing="ij",
        sparse=True,
    )
    return np.asarray(sum(np.sin(values * (axis + 1)) for axis, values in enumerate(axes)))


@functools.cache
def waves(shape: Shape) -> Array:
    """Return a smooth field with a little noise, rounded to three decimals: float32."""
    noise = np.random.default_rng(0).standard_normal(shape, dtype="f4")
    rounded: Array = np.round(smooth_field(shape) + np.float32(1e-3) * noise, 3)
    return rounded


@functools.cache
def photons(shape: Shape) -> Array:
    """Return photon counts around such a field, as a camera on a microscope sees them: uint16."""
    rate = 20 + 15 * smooth_field(shape)
    counts: Array = np.random.default_rng(1).poisson(np.clip(rate, 0.1, None)).astype("u2")
    return counts


@functools.cache
def scan(shape: Shape) -> Array:
    """Return a real MRI scan, which the package nibabel ships for its tests: int16.

    It has 128 x 96 x 24 x 2 voxels, and is repeated, or cut, to the shape that is asked for.
    """
    import nibabel

    file = Path(nibabel.__file__).parent / "tests" / "data" / "example4d.nii.gz"
    image: Any = nibabel.load(file)
    voxels = np.asanyarray(image.dataobj).astype("i2")
    times = [-(-n // m) for n, m in zip(shape, voxels.shape, strict=True)]
    whole = np.tile(voxels, times)
    return np.ascontiguousarray(whole[tuple(map(slice, shape))])
