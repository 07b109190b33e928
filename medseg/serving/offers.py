"""The models that a service offers, by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medseg.core.errors import InputError, UsageError
from medseg.model.file import find_models, packaged_models


def offered(words: Sequence[str]) -> dict[str, str]:
    """The models of a service, their files by name: of files, folders of files, and names of packaged models.

    Raises:
        ModelError: a word is none of these.
        InputError: a folder has no model.
        UsageError: two have one name.
    """
    if not words:
        return {name: str(path) for name, path in packaged_models().items()}
    found: dict[str, str] = {}
    for word in words:
        for name, path in _of(Path(word)).items():
            if name in found:
                raise UsageError(f"two models are called {name}", source=path, hint="rename one of the files")
            found[name] = str(path)
    return found


def _of(path: Path) -> dict[str, Path]:
    """The models that one word means."""
    if path.is_dir() and (files := sorted(path.glob("*.safetensors"))):
        named = {file.stem: file for file in files}
        return {path.name: named["model"]} if set(named) == {"model"} else named
    if path.is_dir() and not any(path.iterdir()):
        raise InputError("contains no model", source=path, hint="give files that end with .safetensors")
    (file,) = find_models(str(path))[:1]
    return {path.name if file.stem == "model" else file.stem: file}
