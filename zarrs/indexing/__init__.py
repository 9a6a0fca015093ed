"""From selections to integers: what is selected in chunks, inner chunks and the array.

==================== ================================================================
``_make_plan.pyx``   from zarr's description of a call to a plan, or a reason why not
``_basic.pyx``       selections of slices and integers
``_fancy.pyx``       selections with index arrays, masks and points
``_plan.pyx``        the plan: tasks of a call, and sets of them
``_region.pyx``      from what is selected to bytes, and to inner chunks of a shard
==================== ================================================================

May import ``runtime`` and ``_core``. What holds here: a plan's integers are checked against the
shapes of chunk and array, so that nothing below has to.
"""
