"""What every document that we write says of itself."""

from __future__ import annotations

from medseg import __version__

MADE_BY = {"name": "medseg", "version": __version__}
"""What made it, in a document."""

SOFTWARE = " ".join(MADE_BY.values())
"""What made it, in a cell or a line."""

INTENDED_USE = "research only; not a medical device"
"""Of a result, or of a model."""
