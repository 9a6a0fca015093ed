"""Copies of arrays and groups: other chunks, shards, codecs and formats, and goes on after a kill.

================= ==========================================================================
``_copy.py``      `zarrs.copy`: what is to be done is found out, refused or done, in this order
``_places.py``    source and target are opened; what must not be copied over what
``_nodes.py``     the arrays and groups of the source, and what becomes of their metadata
``_metadata.py``  the metadata of one array's copy: chunks, shards, codecs, format
``_formats.py``   codecs of format 2 and those of format 3 that store the same bytes
``_regions.py``   an array in regions of whole target chunks, within a limit of memory
``_plan.py``      how one array is copied, and which of its regions hold something
``_memory.py``    the limit: what is typed, and what a region takes
``_transfer.py``  one region is copied: decoded and encoded, or the stored bytes as they are
``_verify.py``    one region is compared
``_run.py``       several regions at a time, in threads or on a cluster
``_record.py``    what is done already, stored at the target until all is
``_bar.py``       the progress bar
``_report.py``    what was done
================= ==========================================================================

Above the face: it uses what users have, and what the face has of arrays. What holds here: a target
chunk is written once, by one task, as a whole; the metadata come last, so that an unfinished
copy cannot be opened; and a region is recorded only when it is written.
"""
