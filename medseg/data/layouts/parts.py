"""Parts of a dataset that names state: training, validation and test.

A folder such as `test/`, `images-test/` or `imagesTs/` is one by itself, `BRATS_test/` beside `BRATS_train/`,
and `test_01.nii` beside `train_01.nii`:

>>> parts = Parts.of(map(Path, ("a_train/1.nii", "a_test/1.nii", "b_test/1.nii", "test/c/1.nii")))
>>> [parts.part_of(Path(name)) for name in ("a_train/1.nii", "a_test/1.nii", "b_test/1.nii", "test/c/1.nii")]
['train', 'test', '', 'test']
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from medseg.data.layouts.case import TEST
from medseg.data.layouts.file_roles import IMAGE_WORDS, LABEL_WORDS, words_of
from medseg.io import stem_and_suffix

TRAIN, VALIDATION = "train", "validation"
_PARTS = {
    **dict.fromkeys(("imagestr", "labelstr", "tr", "train", "training", "trainset"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "valset"), VALIDATION),
    **dict.fromkeys(("imagests", "labelsts", "test", "testing", "testset", "ts"), TEST),
}
_SHORT = frozenset(("tr", "ts"))
"""Words that may be the initials of a person, where no other folder states a part."""

_FILLING = (IMAGE_WORDS | LABEL_WORDS | {"cases", "part", "set", "split", "subset"}) - _PARTS.keys()
"""Words beside which that of a part stands for itself."""

Words = tuple[str, ...]


@dataclass(frozen=True)
class Parts:
    """What the names of a dataset state.

    Attributes:
        folders: by the words of a folder's name without that of the part, the parts that such folders state.
        files: likewise, by whether that word is the first or the last of a file's name.
    """

    folders: dict[Words, frozenset[str]]
    files: dict[str, frozenset[str]]

    @classmethod
    def of(cls, paths: Iterable[Path]) -> Parts:
        """As the names of all files state them, by their paths in the dataset."""
        known = list(paths)
        folders: dict[Words, frozenset[str]] = {}
        for name in {folder for path in known for folder in path.parent.parts}:
            rest, part, _ = _cut(words_of(name))
            folders[rest] = folders.get(rest, frozenset()) | {part}
        files: dict[str, frozenset[str]] = {}
        for path in known:
            place, part = _of_file(path)
            files[place] = files.get(place, frozenset()) | {part}
        return cls(folders, files)

    def part_of(self, path: Path) -> str:
        """The part that a file is of, by its path in the dataset; empty where nothing states it."""
        stated = {self.stated_by(folder) for folder in path.parent.parts} - {""}
        if stated:
            return TEST if TEST in stated else sorted(stated)[0]
        place, part = _of_file(path)
        return part if len(self.files.get(place, frozenset()) - {""}) > 1 else ""

    def stated_by(self, folder: str) -> str:
        """The part that the name of a folder states; empty where it does not."""
        rest, part, short = _cut(words_of(folder))
        others = self.folders.get(rest, frozenset()) - {part, ""}
        return part if others or not (rest or short) else ""


def part_named(word: str) -> str:
    """The part that a word states; empty where it states none.

    >>> part_named("val"), part_named("trainval")
    ('validation', '')
    """
    return _PARTS.get(word, "")


def _cut(words: Words) -> tuple[Words, str, bool]:
    """A folder's words without that of a part, the part, and whether its word may be initials."""
    marks = [word for word in words if word in _PARTS]
    if len(marks) != 1:
        return words, "", False
    rest = tuple(word for word in words if word not in _FILLING | {marks[0]})
    return rest, _PARTS[marks[0]], marks[0] in _SHORT


def _of_file(path: Path) -> tuple[str, str]:
    """Where the name of a file may state a part, and which."""
    words = [word for word in words_of(stem_and_suffix(path)[0]) if word not in _FILLING]
    if len(words) > 1:
        for place, word in (("first", words[0]), ("last", words[-1])):
            if word in _PARTS:
                return place, _PARTS[word]
    return "", ""
