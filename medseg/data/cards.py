"""Cards describe a dataset in TOML; unknown keys are errors, as they are in recipes (`recipes`)."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeVar

from medseg.augment.spec import Tissue
from medseg.core import specs
from medseg.core.errors import InputError, UsageError, unknown_name
from medseg.core.specs import left_out
from medseg.core.structures import Structure, StructureSet, Total, from_labels
from medseg.data.layouts import LAYOUTS, CaseFiles, DatasetFiles, detect, read_layout
from medseg.data.layouts.case import plain
from medseg.data.objects import Told
from medseg.io import ReadOptions

CORRECTED = "monailabel"
"""The layout of folders in which cases of a dataset are corrected, whatever the layout of the dataset is."""
T = TypeVar("T")
Kind = Literal["datasets", "pipelines"]


@dataclass(frozen=True)
class Card:
    """A dataset.

    Attributes:
        name: of the dataset.
        description: one sentence.
        layout: where its files are.
        channels: names of the images of a case, in the files' order.
        structures: what its label values mean.
        licence: of the data.
        source: where it comes from.
        citation: whom to cite.
        weights_may_be_shared: whether the licence lets models trained on it be passed on.
        tissues: of a dataset of label maps without images: what each value is painted like.
        totals: volumes to report that several structures make up together.
        ignore: label value of unlabelled voxels, of which nothing is learnt or measured.
        instances: how single objects are told apart, for networks that find them: "components", "values" or
            "file", see `data.objects`; "" for not at all.

    Raises:
        UsageError: the layout does not exist.
    """

    name: str
    description: str
    layout: str
    channels: tuple[str, ...]
    structures: tuple[Structure, ...]
    licence: str = ""
    source: str = ""
    citation: str = ""
    weights_may_be_shared: bool = False
    tissues: tuple[Tissue, ...] = ()
    totals: tuple[Total, ...] = ()
    ignore: int | None = None
    instances: Told = left_out("")

    def __post_init__(self) -> None:
        if not LAYOUTS.knows(self.layout):
            raise unknown_name("layout", self.layout, LAYOUTS.names())

    @property
    def structure_set(self) -> StructureSet:
        """The structures, with the sides and twins their names state.

        Raises:
            UsageError: they contradict each other, a value is below 0, or a region could not be told from
                what it writes.
        """
        structures = from_labels(self.structures, self.ignore)
        if self.instances == "values" and len(structures) != 1:
            raise UsageError(
                f'instances = "values" makes each label value an object of one structure, and the card '
                f"{self.name} has {len(structures)}",
                hint='keep one structure, or use "components" or "file"',
            )
        for s in structures:
            least = min(s.value, *s.label_values)
            if least < 0:
                raise UsageError(
                    f"the structure {s.name!r} has the label value {least}, and the values of structures are "
                    "1 and more",
                    hint="write another value in the label files",
                )
            if s.members and s.value not in s.members:
                raise UsageError(f"the region {s.name!r} writes {s.value}, which is not one of its members")
        return structures

    def read(
        self, folder: Path, *, complete: bool = True, reading: ReadOptions | None = None
    ) -> DatasetFiles:
        """The cases in a folder.

        Args:
            folder: of the dataset.
            complete: refuse a missing file here and now.
            reading: decisions that the files leave open.

        Raises:
            InputError: the folder's own label or channel names contradict the card.
        """
        layout = CORRECTED if detect(folder) == CORRECTED else self.layout
        found = read_layout(folder, layout, complete=complete).read_with(reading or ReadOptions())
        fault = self._contradiction(found)
        if fault:
            raise InputError(fault, source=folder / "dataset.json", hint="use the card of this dataset")
        if not found.channels:
            return found
        return replace(found, cases=tuple(self._named(case) for case in found.cases))

    def adopting(self, found: DatasetFiles) -> Card:
        """The card with the ignored label of its folder, if the card has none itself."""
        return self if found.ignore is None else replace(self, ignore=found.ignore)

    def _named(self, case: CaseFiles) -> CaseFiles:
        """A case whose channels have the card's names, where the folder spells them in another way."""
        if not case.channels:
            return case
        return replace(case, channels=dict(zip(self.channels, case.channels.values(), strict=True)))

    def _contradiction(self, found: DatasetFiles) -> str:
        """What a folder says otherwise than the card; empty where they agree."""
        names = {s.value: s.name for s in self.structures if not s.members}
        known = self.structure_set.known_values
        for value, name in found.labels.items():
            if value not in known:
                return f"label {value} ({name!r}) is not in the card {self.name}"
            if value in names and plain(names[value]) != plain(name):
                return f"label {value} is {name!r} here and {names[value]!r} in the card {self.name}"
        if found.ignore is not None and (self.ignore not in (None, found.ignore) or found.ignore in known):
            return f"label {found.ignore} is the ignored label here, and not in the card {self.name}"
        regions = {plain(s.name): set(s.members) for s in self.structures}
        for region in found.regions:
            if regions.get(plain(region.name), set()) != set(region.members):
                values = ", ".join(map(str, region.members))
                return f"the region {region.name!r} of {values} is not in the card {self.name}"
        if found.channels and [plain(n) for n in found.channels] != [plain(n) for n in self.channels]:
            return (
                f"has the channels {', '.join(found.channels)}; "
                f"the card {self.name} has {', '.join(self.channels)}"
            )
        return ""


def load_card(name: str | Path) -> Card:
    """A card by path, or by the name of one that comes with the package.

    Raises:
        UsageError: there is none, or a setting is unknown or wrong.
    """
    return load_toml(Card, name, "datasets")


def available(kind: Kind) -> dict[str, Path]:
    """The cards or recipes that come with the package, by name."""
    folder = _folder(kind)
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def _folder(kind: str) -> Path:
    """Inside the installed package, or beside it in a checkout."""
    package = Path(str(resources.files("medseg")))
    installed = package / "_cards" / kind
    if installed.is_dir():
        return installed
    if (package.parent / "pyproject.toml").is_file():
        return package.parent / kind
    raise InputError(
        "was installed without its cards and recipes", source=package, hint="install medseg again"
    )


def load_toml(cls: type[T], name: str | Path, kind: Kind) -> T:
    """The content of a TOML file, by path or by the name of one that comes with the package.

    Raises:
        UsageError: there is none, or a setting is unknown or wrong.
    """
    path, data = read_toml(name, kind)
    return specs.from_mapping(cls, data, source=str(path))


def read_toml(name: str | Path, kind: Kind) -> tuple[Path, dict[str, Any]]:
    """The place of a TOML file, and what it says.

    Raises:
        UsageError: there is none.
    """
    path = Path(name)
    if path.suffix != ".toml":
        known = available(kind)
        if str(name) not in known:
            what = "recipe" if kind == "pipelines" else "card"
            raise unknown_name(what, str(name), known)
        path = known[str(name)]
    try:
        data: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as fault:
        raise UsageError.unreadable(fault, path) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise UsageError(f"is not TOML ({fault})", source=path) from None
    return path, data
