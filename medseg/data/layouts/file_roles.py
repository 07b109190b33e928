"""What the name of a file says of it: whether it holds labels, and which case and channel it is of.

A name, with the folders it lies in, is cut into words. Words such as `images`, `mask` or `seg` tell the role;
the others, in their order, name the case and maybe the channel. What a file repeats of its folder's name
counts once:

>>> [name_of(Path(text)).words for text in ("images/la_01.nii.gz", "masks/LA-01.nii", "p1/p1_seg.mha")]
[('la', '01'), ('la', '01'), ('p1',)]
>>> name_of(Path("p1/seg.nrrd")).is_label, name_of(Path("p1/t1.nrrd")).is_label
(True, False)
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from medseg.io import format_of, stem_and_suffix
from medseg.io.dicom.series import holds_labels

LABEL_WORDS = frozenset((
    "annotation", "annotations", "contour", "contours", "dseg", "groundtruth", "gt", "label",
    "labelmap", "labelmaps", "labels", "labelstr", "labelsts", "manual", "mask", "masks", "roi", "rois",
    "rtss", "rtstruct", "seg", "segmentation", "segmentations", "segs", "truth",
))  # fmt: skip
"""Words that tell of a file, or of all files in a folder, that it holds labels."""

IMAGE_WORDS = frozenset((
    "data", "dataset", "image", "images", "imagestr", "imagests", "img", "imgs", "nifti", "orig",
    "original", "raw", "scan", "scans", "vol", "volume", "volumes",
))  # fmt: skip
"""Words that tell of images; a file without any word of a role is one too."""

MODALITIES = frozenset((
    "adc", "b0", "bold", "bravo", "ce", "ct", "ct1", "cta", "dce", "dwi", "fa", "fat", "flair", "gre",
    "inphase", "ir", "localizer", "md", "mr", "mra", "mri", "mrt", "opposed", "outphase", "pd", "pdw",
    "pet", "phase", "plain", "proton", "space", "stir", "suv", "swi", "t1", "t1c", "t1ce", "t1gd",
    "t1n", "t1post", "t1pre", "t1w", "t2", "t2f", "t2s", "t2star", "t2w", "venous", "arterial", "water",
))  # fmt: skip
"""Words that name a channel and no case."""

NUMBERED = re.compile(r"\d{4}")
"""How nnU-Net numbers channels."""

_BREAKS = re.compile(r"([\s_.,;()\[\]-]+)")
_CLOSERS, _OPENERS = ")]", "(["
"""Breaks that belong to the word before them, and to the word behind them."""
_NUMBERED_MASKS = re.compile(r"(?i)(annotations|contours|labels|masks|rois|segmentations|segs)(\d+)$")
"""Folders of a second set of labels, such as masks2/."""

_JOINED = re.compile(r"(?i)(ground)[\s_.-]*(truth)|(label)[\s_.-]*(maps?)\b")


@dataclass(frozen=True)
class FileName:
    """What the name of a file says.

    Attributes:
        path: of the file.
        is_label: whether it holds labels.
        words: in lower case, of the folders and the file, without words of roles.
        places: the folders that gave a word, as they are spelt.
        spelt: the words as they are spelt, all but the first with what joins each to the one before. Together
            they are the name of the case: of a file in no folder, without words of roles, that is its stem.
        top: the outermost folder it lies in, below the root; empty for none.
    """

    path: Path
    is_label: bool
    words: tuple[str, ...]
    places: tuple[str, ...]
    spelt: tuple[str, ...]
    top: str

    @property
    def case_id(self) -> str:
        """The folders and the stem as they are spelt, without words of roles."""
        return "".join(self.spelt)


def name_of(path: Path, root: Path = Path()) -> FileName:
    """What the name of a file or of a DICOM folder says, as far as it lies below `root`.

    What a DICOM structure set or segmentation is called says nothing: its folder tells the case.
    """
    inner = path.relative_to(root)
    is_dicom = holds_labels(path)
    stem = "" if is_dicom else path.name if path.is_dir() else stem_and_suffix(path)[0]
    outside = (_NUMBERED_MASKS.sub(r"\1 \2", part) for part in inner.parent.parts)
    parts = [_words(part) for part in (*outside, stem)]
    *outer, last = ([w for w in words if w.plain not in LABEL_WORDS | IMAGE_WORDS] for words in parts)
    named = [[word.text for word in words] for words in outer]
    repeated = max((len(n) for n in named if n == [w.text for w in last[: len(n)]]), default=0)
    kept = [word for words in (*outer, last[repeated:]) for word in words]
    marked = any(word.plain in LABEL_WORDS for words in parts for word in words)
    return FileName(
        path=path,
        is_label=marked or is_dicom or format_of(path).holds_labels_only,
        words=tuple(word.plain for word in kept),
        places=tuple("_".join(words) for words in named if words),
        spelt=tuple(word.behind if n else word.alone for n, word in enumerate(kept)),
        top=inner.parts[0] if len(inner.parts) > 1 or (path.is_dir() and inner.parts) else "",
    )


class _Word(NamedTuple):
    """A word of a name, with the breaks around it that a case's name keeps."""

    mark: str
    text: str
    end: str

    @property
    def plain(self) -> str:
        return self.text.lower()

    @property
    def behind(self) -> str:
        """As it stands behind another word."""
        return self.mark + self.alone.lstrip(_OPENERS)

    @property
    def alone(self) -> str:
        """As it stands first."""
        return "".join(c for c in self.mark if c in _OPENERS) + self.text + self.end


def _words(name: str) -> list[_Word]:
    """The words of a name; `ground truth` and `label map` are one each.

    >>> [word.behind for word in _words("anna__2-seg (old)_mask")]
    ['_anna', '__2', '-seg', ' (old)', '_mask']
    """
    breaks = _BREAKS.split("_" + _JOINED.sub(r"\1\2\3\4", name))[1:]
    marks = [mark.lstrip(_CLOSERS) for mark in breaks[::2]]
    ends = [mark[: len(mark) - len(mark.lstrip(_CLOSERS))] for mark in (*breaks[2::2], "")]
    words = zip(marks, breaks[1::2], ends, strict=True)
    return [_Word(mark, word, end) for mark, word, end in words if word]


def words_of(name: str) -> tuple[str, ...]:
    """The words of a name in lower case, also those of roles.

    >>> words_of("BRATS-Test (images)")
    ('brats', 'test', 'images')
    """
    return tuple(word.plain for word in _words(name))


def channel_words(words: tuple[str, ...]) -> bool:
    """Whether what an image is called beyond its case names a channel.

    >>> channel_words(("t1",)), channel_words(("0001",)), channel_words(("02",))
    (True, True, False)
    """
    return bool(words) and (
        any(word in MODALITIES for word in words) or (len(words) == 1 and bool(NUMBERED.fullmatch(words[0])))
    )


def words_of_case(words: tuple[str, ...]) -> int:
    """How many words come before those that name a channel, which say nothing of a case.

    >>> [words_of_case(tuple(name.split())) for name in ("p1 t1", "p1 t1 post", "t2 001", "p1 t1 02", "p1")]
    [1, 1, 2, 3, 1]
    """
    for n in range(1, len(words)):
        rest = words[n:]
        if rest[0] in MODALITIES and all(word in MODALITIES or word.isalpha() for word in rest):
            return n
    return len(words)


def channel_names(several: Iterable[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """What the channels of a case are called, by the words of their files; in their order where numbered.

    >>> channel_names([("0001",), ("0000",)]), channel_names([("t1",), ("t2", "fat")])
    ({('0000',): 'channel_0', ('0001',): 'channel_1'}, {('t1',): 't1', ('t2', 'fat'): 't2_fat'})
    """
    found = list(several)
    if all(len(words) == 1 and NUMBERED.fullmatch(words[0]) for words in found):
        return {words: numbered_channel(n) for n, words in enumerate(sorted(found))}
    return {words: "_".join(words) for words in found}


def numbered_channel(number: int) -> str:
    """What a channel is called that has a number alone."""
    return f"channel_{number}"


def alike(
    labels: Sequence[FileName], images: Sequence[FileName]
) -> tuple[Sequence[FileName], Sequence[FileName]]:
    """Label files and images by words in which those of one case agree, as far as their names tell.

    - Of a folder at the top with one scan and one label file, both are of the case that the folder names.
    - Words that all labels, or all images, have first or last are left out where more match so: "T2_001" and
      "expert_001" belong together where all scans begin with T2, and all labels with expert.
    """
    paired = _single_pairs(labels, images)
    stripped = _stripped(paired[0]), _stripped(paired[1])
    return stripped if _matches(*stripped) > _matches(*paired) else paired


def _single_pairs(
    labels: Sequence[FileName], images: Sequence[FileName]
) -> tuple[list[FileName], list[FileName]]:
    """The same files; a folder's only scan and only label file are called alike, whatever their names."""
    tops: defaultdict[str, list[FileName]] = defaultdict(list)
    for file in (*labels, *images):
        tops[file.top].append(file)
    alone = {
        top
        for top, found in tops.items()
        if top and [f.is_label for f in found] == [True, False] and not _matches(found[:1], found[1:])
    }

    def named(file: FileName) -> FileName:
        top = name_of(Path(file.top))
        return replace(file, words=top.words, spelt=top.spelt) if file.top in alone else file

    return [named(file) for file in labels], [named(file) for file in images]


def _stripped(files: Sequence[FileName]) -> list[FileName]:
    words = [file.words for file in files]
    shortest = min(map(len, words), default=0)
    if len(words) < 2 or not shortest:
        return list(files)
    first = _shared(words)
    last = min(_shared([w[::-1] for w in words]), shortest - first)
    return [replace(file, words=file.words[first : len(file.words) - last]) for file in files]


def _shared(words: Sequence[tuple[str, ...]]) -> int:
    """How many words all begin with."""
    return sum(1 for _ in takewhile(lambda found: len(set(found)) == 1, zip(*words, strict=False)))


def _matches(labels: Sequence[FileName], images: Sequence[FileName]) -> int:
    """How many label files have an image whose words begin with theirs."""
    starts = {image.words[:n] for image in images for n in range(1, len(image.words) + 1)}
    return sum(label.words in starts for label in labels)
