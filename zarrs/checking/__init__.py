"""All that is stored of arrays is looked at, and deleted if asked for and nobody can read it.

==================== =====================================================================
``_check.py``        `zarrs.check`: all chunks of all arrays, in threads
``_stored.py``       what is stored of one array, and what is wrong with it
``_inner_chunks.py`` shards as they are stored: which inner chunks there are
``_findings.py``     what was found, and how it is told
==================== =====================================================================

Above the face: chunks are read as any reader reads them, with `zarrs.Array`.
"""
