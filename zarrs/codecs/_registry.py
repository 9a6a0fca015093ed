"""Hands the codecs to the native loops.

A new codec is an extension module with ``capsule()`` and ``library_version()``, a line
here, and one in ``zarrs/_chain.py`` that says which zarr codec it is.
"""

from zarrs._workspace import register_codec
from zarrs.codecs import _blosc, _crc32c, _lz4, _zlib, _zstd

try:
    from zarrs.codecs import _libdeflate
except ImportError:  # the library is not installed
    deflate = _zlib.capsule()
else:
    deflate = _libdeflate.capsule(_zlib.capsule())

register_codec("blosc", _blosc.capsule())
register_codec("crc32c", _crc32c.capsule())
register_codec("deflate", deflate)
register_codec("lz4", _lz4.capsule())
register_codec("zstd", _zstd.capsule())
