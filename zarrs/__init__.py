"""A fast native codec pipeline for zarr-python.

Switch it on with::

    import zarr, zarrs
    zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"})
"""

from zarr.registry import register_pipeline

from zarrs import _openmp  # noqa: F401  (before anything else loads the extension modules)
from zarrs._chain import Part
from zarrs._errors import ChunkError, NotNativeError
from zarrs._explain import Explanation, explain
from zarrs._show_config import show_config
from zarrs.pipeline import ZarrsCodecPipeline

__all__ = [
    "ChunkError",
    "Explanation",
    "NotNativeError",
    "Part",
    "ZarrsCodecPipeline",
    "explain",
    "show_config",
]

# zarr finds a pipeline under its qualified name, and users write the short one.
ZarrsCodecPipeline.__module__ = "zarrs"
register_pipeline(ZarrsCodecPipeline)
