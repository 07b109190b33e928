"""`medseg train RECIPE --dry-run` says what a training would be, and writes nothing."""

from __future__ import annotations

from pathlib import Path

from commands import done, refused

from medseg.data.phantom import write_phantom_dataset


def test_a_recipe_is_rehearsed(tmp_path: Path) -> None:
    write_phantom_dataset(tmp_path / "data", cases=5, shape=(18, 20, 16))
    words = ("train", "phantom_unet3d", "--data", tmp_path / "data", "-o", tmp_path / "run", "--dry-run")
    said = done(*words).out
    assert "phantom_unet3d: fold 0 of 5 (seed 0): 3 cases to train, 1 to choose the checkpoint, 1 to " in said
    assert "million parameters; an output voxel sees " in said
    assert not (tmp_path / "run").exists()
    odd = tmp_path / "odd.toml"
    odd.write_text('name = "odd"\nbase = "phantom_unet3d"\n[training]\npatch = [15, 16, 16]\n')
    assert "recipe odd: training.patch must be a multiple of" in refused(2, words[0], odd, *words[2:])
