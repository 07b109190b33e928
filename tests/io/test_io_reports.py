"""Inputs that people met and reported, each refused or read with the right value."""

from __future__ import annotations

from pathlib import Path

import pytest
from io_files import claiming

from medseg import io
from medseg.errors import InputError

CLAIMS = ("scan.nii", "scan.nii.gz", "scan.hdr", "scan.mha", "packed.mha", "scan.nrrd", "packed.nrrd")


@pytest.mark.fault("reports 8")
@pytest.mark.parametrize("name", CLAIMS)
@pytest.mark.parametrize("n", [2000, 32767])
def test_a_header_that_claims_more_than_its_file_holds_is_refused_unread(
    tmp_path: Path, name: str, n: int
) -> None:
    path = claiming(tmp_path / name, n)
    for reader in (io.inspect, io.read_volume, io.read_labels):
        with pytest.raises(InputError, match="truncated"):
            reader(path)
