"""Local files: reading at an offset, atomic replacement, handles kept open, syncing, locks.

=================== ===============================================================
``_files.pyx``      reads ranges, and replaces files in one step
``_commits.pyx``    threads that wait for the file system where replacing blocks
``_handles.pyx``    files that are kept open from call to call
``_sync.pyx``       directories on the disk, if writes are to be durable
``_byte_locks.pyx`` locks by which processes exclude each other
=================== ===============================================================

May import ``runtime`` and ``_core``. What holds here: a file is replaced or stays as it was.
"""
