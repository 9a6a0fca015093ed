"""Where bytes come from and go to: other stores than local files, through their interface.

==================== ==============================================================
``_stores.py``       where a store's files are, or by which methods its bytes are got
``_client.py``       a store's methods as the loops need them
``_key_locks.py``    keys that are written, locked within the process
``_lock_table.pyx``  who holds these locks and who waits for them
``_file_locks.py``   chunks in files, locked against other processes
``_kept.py``         caches of decoded chunks learn of what is written
``_store_reads.py``  some chunks are fetched while others are decoded
``_store_writes.py`` some chunks are encoded while others are stored
==================== ==============================================================

May import ``execution`` and what is below. What holds here: what is in memory at a time is bounded,
and no request is left behind.
"""
