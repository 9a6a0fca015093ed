"""From selections to integers: what is selected in chunks, inner chunks and the array.

======================== ===============================================================
``_make_plan.pyx``       from zarr's description of a call to a plan, or a reason why not
``_basic.pyx``           in it, selections of slices and integers
``_fancy.pyx``           in it, selections with index arrays, masks and points
``_grid.pyx``            how an array is cut into chunks, and their keys
``_selected.pyx``        from a selection of an array to what is selected in its chunks
``_plan_selected.pyx``   from that to a plan
``_plan_many.pyx``       from many selections to one plan, every chunk in it once
``_plan.pyx``            the plan: tasks of a call, and sets of them
``_region.pyx``          from what is selected to bytes, and to inner chunks of a shard
``_sorting.pyx``         positions sorted together with their places
======================== ===============================================================

May import ``runtime`` and ``_core``. What holds here: a plan's integers are checked against the
shapes of chunk and array, so that nothing below has to.
"""
