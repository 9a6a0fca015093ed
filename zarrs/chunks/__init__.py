"""One chunk: what is needed of it, whole or in pieces; what is to be stored of it.

====================== ==================================================================
``_read_chunks.pyx``   all chunks of a call, read
``_write_chunks.pyx``  all chunks of a call, written
``_read.pyx``          what is needed of one chunk, in the cheapest way
``_write.pyx``         one chunk, merged and encoded
``_partial.pyx``       parts of raw and of Blosc chunks
``_checked.pyx``       raw chunks with a checksum, in slices
``_pieces.pyx``        big chunks in pieces that threads share
====================== ==================================================================

May import ``codecs`` and what is below. What holds here: a chunk is opened once, so that a reader
sees one version of it.
"""
