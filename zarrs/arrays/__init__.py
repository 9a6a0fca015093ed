"""Items in memory: N-dimensional copies, and items of variable length.

================= =================================================================
``_copy.pyx``     copies of boxes, with any strides and byte orders
``_recycled.pyx`` memory of results that have been let go, for those that come next
``_strings.pyx``  strings and bytes, whose chunks are payloads of lengths and bytes
================= =================================================================

May import ``runtime`` and ``_core``. What holds here: regions were checked when they were planned,
but payloads come from outside, and none of their lengths is trusted.
"""
