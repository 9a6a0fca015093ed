"""The command line ``zarrs``: what lies in this package, for people at a terminal and for scripts.

============== ==========================================================================
``_app.py``    the commands, put together and run
``_info.py``   ``zarrs info``: what this installation is made of
``_paths.py``  from a path or a URL to an open array or group
``_errors.py`` every expected error is one line and a code
``_output.py`` text for terminals and for pipes
============== ==========================================================================

May import everything; nothing imports it but ``zarrs/__main__.py``, which looks for typer and rich
first. What holds here: a command prints its result on stdout and everything else on stderr, and
ends with a code of ``_errors.py``.
"""
