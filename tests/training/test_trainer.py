"""The training loop: it learns, it repeats itself bit for bit, and it goes on where it was stopped."""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_training import NETWORK, TRAINING, phantom, take_step, tiny_trainer
from torch import Tensor, nn

from medseg.augment.spec import AugmentSpec
from medseg.core.errors import InputError, SelfCheckError
from medseg.core.structures import IGNORED, from_labels
from medseg.data.phantom import STRUCTURES
from medseg.inference.predictor import labels_from_probabilities
from medseg.losses.boundary import BoundaryLoss
from medseg.losses.dice_ce import DiceCELoss
from medseg.losses.scheduled import Scheduled
from medseg.losses.spec import LossSpec, LossTerm
from medseg.training import checkpoint as checkpoints
from medseg.training.batch import TrainingCase
from medseg.training.log import TrainingLog
from medseg.training.loop import Epoch, Trainer


def ignore(_: Epoch) -> None:
    pass


def finished(folder: Path, **settings: object) -> Trainer:
    """A training run to its end, going on from what the folder holds."""
    trainer = tiny_trainer(folder, **settings)  # type: ignore[arg-type]
    assert trainer.resume() is None
    trainer.run(ignore)
    return trainer


def log_of(folder: Path) -> list[dict[str, str]]:
    """The log without its times."""
    with (folder / "log.csv").open(newline="") as lines:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(lines)]


def state_of(trainer: Trainer) -> dict[str, Tensor]:
    out = {f"network/{k}": v for k, v in trainer.network.state_dict().items()}
    out |= {f"averaged/{k}": v for k, v in trainer.averaged.tensors.items()}
    out |= {f"optimizer/{k}": v for k, v in checkpoints.optimizer_tensors(trainer.optimizer).items()}
    out |= {f"best/{k}": v for k, v in trainer.best_weights().items()}
    return out | {"generator": trainer.generator.get_state()}


def assert_same_training(first: Trainer, second: Trainer) -> None:
    expected, found = state_of(first), state_of(second)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(found[key], value), key
    assert log_of(first.folder) == log_of(second.folder)
    for name in ("epoch", "step", "best", "averaged"):
        assert getattr(first.progress, name) == getattr(second.progress, name)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    return finished(tmp_path_factory.mktemp("uninterrupted"))


def stop_after(epochs: int) -> Callable[[Epoch], None]:
    def stop(epoch: Epoch) -> None:
        if epoch.number == epochs:
            raise KeyboardInterrupt

    return stop


def test_the_same_seed_makes_the_same_training(tmp_path: Path, uninterrupted: Trainer) -> None:
    assert_same_training(uninterrupted, finished(tmp_path))


def test_another_seed_makes_another(tmp_path: Path, uninterrupted: Trainer) -> None:
    other = finished(tmp_path, seed=1)
    assert any(
        not torch.equal(value, uninterrupted.network.state_dict()[key])
        for key, value in other.network.state_dict().items()
    )


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_training_stopped_between_epochs_goes_on_bit_for_bit(
    tmp_path: Path, uninterrupted: Trainer, epochs: int
) -> None:
    with pytest.raises(KeyboardInterrupt):
        tiny_trainer(tmp_path).run(stop_after(epochs))
    assert_same_training(uninterrupted, finished(tmp_path))


@pytest.mark.parametrize("step", [1, 4, 8])
@pytest.mark.fault("reliability 83")
def test_a_training_stopped_in_an_epoch_goes_on_bit_for_bit(
    tmp_path: Path, uninterrupted: Trainer, step: int
) -> None:
    stopped = tiny_trainer(tmp_path)
    plain = stopped.step

    def interrupted(case_numbers: list[int]) -> float:
        if stopped.progress.step == step:
            raise KeyboardInterrupt
        return plain(case_numbers)

    stopped.step = interrupted  # type: ignore[method-assign,assignment]
    with pytest.raises(KeyboardInterrupt):
        stopped.run(ignore)
    torch.manual_seed(99)  # a new process has another state of torch's own generator
    assert_same_training(uninterrupted, finished(tmp_path))


@pytest.mark.parametrize(("where", "epoch"), [("best", 1), ("last", 1), ("last", 2)])
@pytest.mark.fault("reliability 83")
def test_a_training_stopped_while_it_stores_an_epoch_goes_on_bit_for_bit(
    tmp_path: Path, uninterrupted: Trainer, where: str, epoch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped, plain = tiny_trainer(tmp_path), checkpoints.save

    def interrupted(path: Path, checkpoint: checkpoints.Checkpoint) -> None:
        if path.stem == where and stopped.progress.epoch == epoch:
            raise KeyboardInterrupt
        plain(path, checkpoint)

    monkeypatch.setattr(checkpoints, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stopped.run(ignore)
    monkeypatch.undo()
    assert_same_training(uninterrupted, finished(tmp_path))


def test_a_training_stopped_while_it_logs_an_epoch_goes_on_bit_for_bit(
    tmp_path: Path, uninterrupted: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: TrainingLog, epoch: int, __: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tiny_trainer(tmp_path).run(stop_after(1))
    again = tiny_trainer(tmp_path)
    again.resume()
    monkeypatch.setattr(TrainingLog, "add", interrupted)
    with pytest.raises(KeyboardInterrupt):
        again.run(ignore)
    monkeypatch.undo()
    assert_same_training(uninterrupted, finished(tmp_path))


def test_a_finished_training_is_not_trained_again(tmp_path: Path) -> None:
    finished(tmp_path)
    before = log_of(tmp_path)
    told: list[Epoch] = []
    again = tiny_trainer(tmp_path)
    again.resume()
    again.run(told.append)
    assert told == []
    assert log_of(tmp_path) == before


@pytest.mark.fault("reliability 87")
def test_no_batch_is_drawn_twice(tmp_path: Path) -> None:
    """Of one case, an epoch's batches and those of the next; one thread makes them beside the training."""
    trainer = tiny_trainer(tmp_path)
    drawn = [trainer._batches([0, 1] * 6, 6) for _ in range(2)]
    images = [batch.images.numpy().tobytes() for epoch in drawn for batch in epoch]
    assert len(set(images)) == len(images) == 12


@pytest.mark.fault("reliability 84")
def test_a_damaged_checkpoint_is_told_and_the_training_ends_the_same(
    tmp_path: Path, uninterrupted: Trainer
) -> None:
    with pytest.raises(KeyboardInterrupt):
        tiny_trainer(tmp_path).run(stop_after(2))
    last = tmp_path / "checkpoints" / "last.safetensors"
    last.write_bytes(last.read_bytes()[:-100])
    trainer = tiny_trainer(tmp_path)
    warning = trainer.resume()
    assert warning is not None
    assert "the checkpoint before it is used" in warning
    assert trainer.progress.epoch == 1
    trainer.run(ignore)
    assert_same_training(uninterrupted, trainer)


def scores_of(scores: list[float]) -> Callable[[object], dict[str, float]]:
    """A validation that answers with these, one an epoch."""
    left = iter(scores)
    return lambda _: {"core": next(left)}


def test_the_epoch_that_scores_best_is_kept(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, training=replace(TRAINING, epochs=4))
    trainer.validate = scores_of([0.2, 0.7, 0.5, 0.7])
    kept: dict[int, dict[str, Tensor]] = {}

    def keep(epoch: Epoch) -> None:
        kept[epoch.number] = {k: v.clone() for k, v in trainer.averaged.tensors.items()}

    trainer.run(keep)
    assert trainer.progress.best == 0.7
    for key, value in trainer.best_weights().items():
        assert torch.equal(value, kept[2][key])


def test_the_last_epoch_is_kept_where_nothing_chooses(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, training=replace(TRAINING, epochs=2))
    trainer.validate = lambda _: {"core": math.nan}
    trainer.run(ignore)
    for key, value in trainer.best_weights().items():
        assert torch.equal(value, trainer.averaged.tensors[key])


def test_every_head_learns_under_deep_supervision(tmp_path: Path) -> None:
    network = replace(NETWORK, name="plain_unet", widths=(4, 8, 8), norm="instance", options={})
    before = tiny_trainer(tmp_path, network=network).network.state_dict()
    trainer = tiny_trainer(tmp_path, network=network, training=replace(TRAINING, deep_supervision=True))
    assert list(before) == list(trainer.network.state_dict())
    take_step(trainer, [0, 1])
    for key, parameter in trainer.network.named_parameters():
        assert not torch.equal(parameter, before[key]), key


class Told(nn.Module):
    """A loss that notes the shape and the spacing that each head is measured with."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = BoundaryLoss(spacing_mm=(1.0, 0.5, 2.0))
        self.seen: list[tuple[tuple[int, ...], tuple[float, ...]]] = []

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        self.seen.append((tuple(target.shape[1:]), self.inner.spacing_mm))
        return self.inner(logits, target)


def test_a_head_of_every_nth_voxel_is_measured_by_their_spacing(tmp_path: Path) -> None:
    strides = ((2, 2, 1), (2, 2, 2), (2, 2, 2))
    network = replace(
        NETWORK, name="plain_unet", widths=(4, 8, 8, 8), strides=strides, norm="instance", options={}
    )
    trainer = tiny_trainer(tmp_path, network=network, training=replace(TRAINING, deep_supervision=True))
    trainer.loss = told = Told()
    take_step(trainer, [0, 1])
    take_step(trainer, [0, 1])
    assert told.seen == [((16, 16, 16), (1.0, 0.5, 2.0)), ((8, 8, 16), (2.0, 1.0, 2.0))] * 2


def test_one_phase_of_the_voxels_is_measured_by_their_spacing(tmp_path: Path) -> None:
    network = replace(NETWORK, name="fast_unet", widths=(4, 8), norm="batch", options={})
    trainer = tiny_trainer(tmp_path, network=network, training=replace(TRAINING, sampled_loss=True))
    trainer.loss = told = Told()
    take_step(trainer, [0, 1])
    assert told.seen == [((8, 8, 8), (2.0, 1.0, 4.0))]


def test_damaged_best_weights_are_told_and_can_be_beaten(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, training=replace(TRAINING, epochs=3))
    trainer.validate = scores_of([0.2, 0.7, 0.5])
    with pytest.raises(KeyboardInterrupt):
        trainer.run(stop_after(2))
    best = trainer.best_path
    best.write_bytes(best.read_bytes()[:-100])
    again = tiny_trainer(tmp_path, training=replace(TRAINING, epochs=3))
    again.validate = scores_of([0.5])
    warning = again.resume()
    assert warning is not None
    assert "best.safetensors" in warning
    again.run(ignore)
    assert again.progress.best == 0.5


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        tiny_trainer(tmp_path).run(stop_after(1))
    with pytest.raises(InputError, match="another training"):
        tiny_trainer(tmp_path, network=replace(NETWORK, widths=(4, 4))).resume()
    with pytest.raises(InputError, match="another training"):
        tiny_trainer(tmp_path, network=replace(NETWORK, widths=(4, 4, 4))).resume()


class Poisoned(nn.Module):
    """A loss that is not a number from some call on."""

    def __init__(self, loss: nn.Module, good_calls: int, poison: float) -> None:
        super().__init__()
        self.loss, self.left, self.poison = loss, good_calls, poison

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        self.left -= 1
        return self.loss(logits, target) * (1.0 if self.left >= 0 else self.poison)


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
@pytest.mark.fault("reliability 85")
def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(
    tmp_path: Path, uninterrupted: Trainer, poison: float
) -> None:
    trainer = tiny_trainer(tmp_path)
    trainer.loss = Poisoned(trainer.loss, 4, poison)
    with pytest.raises(
        SelfCheckError, match=r"the loss is (nan|inf) at step 4 \(cases patient-\d, patient-\d\)"
    ):
        trainer.run(ignore)
    found = checkpoints.load(trainer.last_path)
    assert found.values["epoch"] == 1
    assert all(t.isfinite().all() for t in found.tensors.values() if t.is_floating_point())
    assert_same_training(uninterrupted, finished(tmp_path))


def test_a_gradient_that_is_not_finite_stops_before_it_reaches_the_weights(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path)
    first = next(trainer.network.parameters())
    first.register_hook(lambda gradient: gradient * math.nan)
    with pytest.raises(SelfCheckError, match="the norm of the gradient is nan at step 0"):
        trainer.run(ignore)
    assert all(p.isfinite().all() for p in trainer.network.parameters())


def test_an_epoch_is_told_with_its_scores(tmp_path: Path) -> None:
    told: list[Epoch] = []
    trainer = tiny_trainer(tmp_path)
    trainer.validate = scores_of([0.25, float("nan"), 0.75])
    trainer.run(told.append)
    assert [(e.number, e.of) for e in told] == [(1, 3), (2, 3), (3, 3)]
    assert [e.best for e in told] == [0.25, 0.25, 0.75]
    assert told[-1].seconds_left == 0
    assert [row["learning_rate"] for row in log_of(tmp_path)] == [
        f"{0.01 * ((7 - n) / 7) ** 0.9:.6g}" for n in (0, 3, 6)
    ]


def test_channels_are_changed_each_by_itself(tmp_path: Path) -> None:
    """Twice the same image as two channels: after intensity changes they differ."""
    trainer = tiny_trainer(tmp_path)
    case = phantom(0)
    trainer.cases = [TrainingCase("a", case.image.repeat(2, 1, 1, 1), case.labels)] * 3
    batches = [trainer.batch([0, 1], 0).images for _ in range(6)]
    assert any(not torch.equal(batch[:, 0], batch[:, 1]) for batch in batches)


def test_the_cases_are_not_changed(tmp_path: Path) -> None:
    case = phantom(0)
    image, labels = case.image.clone(), case.labels.clone()
    trainer = tiny_trainer(tmp_path)
    for _ in range(5):
        take_step(trainer, [0, 0])
    assert torch.equal(case.image, image)
    assert torch.equal(case.labels, labels)


def with_one_label_for_both_lobes(number: int) -> TrainingCase:
    """A network this small does not see where left is."""
    case = phantom(number)
    table = torch.tensor([0, 1, 1, 2], dtype=torch.uint8)
    return replace(case, labels=table[case.labels.long()])


def test_a_tiny_network_learns_what_phantoms_are_made_of(tmp_path: Path) -> None:
    trainer = tiny_trainer(
        tmp_path,
        training=replace(
            TRAINING, epochs=4, steps_per_epoch=15, learning_rate=3e-2, warmup_steps=5, ema_decay=0.8
        ),
        network=replace(NETWORK, out_channels=3, widths=(8, 16)),
        augmentation=AugmentSpec(),
        structures=from_labels({1: "lobes", 2: "core"}),
        cases=[with_one_label_for_both_lobes(n) for n in range(6)],
        selection=[with_one_label_for_both_lobes(100)],
    )
    told: list[Epoch] = []
    before = trainer.validate(trainer.averaged.tensors)
    trainer.run(told.append)
    assert told[-1].loss < told[0].loss / 2
    assert max(before.values()) < 0.2
    assert min(told[-1].scores.values()) > 0.5


@pytest.mark.parametrize("stopped_at", [5, 6, 8])
def test_norms_freeze_at_their_step_and_stay_frozen_through_a_stop(tmp_path: Path, stopped_at: int) -> None:
    """9 steps, the last third with the statistics that were averaged over the first six."""
    settings = replace(TRAINING, frozen_norm_share=1 / 3)
    whole = tiny_trainer(tmp_path / "whole", training=settings)
    seen: list[Tensor] = []
    averages: list[Tensor] = []
    plain = whole.step

    def watched(case_numbers: list[int]) -> float:
        averages.append(whole.averaged.tensors["encoder.0.0.norm.running_mean"].clone())
        loss = plain(case_numbers)
        seen.append(whole.network.state_dict()["encoder.0.0.norm.running_mean"].clone())
        return loss

    whole.step = watched  # type: ignore[method-assign,assignment]
    whole.run(ignore)
    assert all(not torch.equal(a, b) for a, b in itertools.pairwise(seen[:6]))
    assert all(torch.equal(later, averages[6]) for later in seen[6:])
    interrupted = tiny_trainer(tmp_path / "parts", training=settings)
    inner = interrupted.step

    def stop(case_numbers: list[int]) -> float:
        if interrupted.progress.step == stopped_at:
            raise KeyboardInterrupt
        return inner(case_numbers)

    interrupted.step = stop  # type: ignore[method-assign,assignment]
    with pytest.raises(KeyboardInterrupt):
        interrupted.run(ignore)
    assert_same_training(whole, finished(tmp_path / "parts", training=settings))


def test_a_sampled_loss_is_that_of_one_phase_and_goes_on_bit_for_bit(tmp_path: Path) -> None:
    settings = replace(TRAINING, sampled_loss=True)
    network = replace(NETWORK, name="fast_unet", options={})
    seen: list[tuple[int, ...]] = []

    def trainer(folder: Path) -> Trainer:
        made = tiny_trainer(folder, training=settings, network=network)
        inner = made.loss.forward

        def loss(logits: Tensor, target: Tensor) -> Tensor:
            seen.append((*logits.shape, *target.shape))
            return inner(logits, target)

        made.loss.forward = loss  # type: ignore[method-assign]
        return made

    whole = trainer(tmp_path / "whole")
    whole.run(ignore)
    assert set(seen) == {(2, 4, 8, 8, 8, 2, 8, 8, 8)}
    stopped = trainer(tmp_path / "parts")
    with pytest.raises(KeyboardInterrupt):
        stopped.run(stop_after(1))
    again = trainer(tmp_path / "parts")
    assert again.resume() is None
    again.run(ignore)
    assert_same_training(whole, again)


def test_a_scheduled_loss_is_told_how_far_the_training_is(tmp_path: Path) -> None:
    terms = (LossTerm("dice", weight=1.0, weight_end=0.0), LossTerm("cross_entropy", weight=0.5))
    trainer = tiny_trainer(tmp_path, loss=LossSpec("sum", terms=terms))
    assert isinstance(trainer.loss, Scheduled)
    total = TRAINING.epochs * TRAINING.steps_per_epoch
    for step in range(3):
        take_step(trainer, [0, 1])
        assert trainer.loss.progress == pytest.approx(step / total)


SCRIBBLED = 0.06
"""Share of the voxels somebody labelled."""


def scribbled(case: TrainingCase, becomes: int) -> TrainingCase:
    """A case of which few voxels are labelled; the others have another index."""
    known = torch.rand(case.labels.shape, generator=torch.Generator().manual_seed(1)) < SCRIBBLED
    return replace(case, labels=torch.where(known, case.labels, becomes))


def blob(seed: int) -> TrainingCase:
    """A bright box in noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.zeros(16, 16, 16, dtype=torch.uint8)
    i, j, k = torch.randint(2, 7, (3,), generator=generator).tolist()
    labels[i : i + 7, j : j + 7, k : k + 7] = 1
    image = labels.float() + 0.3 * torch.randn(labels.shape, generator=generator)
    return TrainingCase(f"blob-{seed}", image[None], labels)


def learnt(folder: Path, becomes: int) -> float:
    """Dice on a whole case of a training on scribbles."""
    trainer = tiny_trainer(
        folder,
        cases=[scribbled(blob(n), becomes) for n in range(3)],
        selection=[blob(9)],
        structures=from_labels({1: "blob"}),
        network=replace(NETWORK, out_channels=2),
        training=replace(TRAINING, epochs=3, steps_per_epoch=10),
        augmentation=AugmentSpec(),
    )
    found: list[Epoch] = []
    trainer.run(found.append)
    return found[-1].scores["blob"]


@pytest.mark.fault("reports 28")
def test_voxels_that_nobody_labelled_do_not_pull(tmp_path: Path) -> None:
    """From one voxel in sixteen a training finds what it cannot when the others are taken for background."""
    ignoring, pulled = learnt(tmp_path / "a", IGNORED), learnt(tmp_path / "b", 0)
    assert ignoring > 0.5
    assert pulled < 0.25


@pytest.mark.fault("reports 28")
def test_without_ignored_voxels_the_loss_is_taken_as_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bits of a training that ignores nothing do not depend on there being such a thing."""
    trainer = tiny_trainer(tmp_path)
    given: list[tuple[object, ...]] = []
    honest = trainer.loss.forward

    def forward(*arguments: object) -> torch.Tensor:
        given.append(arguments)
        return honest(*arguments)  # type: ignore[no-any-return]

    monkeypatch.setattr(trainer.loss, "forward", forward)
    value = take_step(trainer, [0, 1])
    ((logits, target),) = given
    again = DiceCELoss()(logits, target)
    assert float(again.detach()) == value


@pytest.mark.fault("reports 28")
def test_the_checkpoint_is_chosen_by_labelled_voxels_alone(tmp_path: Path) -> None:
    whole = phantom(100)
    chosen = [scribbled(whole, IGNORED)]
    trainer = tiny_trainer(tmp_path, selection=chosen)
    found = trainer.validate(trainer.averaged.tensors)
    predictor = trainer.validate.predictor  # type: ignore[attr-defined]
    predicted = labels_from_probabilities(predictor.probabilities(whole.image.numpy()), STRUCTURES)
    known = chosen[0].labels.numpy() != IGNORED
    for index, structure in enumerate(STRUCTURES, start=1):
        t, p = whole.labels.numpy()[known] == index, predicted[known] == structure.value
        assert found[structure.name] == pytest.approx(2 * (t & p).sum() / (t.sum() + p.sum()))
    lacking = tiny_trainer(tmp_path / "b", selection=[replace(chosen[0], unlabelled=("core",))])
    assert np.isnan(lacking.validate(lacking.averaged.tensors)["core"])


@pytest.mark.parametrize(
    ("scores", "patience", "epochs"),
    [
        ((0.1, 0.5, 0.4, 0.5, 0.3, 0.9), 2, 4),
        ((0.1, 0.2, 0.1, 0.3, 0.1, 0.4), 2, 6),
        ((0.9, *(0.1,) * 5), 0, 6),
    ],
)
def test_a_training_ends_when_it_no_longer_pays(
    tmp_path: Path, scores: tuple[float, ...], patience: int, epochs: int
) -> None:
    training = replace(TRAINING, epochs=6, steps_per_epoch=1, patience=patience)
    told = iter(scores)
    trainer = tiny_trainer(tmp_path, training=training)
    trainer.validate = lambda _: {"core": next(told)}
    trainer.run(ignore)
    assert trainer.progress.epoch == epochs
    again = tiny_trainer(tmp_path, training=training)
    again.resume()
    again.run(ignore)
    assert again.progress.epoch == epochs, "nor does it go on when the command is repeated"


def test_a_training_without_cases_to_choose_by_goes_to_its_end(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, training=replace(TRAINING, epochs=4, steps_per_epoch=1, patience=1))
    trainer.validate = lambda _: {}
    trainer.run(ignore)
    assert trainer.progress.epoch == 4
