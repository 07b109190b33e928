"""Settings of the refinement."""

from __future__ import annotations

import pytest

from medseg.core import specs
from medseg.core.errors import UsageError
from medseg.core.structures import from_labels
from medseg.data.cards import load_card
from medseg.model.refinement import IntensityClass, RefinementSpec, Trust
from medseg.training.recipe import load_recipe

EYES = from_labels({1: "left eye", 2: "right eye", 3: "nose"})
CLASSES = (IntensityClass("white", ("eye",)), IntensityClass("grey", ("nose",)))


def test_a_name_without_a_side_stands_for_both() -> None:
    assert RefinementSpec(CLASSES).class_numbers(EYES) == (0, 0, 1)


def test_the_trust_of_a_structure_is_its_own_or_the_usual() -> None:
    usual, both, left = Trust(0.9), Trust(0.5), Trust(0.1)
    spec = RefinementSpec(CLASSES, usual, {"eye": both, "left eye": left})
    assert [spec.trust(EYES, name) for name in EYES.names] == [left, both, usual]


@pytest.mark.parametrize(
    ("classes", "fault"),
    [
        (CLASSES[:1], "'nose' in 0 classes"),
        ((*CLASSES, IntensityClass("fluid", ("left eye",))), "'left eye' in 2 classes"),
        ((*CLASSES, IntensityClass("fluid", ("ear",))), "the structure 'ear' does not exist"),
    ],
)
def test_classes_that_are_no_partition_are_refused(classes: tuple[IntensityClass, ...], fault: str) -> None:
    with pytest.raises(UsageError, match=fault):
        RefinementSpec(classes).class_numbers(EYES)


def test_trust_in_an_unknown_structure_is_refused() -> None:
    with pytest.raises(UsageError, match="the structure 'mouth' does not exist"):
        RefinementSpec(CLASSES, structures={"mouth": Trust()}).class_numbers(EYES)


@pytest.mark.parametrize(
    "values", [(1.1, 1, 1), (-0.1, 1, 1), (1, -1, 1), (1, 11, 1), (1, 1, 0), (1, 1, float("nan"))]
)
def test_values_out_of_range_are_refused(values: tuple[float, float, float]) -> None:
    with pytest.raises(UsageError, match=r"refinement\.\w+ must be"):
        Trust(*values)


def test_the_spec_survives_json() -> None:
    spec = RefinementSpec(CLASSES, Trust(0.5), {"eye": Trust(0.1, 2.0, 0.5)}, "T1")
    assert specs.from_mapping(RefinementSpec, specs.to_mapping(spec), source="test") == spec


def test_a_card_with_tissues_gives_the_classes() -> None:
    fitted = load_recipe("brain").fitted_to(load_card("brain")).refinement
    assert fitted is not None
    first = {kind: next(c for c in fitted.classes if c.kind == kind) for kind in ("white", "grey", "fluid")}
    assert first["white"].structures == ("cerebral white matter",)
    assert first["grey"].structures == ("cerebral cortex",)
    assert "lateral ventricle" in first["fluid"].structures
    assert IntensityClass("grey", ("hippocampus", "amygdala")) in fitted.classes
    assert len(set(fitted.class_numbers(load_card("brain").structure_set))) == len(fitted.classes)
