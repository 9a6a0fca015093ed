"""Chains of codecs: which codec is which native stage, and one module for each C library.

=========================== ===========================================================
``_chain.py``               from zarr's codecs and data type to a chain, or a reason
``_array_to_array.py``      filters: which codec is which stage
``_bytes_to_bytes.py``      compressors and checksums: which codec is which stage
``_python_stages.py``       codecs without a native form
``_registry.py``            loads the modules below, which register their codecs
``_chunk.pyx``              runs a chunk through all stages of its chain
``_streams.pxd``            streams that follow one another, as bz2 and lzma have them
``_checksum_stage.pxd``     a checksum around bytes
``_blosc.pyx``, ...         one C library, or one kind of codec, a module
=========================== ===========================================================

May import ``filesystem`` and what is below. What holds here: a header is never trusted; what the
caller owns is the capacity, and sizes are compared with what the chunk must have.
"""
