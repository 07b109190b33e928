"""A trained model as data: its description (`spec`) and its one file (`file`). Nothing here imports torch."""

from medseg.model.evidence import Evidence
from medseg.model.file import DEFAULT_MODEL, Model, find_model, load_model, packaged_models
from medseg.model.refinement import IntensityClass, RefinementSpec, Trust
from medseg.model.spec import (
    InferenceSpec,
    ModelSpec,
    NetworkFacts,
    NetworkSpec,
    PostprocessSpec,
    SliceSpec,
)

__all__ = [
    "DEFAULT_MODEL",
    "Evidence",
    "InferenceSpec",
    "IntensityClass",
    "Model",
    "ModelSpec",
    "NetworkFacts",
    "NetworkSpec",
    "PostprocessSpec",
    "RefinementSpec",
    "SliceSpec",
    "Trust",
    "find_model",
    "load_model",
    "packaged_models",
]
