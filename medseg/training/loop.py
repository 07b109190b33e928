"""The training loop: patches, steps, validation on whole volumes, checkpoints that resume bit for bit."""

from __future__ import annotations

import math
import operator
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Protocol

import torch
from torch import Generator, Tensor, nn

from medseg.core.errors import InputError, SelfCheckError
from medseg.core.structures import IGNORED
from medseg.instances.detecting import Detecting, Lesson
from medseg.losses.distances import measure_at
from medseg.losses.scheduled import Scheduled
from medseg.networks.arithmetic import guard_convolutions
from medseg.networks.layers import MEMORY_FORMATS, Phased, Segmenter, Supervised
from medseg.training import checkpoint as checkpoints
from medseg.training.answers import Answer, Asked, Phase
from medseg.training.batch import Batch, TrainingCase
from medseg.training.checkpoint import Checkpoint
from medseg.training.clock import Clock
from medseg.training.log import TrainingLog
from medseg.training.processor import autocast_dtype
from medseg.training.sampling import PatchSampler
from medseg.training.schedule import (
    AveragedWeights,
    build_optimizer,
    freeze_norms,
    frozen_from,
    learning_rate,
)
from medseg.training.spec import TrainingSpec
from medseg.training.team import ALONE, Team
from medseg.training.transfer import freeze

Weights = Mapping[str, Tensor]


class PatchMaker(Protocol):
    """Makes the patches of a training: an `Augmenter`, a `Synthesiser` or a `SliceAugmenter`."""

    def target(self, labels: Tensor) -> Tensor:
        """What is learnt of a case's label indices (I, J, K)."""

    def source_shape(self, patch_shape: Sequence[int]) -> tuple[int, ...]:
        """Voxels of the volume that a patch spans."""

    def draw(
        self,
        generator: Generator,
        image: Tensor,
        labels: Tensor,
        centre_voxels: Sequence[float],
        patch_shape: Sequence[int],
        progress: float,
    ) -> tuple[Tensor, Tensor]:
        """A patch (C, *patch) of a case, and its label indices (*patch)."""


@dataclass(frozen=True)
class Epoch:
    """What an epoch came to; `scores` per structure on the selection cases, in terms of `measure`."""

    number: int
    of: int
    loss: float
    scores: Mapping[str, float]
    measure: str
    best: float
    seconds_left: float


@dataclass
class Progress:
    """The plain values a checkpoint keeps."""

    epoch: int = 0
    step: int = 0
    best: float = -math.inf
    best_epoch: int = 0
    seconds: float = 0.0
    averaged: int = 0


@dataclass
class Trainer:
    """Trains a network on cases held in memory.

    Args:
        network: on the device it is trained on.
        loss: takes logits and targets, and which voxels count.
        target: turns label indices (B, *patch) into what the loss takes.
        augmenter: samples and applies the augmentation of a patch, or makes a scan from labels.
        cases: what is trained on.
        validate: what given weights score per structure on the selection cases; the last weights are kept
            where it finds none.
        spec: the settings.
        epochs: how many.
        folder: the run; checkpoints and logs go there.
        team: the processes that train together.
    """

    network: Segmenter
    loss: nn.Module
    target: Callable[[Tensor], Tensor]
    augmenter: PatchMaker
    cases: Sequence[TrainingCase]
    validate: Callable[[Weights], Mapping[str, float]]
    spec: TrainingSpec
    epochs: int
    folder: Path
    team: Team = ALONE
    measure: str = "Dice"
    """What `validate` finds."""
    progress: Progress = field(default_factory=Progress)
    clock: Clock | None = None
    """Where there is a time budget, what sees to it that the epochs fit."""
    joined: nn.Module | None = None
    """The network as all processes of the team ask it; made once, whatever trainer it is handed on to."""

    def __post_init__(self) -> None:
        self.device = next(self.network.parameters()).device
        self.dtype = autocast_dtype(self.device, self.spec.precision)
        if self.dtype is not None:
            guard_convolutions(self.network)
        self.frozen = freeze(self.network, self.spec.frozen)
        self.asked = Asked(self.network, every_head=self.spec.deep_supervision)
        if self.joined is None:
            several = isinstance(self.network, Supervised) and not self.asked.every_head
            some_unused = several or isinstance(self.network, Detecting)
            self.joined = self.team.joined(self.asked, some_unused=some_unused)
        self.ask = self.joined
        self.optimizer = build_optimizer(self.network, self.spec)
        self.averaged = AveragedWeights(self.network, self.spec.ema_decay)
        self.generator = Generator().manual_seed(self.spec.seed)
        self.sampler = PatchSampler(
            [self.augmenter.target(case.labels) for case in self.cases],
            self.augmenter.source_shape(self.spec.patch),
            self.spec.foreground_share,
        )

    @property
    def last_path(self) -> Path:
        return self.folder / "checkpoints" / "last.safetensors"

    @property
    def best_path(self) -> Path:
        return self.folder / "checkpoints" / "best.safetensors"

    def run(self, on_epoch: Callable[[Epoch], None]) -> None:
        """Train to the last epoch that pays, from the checkpoint there is.

        Raises:
            SelfCheckError: the loss is not finite; the last good checkpoint stays.
        """
        if not self.team.leads:
            while self._goes_on():
                self._learn()
                self.progress.epoch += 1
            return
        self.last_path.parent.mkdir(parents=True, exist_ok=True)
        log = TrainingLog(self.folder, self.progress.epoch)
        if self.clock is not None:
            self.clock.begin(self.progress.epoch)
        try:
            while self._goes_on():
                on_epoch(self._epoch(log))
        finally:
            log.close()

    def _goes_on(self) -> bool:
        """Whether there is another epoch: not after the last, nor after many that brought nothing."""
        idle = self.progress.epoch - self.progress.best_epoch
        settled = bool(self.spec.patience) and idle >= self.spec.patience
        return self.team.agreed(self.progress.epoch < self.epochs and not settled)

    def _learn(self) -> float:
        """The steps of an epoch, of which each process computes its share; their mean loss."""
        total = self.spec.steps_per_epoch
        self.epochs = self.team.agreed(self.epochs)
        order = self.team.agreed(self.sampler.order(total * self.spec.batch, self.generator))
        if not self.team.leads:  # its patches are its own, and the same after a resumption
            seed = self.spec.seed + 1_000_003 * (self.progress.epoch * self.team.size + self.team.rank)
            self.generator.manual_seed(seed % 2**63)
            torch.manual_seed(seed % 2**63)
        losses = [self.step(batch) for batch in self._batches(order, total)]
        return self.team.mean(sum(losses) / len(losses))

    def _epoch(self, log: TrainingLog) -> Epoch:
        start = time.monotonic()
        mean_loss = self._learn()
        found = dict(self.validate(self.averaged.tensors))
        known = [value for value in found.values() if not math.isnan(value)]
        score = sum(known) / len(known) if known else 0.0
        self.progress.epoch += 1
        self.progress.averaged = self.averaged.updates
        better = not known or score > self.progress.best
        if better:
            self.progress.best_epoch = self.progress.epoch
        self.progress.best = max(score, self.progress.best)
        self.progress.seconds += time.monotonic() - start
        if better:
            checkpoints.save(self.best_path, Checkpoint(dict(self.averaged.tensors), {"score": score}))
        rate = self.optimizer.param_groups[0]["lr"]
        scores = {f"{self.measure.lower()}/{name}": value for name, value in found.items()}
        log.add(
            self.progress.epoch,
            {"loss": mean_loss, "learning_rate": rate, "seconds": self.progress.seconds, **scores},
        )
        if self.clock is not None:
            self.epochs = self.clock.fitting(self.progress.epoch, self.epochs)
        self.save()
        left = (self.epochs - self.progress.epoch) * self.progress.seconds / self.progress.epoch
        progress = self.progress
        return Epoch(progress.epoch, self.epochs, mean_loss, found, self.measure, progress.best, left)

    def step(self, batch: Batch) -> float:
        """One optimiser step; the loss."""
        images = batch.images.to(self.device, memory_format=MEMORY_FORMATS[batch.images.ndim - 2])
        labels = batch.labels.to(self.device)
        total = self.epochs * self.spec.steps_per_epoch
        frozen = frozen_from(total, self.spec)
        self.network.train()
        for module in self.frozen:
            module.eval()
        if self.progress.step >= frozen:
            freeze_norms(self.network, self.averaged, first=self.progress.step == frozen)
        rate = learning_rate(self.progress.step, total, self.spec)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype is not None):
            lesson = None if batch.objects is None else Lesson(labels, batch.objects)
            logits, of_objects = self.ask(images, batch.phase, lesson)
        answers = self.asked.answers(logits, labels, batch.phase)
        if isinstance(self.loss, Scheduled):
            self.loss.progress = self.progress.step / total
        loss = reduce(operator.add, map(self._part, answers))
        loss = loss if of_objects is None else loss + of_objects
        value = float(loss.detach())
        self._require_finite("loss", value, batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.spec.clip_norm)
        self._require_finite("norm of the gradient", float(norm), batch)
        self.optimizer.step()
        self.averaged.update(self.network)
        self.progress.step += 1
        return value

    def _require_finite(self, what: str, value: float, batch: Batch) -> None:
        if not math.isfinite(value):
            raise SelfCheckError(
                f"the {what} is {value} at step {self.progress.step} (cases {', '.join(batch.case_ids)})",
                source=self.folder,
                hint="lower training.learning_rate, or run `medseg check` on the data",
            )

    def _part(self, answer: Answer) -> Tensor:
        """The loss of one answer, of voxels that are labelled, times its share."""
        measure_at(self.loss, answer.steps)
        kept = answer.labels != IGNORED
        if bool(kept.all()):
            loss: Tensor = self.loss(answer.logits.float(), self.target(answer.labels))
        else:
            known = answer.labels.where(kept, 0)
            loss = self.loss(answer.logits.float(), self.target(known), kept)
        return answer.share * loss

    def _batches(self, order: Sequence[int], total: int) -> Iterator[Batch]:
        """This process's part of the batches of an epoch; each is made while the one before is learnt."""
        size = self.spec.batch
        parts = [self.team.share(order[n * size : (n + 1) * size]) for n in range(total)]
        with ThreadPoolExecutor(1, "batches") as maker:
            start = self.progress.step
            coming = maker.submit(self.batch, parts[0], start)
            for n in range(1, total + 1):
                batch = coming.result()
                if n < total:
                    coming = maker.submit(self.batch, parts[n], start + n)
                yield batch

    def batch(self, case_numbers: Sequence[int], step: int) -> Batch:
        """One patch of each case given, as a step of that number takes them."""
        progress = step / (self.epochs * self.spec.steps_per_epoch)
        patches = [self._patch(number, progress) for number in case_numbers]
        cases = [self.cases[number] for number in case_numbers]
        objects = None
        if isinstance(self.network, Detecting):
            objects = [case.objects_in(label) for (_, label), case in zip(patches, cases, strict=True)]
        return Batch(
            case_ids=[case.case_id for case in cases],
            images=torch.stack([image for image, _ in patches]),
            labels=torch.stack([label for _, label in patches]),
            phase=self._phase(),
            objects=objects,
        )

    def _patch(self, number: int, progress: float) -> tuple[Tensor, Tensor]:
        case = self.cases[number]
        patch = self.sampler.draw(number, self.generator)
        return self.augmenter.draw(
            self.generator, case.image, case.labels, patch.centre, self.spec.patch, progress
        )

    def _phase(self) -> Phase | None:
        if not (self.spec.sampled_loss and isinstance(self.network, Phased)):
            return None
        return tuple(int(torch.randint(s, (), generator=self.generator)) for s in self.network.phases)

    def save(self) -> None:
        """Write the whole state to the last checkpoint."""
        tensors = {"generator": self.generator.get_state()}
        tensors |= {f"network/{key}": value for key, value in self.network.state_dict().items()}
        tensors |= {f"averaged/{key}": value for key, value in self.averaged.tensors.items()}
        moments = checkpoints.optimizer_tensors(self.optimizer)
        tensors |= {f"optimizer/{key}": value for key, value in moments.items()}
        tensors["torch_rng"] = torch.get_rng_state()
        checkpoints.save(self.last_path, Checkpoint(tensors, {"epochs": self.epochs, **vars(self.progress)}))

    def resume(self) -> str | None:
        """Go on from the last checkpoint of the first process, if there is one.

        Returns:
            A warning when a checkpoint was damaged and the one before it served.

        Raises:
            InputError: no checkpoint can be read, or it is of another network.
        """
        latest = checkpoints.load_latest(self.last_path) if self.team.leads else (None, None)
        found, warning = self.team.agreed(latest)
        if found is None:
            return None
        try:
            self._restore(found)
        except (RuntimeError, LookupError, ValueError) as fault:
            raise InputError(
                f"the checkpoint belongs to another training ({fault})",
                source=self.last_path,
                hint=checkpoints.MEND,
            ) from None
        best, best_warning = checkpoints.load_latest(self.best_path) if self.team.leads else (None, None)
        if best is not None and best_warning:
            self.progress.best = best.values["score"]
        return "; ".join(text for text in (warning, best_warning) if text) or None

    def _restore(self, found: Checkpoint) -> None:
        self.network.load_state_dict(found.section("network"))
        self.averaged.load(found.section("averaged"), found.values["averaged"])
        checkpoints.restore_optimizer(self.optimizer, found.section("optimizer"))
        self.generator.set_state(found.tensors["generator"])
        torch.set_rng_state(found.tensors["torch_rng"])
        kept = {"best_epoch": found.values["epoch"]} | dict(found.values)  # older ones do not state it
        self.progress = Progress(**{key: kept[key] for key in vars(self.progress)})

    def best_weights(self) -> dict[str, Tensor]:
        """The averaged weights of the epoch that scored best."""
        found, _ = checkpoints.load_latest(self.best_path)
        return dict(self.averaged.tensors) if found is None else found.tensors
