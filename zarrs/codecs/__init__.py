"""One extension module per C library, each behind the codec table of ``_core.pxd``."""
