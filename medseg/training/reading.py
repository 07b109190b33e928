"""Cases of a training, read and prepared before the first step, and what is to be said of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from medseg.core.errors import counted
from medseg.core.structures import StructureSet
from medseg.core.volume import LabelMap, Volume
from medseg.data.cards import Card
from medseg.data.cases import (
    PreparedCase,
    Reader,
    ignored_share,
    much_ignored,
    prepare_cases,
    without_voxels,
)
from medseg.data.layouts import CaseFiles
from medseg.findings.finding import gathered
from medseg.preparation.preparation import Preparation
from medseg.training.differences import Digests
from medseg.training.split import Split

Say = Callable[[str], None]


def learnable(
    files: Mapping[str, CaseFiles],
    split: Split,
    read: Reader,
    preparation: Preparation,
    card: Card,
    say: Say,
) -> tuple[dict[str, PreparedCase], Digests]:
    """The cases that train and that choose the checkpoint, and the digests of all that were read.

    Args:
        files: of every case, by its id.
        split: which have what part.
        read: reads a case.
        preparation: of a scan for the network.
        card: of the dataset.
        say: called with all that is to be said of the cases.

    Raises:
        InputError: there is nothing to learn.
    """
    listening = _Listening(read)
    cases, digests = _prepared(files, split, listening, preparation, card, say)
    listening.tell(say)
    _require_learnable(cases, split, card.structure_set, say)
    if ignored := much_ignored(listening.ignored, card.ignore):
        say(f"note: {ignored}")
    return cases, digests


def _prepared(
    files: Mapping[str, CaseFiles],
    split: Split,
    read: Reader,
    preparation: Preparation,
    card: Card,
    say: Say,
) -> tuple[dict[str, PreparedCase], Digests]:
    """The cases that train and that choose the checkpoint, and the digests of all.

    Those measured at the end are read and prepared too, so that none is found unusable after hours.
    """
    kept = (*split.train, *split.selection)
    names = (*kept, *split.validation)
    say(f"reading {counted(len(names), 'case')}")
    prepared: dict[str, PreparedCase] = {}
    digests: dict[str, Mapping[str, str]] = {}
    for case in prepare_cases((files[n] for n in names), read, card.structure_set, preparation):
        digests[case.case_id] = case.digests
        if case.case_id in kept:
            prepared[case.case_id] = case
    return prepared, digests


def _require_learnable(
    cases: Mapping[str, PreparedCase], split: Split, structures: StructureSet, say: Say
) -> None:
    """Warn of structures that no case trains.

    Raises:
        InputError: there is no other.
    """
    fault, said = without_voxels((cases[n].volumes_ml for n in split.train), structures, "training case")
    if fault is not None:
        raise fault
    for text in said:
        say(f"warning: {text}")
    if not any(case.whole for case in cases.values()):
        say("warning: no case is labelled in full, so the model will not notice an implausible volume")


class _Listening:
    """Reads cases, and remembers what their label files say of themselves, and how much is to be ignored."""

    def __init__(self, read: Reader) -> None:
        self.read = read
        self.heard: dict[str, tuple[str, ...]] = {}
        self.ignored: dict[str, float] = {}

    def __call__(self, files: CaseFiles) -> tuple[Volume, LabelMap]:
        volume, labels = self.read(files)
        self.heard[files.case_id] = labels.warnings
        self.ignored[files.case_id] = ignored_share(labels)
        return volume, labels

    def tell(self, say: Say) -> None:
        sentences = [(name, text) for name, texts in self.heard.items() for text in texts]
        for text in gathered(sentences, len(self.heard)):
            say(f"warning: labels of {text}")
