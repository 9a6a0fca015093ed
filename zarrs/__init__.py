"""A fast native codec pipeline for zarr-python.

Switch it on with::

    import zarr, zarrs
    zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"})

Arrays that are created or opened after that use it. To see what runs natively, and what does not::

    print(zarrs.explain(array))

Arrays that need no event loop of zarr's, which takes most of the time of small reads and writes,
need no switch either::

    array = zarrs.open("data.zarr")          # or zarrs.direct(zarr.open("data.zarr"))
    array.read_many([0, 7, 42])              # a batch, in one parallel call

Options are set in ``zarr.config`` before an array is opened: ``threading.max_workers``, and below
``codec_pipeline`` those that `show_config` lists with what they are now.

ZarrsCodecPipeline
    The pipeline; zarr makes it.
direct, open, open_array, open_group, create_array
    From an open array or group of zarr's, or by opening or creating one, to `Array` and `Group`.
Array, Group
    zarr's arrays and groups, read and written in the calling thread.
ChunkCache
    Where they keep decoded chunks, if they are asked to.
RecyclingNDBuffer
    zarr's buffers, which take over the memory of results that nobody uses any more.
explain, Explanation, GroupExplanation, Part
    What of an array's reading and writing runs natively, and why the rest does not.
check, CheckReport, Finding
    What of an array is missing, damaged or left over in its store; and deletes what is damaged.
copy, CopyReport, VerificationError
    Arrays and groups with other chunks, shards or codecs, or in the other format; goes on after a
    kill.
ChunkError
    A stored chunk is damaged, or does not fit its array, or cannot be encoded.
NotNativeError
    Something is not native, and ``codec_pipeline.strict`` is set.
show_config
    What this installation is made of, for bug reports.

Importing this package never fails. Where it cannot be used, `show_config` tells the reason, and
everything else raises it as an ``ImportError``.
"""

from importlib import import_module

from zarrs import _unavailable
from zarrs._overlay import warn_of_overlay
from zarrs._show_config import show_config
from zarrs._version import __version__

__all__ = [
    "Array",
    "CheckReport",
    "ChunkCache",
    "ChunkError",
    "CopyReport",
    "Explanation",
    "Finding",
    "Group",
    "GroupExplanation",
    "NotNativeError",
    "Part",
    "RecyclingNDBuffer",
    "VerificationError",
    "ZarrsCodecPipeline",
    "__version__",
    "check",
    "copy",
    "create_array",
    "direct",
    "explain",
    "open",
    "open_array",
    "open_group",
    "show_config",
]

try:
    warn_of_overlay()

    # The settings that it makes for OpenMP hold only if it comes before the extension modules.
    import_module("zarrs.runtime._openmp")

    from zarr.registry import register_ndbuffer, register_pipeline

    from zarrs._array import Array
    from zarrs._buffers import RecyclingNDBuffer
    from zarrs._direct import Group, create_array, direct, open, open_array, open_group
    from zarrs._explain import Explanation, GroupExplanation, explain
    from zarrs.caching._chunk_cache import ChunkCache
    from zarrs.checking._check import check
    from zarrs.checking._findings import CheckReport, Finding
    from zarrs.codecs._chain import Part
    from zarrs.copying._copy import copy
    from zarrs.copying._report import CopyReport
    from zarrs.copying._verify import VerificationError
    from zarrs.pipeline import ZarrsCodecPipeline
    from zarrs.runtime._errors import ChunkError, NotNativeError

    # zarr finds classes under their qualified names, and users write the short ones.
    ZarrsCodecPipeline.__module__ = Array.__module__ = Group.__module__ = "zarrs"
    RecyclingNDBuffer.__module__ = "zarrs"
    register_pipeline(ZarrsCodecPipeline)
    register_ndbuffer(RecyclingNDBuffer)
except Exception as _error:
    globals().update(_unavailable.stand_ins(_error, __all__))


def __dir__() -> list[str]:
    return [name for name in globals() if name in __all__ or name[:2] == "__"]
