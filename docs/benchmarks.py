"""Write docs/benchmarks.md, and the headline figures of README.md, from benchmarks/results/*.json.

    python docs/benchmarks.py          # after a benchmark wrote its result, or a row was changed

The rows' sentences lie in docs/benchmarks.toml.
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
ROWS, PAGE = ROOT / "docs" / "benchmarks.toml", ROOT / "docs" / "benchmarks.md"
README = ROOT / "README.md"
HEADLINES = re.compile(r"(?<=<!-- python docs/benchmarks.py -->\n).*?(?=<!-- end -->)", re.DOTALL)
WEIGHTS = ROOT / "medseg" / "weights" / "hippocampus.safetensors"
RESULTS = ROOT / "benchmarks" / "results"

HEAD = """# What was measured

Written by `python docs/benchmarks.py` from the lines that the commands printed (`benchmarks/results/`) and
from the rows of `docs/benchmarks.toml`.

Two cores of a cloud machine, no GPU. Unless a row says otherwise, the processor has AVX-512 and no bf16, and
everything is computed in f32. Ratios are of runs side by side. There are no figures of a GPU. A figure that
misses its target is marked **not reached**.
"""

LOSSES = """
## Losses

The hippocampus network from the same start with each loss, {steps} steps, Dice on {cases} unseen cases:
`python benchmarks/training.py losses --threads 1 --epochs 8`. It is one training each, so small differences
mean nothing. Lovász alone does not start from scratch in that time; a recipe can begin with another loss and
change over.

| loss | anterior | posterior |
|---|---|---|
"""

NETWORKS = """
## Networks of the lectures

Recipes of the hippocampus set, each trained for {budget} on two cores ({processor}; reading, validations and
the measurement included): Dice on {cases} unseen cases, and what the network takes for a scan of 128^3
voxels in f32, the median of three processes: `python benchmarks/zoo.py networks --budget {budget}`. So short
a training shows how soon a network learns, not what it can reach: where validations of a large network take
most of the time, few steps are left. Names with `slices_` are of two dimensions; that of HRNet had time for
one step, and its row tells its cost alone.

| recipe | anterior | posterior | steps | million parameters | seconds of a scan | peak GiB |
|---|---|---|---|---|---|---|
"""

DETECTORS = """
## Networks that find objects one by one

Bodies of two kinds that touch (`medseg phantom --layout touching`): each network is trained for {budget} on
{trained} boxes of 48^3 voxels, and measured on the {objects} objects of {measured} others: average precision
of masks at an overlap (IoU) of 0.1, 0.5 and 0.75. Components and their watershed are of the same network's
label map; of two depths of the watershed, the better counts. `python benchmarks/instances.py networks
--budget {budget}`, on two cores ({processor}). So short a training tells how soon a network learns, not how
good it can become: those of two stages have half the steps or less.

| network | AP 0.1 | 0.5 | 0.75 | components 0.5 | watershed 0.5 | steps | million weights | seconds a box |
|---|---|---|---|---|---|---|---|---|
"""


class RowError(Exception):
    """A row does not fit its result."""


def results() -> dict[str, Any]:
    """Each result of one line, by its file's name without suffix, and what is derived from them."""
    lines = {path.stem: path.read_text("utf-8").splitlines() for path in sorted(RESULTS.glob("*.json"))}
    found: dict[str, Any] = {name: json.loads(text[0]) for name, text in lines.items() if len(text) == 1}
    return found | derived(found)


def derived(found: dict[str, Any]) -> dict[str, Any]:
    """The figures that are a sum or an extreme of several in one result."""
    kills = [
        found[f"reliability_{name}"]["kills"][name]
        for name in ("training", "prediction", "evaluation", "conversion")
    ]
    masks = [d for p in found["brain_real"]["brats_brain_mask_outside_tumour"].values() for d in p.values()]
    flags, mutants = found["flags"], found["mutants"]
    header = WEIGHTS.read_bytes()
    length = int.from_bytes(header[:8], "little")
    spec = json.loads(json.loads(header[8 : 8 + length])["__metadata__"]["spec"])
    rows = spec["evidence"]["validation"]
    shares = sorted(one["share_in_the_network"] for one in found["training_share"]["recipes"].values())
    limited = found["memory"]["limited"]["timing_s"]
    return {
        "second_share": shares[1],
        "recipes_shared": len(shares),
        "restored_share": limited["restore"] / limited["engine"],
        "packaged_hippocampus": {r["structure"]: r["mean"] for r in rows if r["metric"] == "dice"},
        "header_flips": {
            name: f"{sum(flip['follows'] for flip in flips)} of {len(flips)}"
            for name in ("orientation", "orientation_brain")
            for flips in [found[name]["header_flips"]]
        },
        "least_head": min(found["brain_heads"]["dice_by_head"]["refined"].values()),
        "least_gain": min(found["brain_kinds"]["gain"].values()),
        "least_mask": min(masks),
        "largest_mask": max(masks),
        "least_bf16": min(found["inference_end_to_end_bf16"]["bf16"]["dice with f32"].values()),
        "largest_window": max(s["largest_difference"] for s in found["tiling"]["sliding_window"]["settings"]),
        "oracle_failures": len(found["metrics_oracles"]["failures"]),
        "faults_flagged": sum(flags["faults_flagged"].values()),
        "faults_planted": flags["draws"] * len(flags["faults_flagged"]),
        "clean_flagged": sum(flags["clean_pages_flagged"]),
        "clean_pages": flags["draws"] * flags["clean_pages_a_draw"],
        "fuzz_kinds": len(found["reliability_fuzz"]["formats"]),
        "torn": sum(kill["torn"] for kill in kills),
        "lost": sum(kill["lost"] for kill in kills),
        "mutants_tried": sum(mutants["tried"].values()),
        "mutants_all": sum(mutants["there_are"].values()),
        "mutants_equivalent": len(mutants["equivalent"]),
    }


def page() -> str:
    """What docs/benchmarks.md has to say."""
    found = results()
    parts = [HEAD]
    for section in tomllib.loads(ROWS.read_text("utf-8"))["section"]:
        parts.append(f"\n## {section['title']}\n\n| what | figure | target | command |\n|---|---|---|---|\n")
        parts += [_line(row, found) for row in section["row"]]
    return "".join(
        [
            *parts,
            *_losses(found["training_losses"]),
            *_networks(found["zoo_networks"]),
            *_detectors(found["instances_networks"]),
        ]
    )


def _line(row: dict[str, str], found: dict[str, Any]) -> str:
    what, figure, target = (row.get(key, "-").format_map(found) for key in ("what", "figure", "target"))
    if "result" in row and ("**not reached**" in target) == found[row["result"]]["pass"]:
        word = "reached" if found[row["result"]]["pass"] else "not reached"
        raise RowError(f"{row['result']} was {word}, and its row in {ROWS.name} says otherwise: {what}")
    command = row["command"] if row["command"] == "the same" else f"`{row['command']}`"
    return f"| {what} | {figure} | {target} | {command} |\n"


def _losses(result: dict[str, Any]) -> list[str]:
    training = next(iter(result["trainings"].values()))
    head = LOSSES.format(steps=training["steps"], cases=training["cases_measured"])
    return [
        head,
        *(f"| {n} | {d['anterior']:.3f} | {d['posterior']:.3f} |\n" for n, d in result["dice"].items()),
    ]


def _networks(result: dict[str, Any]) -> list[str]:
    trained = result["networks"]
    cases = next(iter(trained.values()))["cases_measured"]
    head = NETWORKS.format(budget=result["budget"], processor=result["processor"], cases=cases)
    rows = (
        f"| `{name}` | {one['dice']['anterior']:.3f} | {one['dice']['posterior']:.3f} | {one['steps']:,} | "
        f"{one['million parameters']:.2f} | {one['seconds of a scan']:.1f} | {one['peak gib']:.2f} |\n"
        for name, one in trained.items()
    )
    return [head, *rows]


def _detectors(result: dict[str, Any]) -> list[str]:
    first = next(iter(result["networks"].values()))
    head = DETECTORS.format(
        budget=first["budget"], processor=result["processor"], objects=first["objects"], **first["cases"]
    )
    rows = []
    for name, one in result["networks"].items():
        own, ways = one["precision"]["network"], one["precision"]
        cut = max(ap["AP at 0.5"] for way, ap in ways.items() if way.startswith("watershed"))
        precision = " | ".join(f"{own[f'AP at {iou}']:.3f}" for iou in ("0.1", "0.5", "0.75"))
        cost = f"{one['steps']} | {one['million parameters']:.2f} | {one['seconds of a prediction']:.2f}"
        rows.append(
            f"| `{name}` | {precision} | {ways['components']['AP at 0.5']:.3f} | {cut:.3f} | {cost} |\n"
        )
    return [head, *rows]


def readme() -> str:
    """The README with the figures of the rows that have a headline."""
    found = results()
    rows = [row for s in tomllib.loads(ROWS.read_text("utf-8"))["section"] for row in s["row"]]
    lines = [f"- {row['headline'].format_map(found)}\n" for row in rows if "headline" in row]
    return HEADLINES.sub(lambda _: "".join(lines), README.read_text("utf-8"))


def main() -> None:
    """Write the page, and the headlines of the README."""
    PAGE.write_text(page(), "utf-8")
    README.write_text(readme(), "utf-8")


if __name__ == "__main__":
    main()
