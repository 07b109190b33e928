"""Phantoms: synthetic scans with known structures, for tests, demonstrations and trials without data.

Heads with two lobes and a core, pelves with a prostate, brains with a glioma, and label maps of whole
heads; in the layouts datasets of such cases have.
"""

from medseg.data.phantom.datasets import ORDERS, write_phantom_dataset, write_phantom_scan, write_phantoms
from medseg.data.phantom.head import SHAPE, SPACING_MM, STRUCTURES, phantom_case

__all__ = [
    "ORDERS",
    "SHAPE",
    "SPACING_MM",
    "STRUCTURES",
    "phantom_case",
    "write_phantom_dataset",
    "write_phantom_scan",
    "write_phantoms",
]
