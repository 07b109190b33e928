"""Train a network of label maps on a machine that has torch and numpy alone, such as a borrowed GPU.

    python benchmarks/train_elsewhere.py pack --recipe brain --data FOLDER --folds 8 -o pack.tar
    (there)  tar xf pack.tar; python run.py --minutes 60      # again to go on; writes weights.npz
    python benchmarks/train_elsewhere.py unpack weights.npz -o start.safetensors
    medseg train brain --data FOLDER -o RUN --folds 8 --fold 0 --init start.safetensors

The pack holds the modules of medseg that compute, this file as `run.py`, the recipe as JSON, and the label
maps of the cases that train (cut to the head, as bytes). No case is named, and those that choose a
checkpoint or are measured stay at home. Scans are made by worker processes while the device trains, so the
order of the patches, and with it the result, is not the same twice. The rate of learning, the weights of
losses, and how hard the scans are, follow the share of the time or steps that has passed, from the first
call to the last. Losses that measure distances need edt and cc3d there too.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import itertools
import json
import math
import os
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

HERE = Path(__file__).resolve().parent
SETTINGS, MAPS, STATE, WEIGHTS = "settings.json", "maps.npz", "state.npz", "weights.npz"
LIMIT_BYTES = 60_000_000
MODULES = ("__init__", "core/*", "augment/*", "losses/*", "networks/*", "networks/*/*", "training/__init__",
           "training/sampling", "training/spec", "training/schedule", "training/processor")  # fmt: skip
STAND_IN = (
    '"""Names that the networks mention; none of these finds objects."""\n\n'
    "Norm = NetworkSpec = Option = object\nDETECTORS = ()\n"
)
LOOKS = 20
"""Steps between two looks at the loss, each of which waits for the device."""


def main() -> None:
    if (HERE / SETTINGS).exists():
        parser = argparse.ArgumentParser(description="Train what the pack describes; call again to go on.")
        length = parser.add_mutually_exclusive_group(required=True)
        length.add_argument("--minutes", type=float, help="of training, all calls together")
        length.add_argument("--steps", type=int, help="of training, all calls together")
        parser.add_argument("--batch", type=int, help="patches a step, instead of the recipe's")
        parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
        parser.add_argument("--workers", type=int, default=max(1, len(os.sched_getaffinity(0)) - 1))
        parser.add_argument("--save-minutes", type=float, default=3.0, help="between two checkpoints")
        run(parser.parse_args())
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    packing = verbs.add_parser("pack", help="recipe, label maps and code as one tar file")
    packing.add_argument("--recipe", required=True)
    packing.add_argument("--data", type=Path, required=True)
    packing.add_argument("--folds", type=int, default=5)
    packing.add_argument("--fold", type=int, default=0)
    packing.add_argument("-o", "--output", type=Path, required=True)
    unpacking = verbs.add_parser("unpack", help="a model file of the weights that came back")
    unpacking.add_argument("weights", type=Path)
    unpacking.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    if given.verb == "pack":
        pack(given)
    else:
        unpack(given.weights, given.output)


def pack(given: argparse.Namespace) -> None:
    """Write the tar file; a recipe without label maps, or a pack of 60 MB or more, is refused."""
    import medseg
    from medseg.core import specs
    from medseg.data.cards import load_card
    from medseg.data.synthetic import SyntheticCases
    from medseg.training.package import provenance
    from medseg.training.recipe import load_recipe
    from medseg.training.split import make_split

    recipe = load_recipe(given.recipe)
    card = load_card(recipe.card)
    recipe = recipe.fitted_to(card)
    if recipe.synthesis is None:
        sys.exit(f"{given.recipe} is no recipe for label maps: it has no [synthesis] section")
    files = {case.case_id: case for case in card.read(given.data).cases}
    split = make_split(
        {name: case.group for name, case in files.items()},
        folds=given.folds,
        fold=given.fold,
        selection_share=recipe.training.selection_share,
        seed=recipe.training.seed,
    )
    maker = SyntheticCases(card, recipe.synthesis, recipe.training.seed)
    maps = [maker.generation_map(files[name]) for name in split.train]
    settings = {
        "recipe": specs.to_mapping(dataclasses.replace(recipe, card=card.name)),
        "channels": card.channels,
        "structures": [dataclasses.asdict(s) for s in card.structure_set],
        "tissues": [dataclasses.asdict(t) for t in card.tissues],
        "training": specs.to_mapping(provenance(recipe, card, split)),
    }
    home = Path(medseg.__file__).parent
    with tarfile.open(given.output, "w") as tar:
        for path in sorted(p for name in MODULES for p in home.glob(f"{name}.py")):
            _add(tar, f"medseg/{path.relative_to(home).as_posix()}", path.read_bytes())
        _add(tar, "medseg/model/__init__.py", b"")
        _add(tar, "medseg/model/spec.py", STAND_IN.encode())
        _add(tar, "run.py", Path(__file__).read_bytes())
        _add(tar, SETTINGS, json.dumps(settings, indent=1).encode())
        _add(tar, MAPS, _npz({str(n): m for n, m in enumerate(maps)}))
    size = given.output.stat().st_size
    if size >= LIMIT_BYTES:
        given.output.unlink()
        sys.exit(f"the pack would have {size / 1e6:.0f} MB; the limit is {LIMIT_BYTES / 1e6:.0f} MB")
    print(json.dumps({"pack": str(given.output), "bytes": size, "maps": len(maps)}))


def run(given: argparse.Namespace) -> None:
    """Train here; what is needed to go on, and the averaged weights, are written every few minutes."""
    sys.path.insert(0, str(HERE))
    session = Session(given)
    started = saved = time.monotonic()
    before = session.seconds
    try:
        for images, labels in session.patches():
            session.seconds = before + time.monotonic() - started
            if session.finished():
                break
            session.learn(images, labels)
            if time.monotonic() - saved > 60 * given.save_minutes:
                session.save()
                saved = time.monotonic()
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
    session.save()
    print(json.dumps({"steps": session.step, "seconds": round(session.seconds), "loss": session.loss}))


class Session:
    """A training, from what the pack says and what an earlier call left."""

    def __init__(self, given: argparse.Namespace) -> None:
        from medseg.augment.spec import SynthesisSpec, Tissue
        from medseg.augment.synthesis import Synthesiser, TissueTable
        from medseg.core.structures import Structure, StructureSet
        from medseg.core.structuring import structured
        from medseg.losses import registry as losses
        from medseg.losses.spec import LossSpec
        from medseg.networks import registry as networks
        from medseg.networks.arithmetic import guard_convolutions
        from medseg.training.processor import autocast_dtype
        from medseg.training.sampling import PatchSampler
        from medseg.training.schedule import AveragedWeights, build_optimizer
        from medseg.training.spec import TrainingSpec

        self.given, self.settings = given, json.loads((HERE / SETTINGS).read_text())
        recipe = self.settings["recipe"]
        structures = StructureSet(tuple(structured(Structure, s) for s in self.settings["structures"]))
        tissues = tuple(structured(Tissue, t) for t in self.settings["tissues"] if t["value"] != 0)
        self.spec = structured(TrainingSpec, recipe["training"])
        self.batch = given.batch or self.spec.batch
        self.device = torch.device(given.device)
        with np.load(HERE / MAPS) as maps:
            self.maps = [torch.from_numpy(maps[key]) for key in sorted(maps.files, key=int)]
        self.maker = Synthesiser(
            structured(SynthesisSpec, recipe["synthesis"]),
            TissueTable(tissues, structures),
            recipe["preparation"]["spacing_mm"],
        )
        self.sampler = PatchSampler(
            [self.maker.target(m) for m in self.maps],
            self.maker.source_shape(self.spec.patch),
            self.spec.foreground_share,
        )
        torch.manual_seed(self.spec.seed)
        network = networks.build(SimpleNamespace(**recipe["network"]))
        self.network = network.to(self.device, memory_format=torch.channels_last_3d).train()
        self.lossy = losses.build(
            structured(LossSpec, recipe["loss"]),
            regions=False,
            spacing_mm=recipe["preparation"]["spacing_mm"],
        )
        self.dtype = autocast_dtype(self.device, self.spec.precision)
        if self.dtype is not None:
            guard_convolutions(self.network)
        self.optimizer = build_optimizer(self.network, self.spec)
        self.averaged = AveragedWeights(self.network, self.spec.ema_decay)
        self.step, self.seconds, self.loss, self.frozen = 0, 0.0, math.nan, False
        self.share = torch.zeros((), dtype=torch.float64).share_memory_()
        torch.backends.cudnn.benchmark = True
        if (HERE / STATE).exists():
            self.resume()

    def patches(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Batches of images (B, 1, i, j, k) and targets (B, i, j, k), without end."""
        workers = self.given.workers
        self.share.fill_(self.done())
        stream = _Stream(self.maps, self.maker, self.sampler, self.spec, self.share, start=self.step)
        return iter(
            DataLoader(
                stream,
                batch_size=self.batch,
                num_workers=workers,
                pin_memory=self.device.type == "cuda",
                prefetch_factor=4 if workers else None,
            )
        )

    def total(self) -> int:
        """Steps the whole training has, as far as its speed so far tells."""
        if self.given.steps is not None:
            return int(self.given.steps)
        if self.step < LOOKS:
            return 1_000_000
        return max(self.step + 1, round(self.step * 60 * self.given.minutes / self.seconds))

    def done(self) -> float:
        """Share of the whole training that has passed."""
        if self.given.steps is not None:
            return float(self.step / self.given.steps)
        return float(self.seconds / (60 * self.given.minutes))

    def finished(self) -> bool:
        return self.done() >= 1.0

    def learn(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        """One step of the optimiser, as `medseg train` does it."""
        from medseg.losses.distances import measure_at
        from medseg.losses.scheduled import Scheduled
        from medseg.training.schedule import freeze_norms, frozen_from, learning_rate

        total = self.total()
        if isinstance(self.lossy, Scheduled):
            self.lossy.progress = min(1.0, self.done())
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, total, self.spec)
        self.network.train()
        if self.frozen or self.step >= frozen_from(total, self.spec):
            freeze_norms(self.network, self.averaged, first=not self.frozen)
            self.frozen = True
        images = images.to(self.device, non_blocking=True, memory_format=torch.channels_last_3d)
        target = labels.to(self.device, non_blocking=True).long()
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype is not None):
            logits, target, steps = self._answer(images, target)
        measure_at(self.lossy, steps)
        loss = self.lossy(logits.float(), target)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.spec.clip_norm)
        self.optimizer.step()
        self.averaged.update(self.network)
        self.step += 1
        self.share.fill_(self.done())
        if self.step % LOOKS == 0 or self.step == 1:
            self.loss = float(loss.detach())
            print(f"step {self.step} of {total}, {self.seconds:.0f} s, loss {self.loss:.4f}", file=sys.stderr)

    def _answer(
        self, images: torch.Tensor, target: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, tuple[int, ...]]:
        """Logits, the targets of the voxels they are of, all or those of one phase, and their stride."""
        from medseg.networks.layers import Phased

        if not (self.spec.sampled_loss and isinstance(self.network, Phased)):
            return self.network(images), target, ()
        steps = self.network.phases
        phase = tuple(int(torch.randint(s, ())) for s in steps)
        taken = (slice(None), *(slice(p, None, s) for p, s in zip(phase, steps, strict=True)))
        return self.network.at_phase(images, phase), target[taken], steps

    def save(self) -> None:
        """The state, and the averaged weights with what is known about them; not if they are spoilt."""
        if not all(bool(v.isfinite().all()) for v in self.averaged.tensors.values()):
            sys.exit(f"weights are not finite after step {self.step}; the last checkpoint stays")
        arrays = {f"network/{k}": v for k, v in self.network.state_dict().items()}
        arrays |= {f"averaged/{k}": v for k, v in self.averaged.tensors.items()}
        for number, entry in self.optimizer.state_dict()["state"].items():
            arrays |= {f"optimizer/{number}/{name}": torch.as_tensor(v) for name, v in entry.items()}
        progress = [self.step, self.seconds, self.averaged.updates, self.frozen]
        _write(HERE / STATE, _npz({k: v.cpu().numpy() for k, v in arrays.items()} | {"progress": progress}))
        done = {"steps": self.step, "seconds": round(self.seconds), "device": self.device.type}
        told = json.dumps(self.settings | {"training": self.settings["training"] | done})
        weights = {f"weight/{k}": v.cpu().numpy() for k, v in self.averaged.tensors.items()}
        _write(HERE / WEIGHTS, _npz(weights | {"settings": np.frombuffer(told.encode(), np.uint8)}))

    def resume(self) -> None:
        with np.load(HERE / STATE) as stored:
            arrays = {key: torch.from_numpy(stored[key]) for key in stored.files}
        self.step, self.seconds, updates, self.frozen = (
            kind(v) for kind, v in zip((int, float, int, bool), arrays["progress"].tolist(), strict=True)
        )
        self.network.load_state_dict(_section(arrays, "network/"))
        self.averaged.load(_section(arrays, "averaged/"), updates)
        state: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in _section(arrays, "optimizer/").items():
            number, name = key.split("/", 1)
            state.setdefault(int(number), {})[name] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})


class _Stream(IterableDataset):  # type: ignore[type-arg]
    """Scans and targets, another stream of them in each worker and after each start.

    `share` lies in memory that the workers see: the share of the training that is done, for the curriculum.
    """

    def __init__(
        self,
        maps: list[torch.Tensor],
        maker: Any,
        sampler: Any,
        spec: Any,
        share: torch.Tensor,
        *,
        start: int,
    ) -> None:
        self.maps, self.maker, self.sampler, self.spec = maps, maker, sampler, spec
        self.share, self.start = share, start

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        worker = get_worker_info()
        if worker is not None:
            torch.set_num_threads(1)
        number = 0 if worker is None else worker.id
        seed = np.random.SeedSequence([self.spec.seed, self.start, number]).generate_state(1, np.uint32)[0]
        generator = torch.Generator().manual_seed(int(seed))
        nothing = torch.empty(0)
        for case in itertools.chain.from_iterable(iter(lambda: self.sampler.order(1000, generator), [])):
            patch = self.sampler.draw(case, generator)
            share = min(1.0, float(self.share))
            yield self.maker.draw(generator, nothing, self.maps[case], patch.centre, self.spec.patch, share)


def unpack(weights: Path, output: Path) -> None:
    """Write a model file: the weights, the network's graph, and what they were trained on; no evidence."""
    from medseg.core import specs
    from medseg.core.structures import Structure
    from medseg.inference.engines.torch import to_graph
    from medseg.model.file import Model
    from medseg.model.provenance import Provenance
    from medseg.model.spec import ModelSpec
    from medseg.networks import registry
    from medseg.training.recipe import Recipe
    from medseg.training.setup import facts_of

    with np.load(weights) as stored:
        settings = json.loads(stored["settings"].tobytes())
        arrays = {k.removeprefix("weight/"): stored[k] for k in stored.files if k.startswith("weight/")}
    recipe = specs.from_mapping(Recipe, settings["recipe"], source=str(weights))
    network = registry.build(recipe.network)
    network.load_state_dict({key: torch.from_numpy(value) for key, value in arrays.items()})
    inference = dataclasses.replace(recipe.inference, tile=recipe.inference.tile or recipe.training.patch)
    spec = ModelSpec(
        name=recipe.name,
        network=recipe.network,
        facts=facts_of(network),
        channels=tuple(settings["channels"]),
        structures=tuple(
            specs.from_mapping(Structure, s, source=str(weights)) for s in settings["structures"]
        ),
        preparation=recipe.preparation,
        inference=inference,
        postprocess=recipe.postprocess,
        training=specs.from_mapping(Provenance, settings["training"], source=str(weights)),
    )
    graph = to_graph(network, recipe.network.in_channels, recipe.network.spatial_dims)
    Model(spec, arrays, graph).save(output)
    print(json.dumps({"model": str(output), "bytes": output.stat().st_size, **settings["training"]}))


def _section(arrays: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}


def _npz(arrays: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)
    return out.getvalue()


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_bytes(data)
    temporary.replace(path)


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))


if __name__ == "__main__":
    main()
