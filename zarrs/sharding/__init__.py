"""A shard is a list of inner chunks: its index, and the reading and writing of what it holds.

====================== ===================================================================
``_index.pyx``         the index: reading, checking and making it
``_write_order.pyx``   the order in which a new shard holds its inner chunks
``_read_shards.pyx``   all shards of a call, read in waves
``_read_inner.pyx``    the inner chunks of open shards, read in one loop
``_open_shard.pyx``    shards that are fetched range by range
``_write_shards.pyx``  all shards of a call: encoded in one loop, and put together
====================== ===================================================================

May import ``chunks`` and what is below. What holds here: no entry of an index is used unchecked.
"""
