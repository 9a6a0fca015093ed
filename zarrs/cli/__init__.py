"""The command line ``zarrs``: what lies in this package, for people at a terminal and for scripts.

================== =====================================================================
``_app.py``        the commands, put together and run
``_info.py``       ``zarrs info``: what this installation is made of
``_explain.py``    ``zarrs explain``: what runs natively, how arrays are cut
``_layout.py``     chunks, shards and files of an array, and how much of it is stored
``_advice.py``     where a layout is slow; all limits with their reasons
``_bench.py``      ``zarrs bench``: the user's own array, measured
``_operations.py`` what is read of it
``_measure.py``    implementations are compared and timed
``_plot.py``       the chart of that
``_copy.py``       ``zarrs copy``: arrays with other chunks, shards, codecs or format
``_check.py``      ``zarrs check``: what of arrays is damaged
``_paths.py``      from a path or a URL to an open array or group
``_errors.py``     every expected error is one line and a code
``_output.py``     text for terminals and for pipes
================== =====================================================================

May import everything; nothing imports it but ``zarrs/__main__.py``, which looks for typer and rich
first. What holds here: a command prints its result on stdout and everything else on stderr, and
ends with a code of ``_errors.py``.
"""
