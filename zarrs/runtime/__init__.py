"""What every call runs on: threads, workspaces, failures and the errors that they become.

======================= =====================================================================
``_loop.pyx``           the parallel loop; nothing else knows of OpenMP
``_workspace.pyx``      codec contexts and scratch, kept from call to call
``_failures.pyx``       how tasks of a loop tell that they failed
``_errors.py``          from a failed task to an exception
``_openmp.py``          loads the runtime of OpenMP so that its waiting threads sleep
``_threads.py``         how many threads a call gets, and in which thread it runs
``_blocking_call.pyx``  a call in another thread that a signal cannot leave half done
``_cpus.py``            how many CPUs there are for this process
``_task_group.py``      tasks on an event loop, of which none is left behind
``_turns.py``           when a call lets others of its event loop run
======================= =====================================================================

May import ``_core``. What holds here: no Python object is touched inside of a loop, but by stages
in Python, which take the GIL.
"""
