"""How long a training is whose length nobody states (no torch here: the command line names them)."""

from __future__ import annotations

PROFILES = {"fast": 600.0, "standard": 3600.0, "large": 8 * 3600.0}
"""Seconds."""

USUAL_PROFILE = "standard"
