"""What the grid and the intensities of a scan say before there is a result."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from io_files import oblique

from medseg.core.structures import from_labels
from medseg.core.volume import Grid, LabelMap, Volume
from medseg.findings.prediction import check_sides
from medseg.findings.scan import check_grid, check_scan
from medseg.metrics.case import evaluate_case
from medseg.model.evidence import Evidence, SpacingRange

SHAPE = (4, 5, 6)


@dataclass(frozen=True)
class Model:
    """What a check asks of a model."""

    name: str = "tiny"
    channels: tuple[str, ...] = ("MR",)
    evidence: Evidence = field(default_factory=Evidence)


def scan(spacing_mm: float) -> Volume:
    affine = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    return Volume(np.zeros((1, *SHAPE), np.float32), Grid(SHAPE, affine), ("MR",))


def test_a_tilt_is_told_with_its_angle_to_a_hundredth_of_a_degree() -> None:
    (finding,) = check_grid(Grid(SHAPE, oblique(angles=(12.3456, 0, 0))))
    assert (finding.code, finding.severity, finding.limit) == ("tilted", "note", 10.0)
    assert finding.evidence == {"tilt_degrees": 12.35}
    assert not list(check_grid(Grid(SHAPE, oblique(angles=(9.9, 0, 0)))))


@pytest.mark.parametrize(("degrees", "codes"), [(0.05, []), (0.15, ["sheared"]), (0.45, ["sheared"])])
def test_pages_and_measurements_tell_of_the_same_shear(degrees: float, codes: list[str]) -> None:
    """Of a file that is read, with half a degree at most, pages used to say nothing."""
    affine = np.eye(4)
    affine[0, 1] = np.tan(np.radians(degrees))
    grid = Grid(SHAPE, affine)
    assert [finding.code for finding in check_grid(grid)] == codes
    labels = LabelMap(np.ones(SHAPE, np.uint8), grid)
    warnings = evaluate_case(labels, labels, from_labels({1: "all"}), surface=False).warnings
    assert sum("right angles" in text for text in warnings) == len(codes)


@pytest.mark.parametrize(("spacing_mm", "doubts"), [(2.0, 0), (2.001, 1), (0.5, 0), (0.499, 1)])
def test_voxels_of_twice_the_trainings_size_are_not_yet_doubted(spacing_mm: float, doubts: int) -> None:
    model = Model(evidence=Evidence(spacing_mm=SpacingRange((1.0,) * 3, (1.0,) * 3)))
    assert [f.code for f in check_scan(scan(spacing_mm), model)] == ["voxel_size"] * doubts


def test_hounsfield_units_are_told_with_the_share_of_air() -> None:
    volume = scan(1.0)
    array = volume.array.copy()
    array[:, :1] = -1000.0
    (finding,) = check_scan(Volume(array, volume.grid, ("MR",)), Model())
    assert (finding.code, finding.severity) == ("hounsfield_units", "doubt")
    assert "(lowest -1000, 25 % below -500)" in finding.sentence
    assert finding.evidence == {"lowest": -1000.0, "share_of_air": 0.25}


@pytest.mark.parametrize(("agreement", "doubts"), [(0.9, 0), (0.8999, 1)])
def test_a_tenth_of_the_voxels_may_change_their_side(agreement: float, doubts: int) -> None:
    assert [f.code for f in check_sides(agreement)] == ["sides_uncertain"] * doubts
