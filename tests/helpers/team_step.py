"""One step of a tiny training, of which every process of a team takes its share: team_step.py FILE."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from medseg.losses.spec import LossSpec
from medseg.training.batch import Batch
from medseg.training.loop import Trainer
from medseg.training.team import Team, started
from tests.helpers.tiny_training import NETWORK, TRAINING, phantom, tiny_trainer


def trainer(folder: Path, team: Team) -> Trainer:
    """One whose loss and norm are of each patch alone, so that a batch may be computed in parts."""
    network = replace(NETWORK, norm="instance")
    training = replace(TRAINING, batch=4)
    alone = tiny_trainer(folder, training=training, network=network, loss=LossSpec("cross_entropy"))
    return replace(alone, team=team, joined=None)


def weights_after(team: Team, folder: Path) -> dict[str, torch.Tensor]:
    """The weights after two steps on four whole phantoms."""
    here = trainer(folder, team)
    for first in (0, 4):
        cases = team.share([phantom(first + n) for n in range(4)])
        images, labels = torch.stack([c.image for c in cases]), torch.stack([c.labels for c in cases])
        here.step(Batch([c.case_id for c in cases], images, labels, None))
    return dict(here.network.state_dict())


if __name__ == "__main__":
    with started() as started_team, tempfile.TemporaryDirectory() as here_folder:
        found = weights_after(started_team, Path(here_folder))
        if started_team.rank == started_team.size - 1:
            torch.save(found, sys.argv[1])
