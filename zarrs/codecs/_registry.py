"""Loads the codecs' modules, which register what they have.

A new codec is an extension module that calls ``register_codec`` of ``_core.pxd`` and has
``library_version()`` and ``explain()``, which says what its error codes mean; a line here; and one
in ``_bytes_to_bytes.py`` or ``_array_to_array.py`` that says which codec of zarr or numcodecs it
is.
"""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING

from zarrs._core import registered_codecs
from zarrs.codecs import _blosc_format, _filters, _lz4, _zlib, _zstd

if TYPE_CHECKING:
    from collections.abc import Callable

for name in ("blosc", "checksums", "crc32c", "python", "zlib_checksums"):
    import_module(f"zarrs.codecs._{name}")

explain_blosc = _blosc_format.explain
try:
    # It takes the place of `_blosc` where it can, and leaves the rest to that.
    module = import_module("zarrs.codecs._blosc2")
except ModuleNotFoundError:  # the library was not there when this was built
    pass
else:
    explain_blosc = module.explain

with suppress(ImportError):  # the library is not installed
    import_module("zarrs.codecs._libdeflate")  # takes the place of `_zlib` in the same way

#: What says what the error codes of a codec mean.
EXPLAIN: dict[str, Callable[[int], str]] = {
    "blosc": explain_blosc,
    "deflate": _zlib.explain,
    "lz4": _lz4.explain,
    "packbits": _filters.explain,
    "zstd": _zstd.explain,
}
for name in ("bz2", "lzma"):
    try:
        import_module(name)  # Python's own module brings the library with it, wherever that lies
        module = import_module(f"zarrs.codecs._{name}")
    except ImportError:  # the library is not installed
        continue
    EXPLAIN[name] = module.explain

#: The names of all codecs that there are.
CODECS = registered_codecs()
