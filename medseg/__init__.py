"""medseg: 3D medical volumetric segmentation."""

__version__ = "0.1.0"
