"""A planned call is run: where, with how many threads, and what is said when it fails.

================= =================================================================
``_job.py``       a planned call, in which thread it runs, and its exception
``_execute.pyx``  the calls that run a plan or a part of it
================= =================================================================

May import ``sharding`` and what is below. What holds here: who cancels a call gets his way when its
threads have stopped, as they work in his memory.
"""
