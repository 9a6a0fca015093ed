"""Hands the codecs to the native loops.

A new codec is an extension module with ``capsule()`` and ``library_version()``, a line here, and
one in ``zarrs/_bytes_codecs.py`` or ``zarrs/_filters.py`` that says which codec of zarr or
numcodecs it is.
"""

from importlib import import_module

from zarrs._workspace import register_codec
from zarrs.codecs import (
    _blosc,
    _checksums,
    _crc32c,
    _filters,
    _lz4,
    _python,
    _zlib,
    _zlib_checksums,
    _zstd,
)

try:
    from zarrs.codecs import _libdeflate
except ImportError:  # the library is not installed
    deflate = _zlib.capsule()
else:
    deflate = _libdeflate.capsule(_zlib.capsule())

CODECS = {
    "blosc": _blosc.capsule(),
    "crc32c": _crc32c.capsule(),
    "deflate": deflate,
    "lz4": _lz4.capsule(),
    "python": _python.capsule(),
    "zstd": _zstd.capsule(),
    **_checksums.capsules(),
    **_filters.capsules(),
    **_zlib_checksums.capsules(),
}
for name in ("bz2", "lzma"):
    try:
        import_module(name)  # Python's own module brings the library with it, wherever that lies
        CODECS[name] = import_module(f"zarrs.codecs._{name}").capsule()
    except ImportError:  # the library is not installed
        continue

for name, capsule in CODECS.items():
    register_codec(name, capsule)
