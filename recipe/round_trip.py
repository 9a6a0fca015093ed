"""Write and read arrays natively: recipe.yaml runs it against the package that was built."""

import tempfile
from pathlib import Path

import numpy as np
import zarr
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

import zarrs

STOCK = zarr.config.get("codec_pipeline.path")
COMPRESSORS = (BloscCodec(cname="lz4"), BloscCodec(cname="zstd"), GzipCodec(), ZstdCodec(), None)

data = np.random.default_rng(0).integers(0, 999, (600, 700)).astype("u4")
for compressor in COMPRESSORS:
    for shards in (None, (200, 700)):
        with (
            tempfile.TemporaryDirectory() as folder,
            zarr.config.set(
                {"codec_pipeline.path": "zarrs.ZarrsCodecPipeline", "codec_pipeline.strict": True}
            ),
        ):
            path = Path(folder) / "array"
            array = zarr.create_array(
                path, data=data, chunks=(100, 70), shards=shards, compressors=compressor
            )
            assert zarrs.explain(array).native
            assert np.array_equal(array[17:423, ::3], data[17:423, ::3])
            assert np.array_equal(zarrs.open_array(path)[...], data)
            with zarr.config.set({"codec_pipeline.path": STOCK}):
                assert np.array_equal(zarr.open_array(path)[...], data)
print(f"{2 * len(COMPRESSORS)} arrays are the same in both pipelines")
