"""Objects that touch are told apart where the mask is thin between them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from medseg.classical.instances import separated
from medseg.classical.spec import InstancesSpec
from medseg.core.errors import UsageError
from medseg.core.structures import Structure, StructureSet, from_labels

AT = np.indices((44, 24, 24)).astype(float)


def ball(middle: float, radius: float) -> NDArray[np.bool_]:
    """On the axis of the first index."""
    return np.asarray((AT[0] - middle) ** 2 + (AT[1] - 12) ** 2 + (AT[2] - 12) ** 2 <= radius**2)


def test_components_are_numbered_by_size() -> None:
    small, large = ball(6, 4), ball(30, 9)
    found = separated(small | large, (1.0, 1.0, 1.0))
    assert set(found[large].tolist()) == {1}
    assert set(found[small].tolist()) == {2}


def test_touching_balls_are_cut_where_they_touch() -> None:
    first, second, third = ball(10, 7), ball(22, 6), ball(32, 5)
    mask = first | second | third
    assert separated(mask, (1.0, 1.0, 1.0)).max() == 1
    found = separated(mask, (1.0, 1.0, 1.0), 1.0)
    assert found.max() == 3
    assert ((found > 0) == mask).all()
    for number, own in enumerate((first, second, third), start=1):
        assert np.count_nonzero((found == number) & own) > 0.95 * own.sum()


@pytest.mark.parametrize("depth_mm", [1.0, 100.0])
def test_what_is_nowhere_thin_is_not_cut(depth_mm: float) -> None:
    mask = np.zeros((20, 12, 12), bool)
    mask[2:18, 3:9, 3:9] = True
    assert separated(mask, (1.0, 1.0, 1.0), depth_mm).max() == 1
    assert separated(ball(10, 7) | ball(22, 6), (1.0, 1.0, 1.0), 100.0).max() == 1


def test_thin_and_empty_masks_have_their_components() -> None:
    line = np.zeros((10, 5, 5), bool)
    line[2:8, 3, 3], line[9, 0, 0] = True, True
    assert np.bincount(separated(line, (1.0, 1.0, 1.0), 1.0).ravel()).tolist() == [243, 6, 1]
    assert separated(np.zeros((4, 4, 4), bool), (1.0, 1.0, 1.0), 1.0).max() == 0


def test_depth_is_in_mm() -> None:
    """The necks of the same voxels are twice as deep where voxels are twice as long."""
    mask = ball(10, 6) | ball(18, 5)
    assert separated(mask, (1.0, 1.0, 1.0), 1.5).max() == 1
    assert separated(mask, (2.0, 2.0, 2.0), 1.5).max() == 2


def test_a_piece_of_another_component_in_its_box_is_left_alone() -> None:
    """Boxes of components overlap; each is cut alone, and numbers stay apart."""
    ring = np.zeros((30, 30, 30), bool)
    ring[2:28, 2:28, 14:16] = True
    ring[6:24, 6:24, 14:16] = False
    mask = ring.copy()
    mask[13:17, 13:17, 13:17] = True
    found = separated(mask, (1.0, 1.0, 1.0), 1.0)
    assert len(set(found[ring].tolist())) == 1
    assert len(set(found[mask & ~ring].tolist())) == 1
    assert found.max() == 2


def test_structures_with_instances_are_named_or_all() -> None:
    plain = from_labels({1: "left lung", 2: "right lung", 3: "nodule"})
    assert [s.value for s in InstancesSpec().chosen(plain)] == [1, 2, 3]
    assert [s.value for s in InstancesSpec(("lung",)).chosen(plain)] == [1, 2]
    nested = StructureSet((Structure(1, "whole", members=(1, 2)), Structure(2, "core", members=(2,))))
    with pytest.raises(UsageError, match="whole and core overlap"):
        InstancesSpec().chosen(nested)
    assert [s.name for s in InstancesSpec(("core",)).chosen(nested)] == ["core"]
    with pytest.raises(UsageError, match="did you mean 'nodule'"):
        InstancesSpec(("nodul",)).chosen(plain)
    with pytest.raises(UsageError, match="depth_mm must be positive"):
        InstancesSpec(depth_mm=0.0)
