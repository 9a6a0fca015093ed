"""What zarr loads when it collects pipelines and buffers of all packages: nothing here raises.

It is a module of its own because ``zarrs/__init__.py`` may be another package's, or gone; see
``_overlay``.
"""

from __future__ import annotations

__all__ = ["RecyclingNDBuffer", "ZarrsCodecPipeline"]

try:
    from zarrs import ZarrsCodecPipeline
    from zarrs._overlay import warn_of_overlay

    warn_of_overlay()
except Exception as error:
    from zarrs._unavailable import stand_in

    ZarrsCodecPipeline = stand_in(error)  # type: ignore[misc]

try:
    from zarrs import RecyclingNDBuffer
except Exception as error:  # there may be another package's pipeline all the same
    from zarrs import _unavailable

    _unavailable.reason = _unavailable.reason or error
    RecyclingNDBuffer = _unavailable.RecyclingNDBuffer  # type: ignore[misc,assignment]
