"""Packages that only some commands need, and the one error for a package that is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from medseg.core.errors import MissingPackageError

EXTRA_OF = {
    "torch": "train",
    "monai": "train",
    "tensorboard": "train",
    "highdicom": "dicom",
    "tomli_w": "train",
    "onnx": "onnx",
    "distributed": "dask",
    "nilearn": "demo",
    "starlette": "serve",
    "uvicorn": "serve",
    "pynetdicom": "dicom",
    "pandas": None,
}
"""The extra of medseg that installs each optional package, or None where none does."""


def missing(package: str) -> MissingPackageError:
    """The error for an optional package that is not installed.

    >>> str(missing("torch"))
    'torch is not installed; pip install "medseg[train]"'
    """
    extra = EXTRA_OF[package]
    wanted = package if extra is None else f'"medseg[{extra}]"'
    return MissingPackageError(f"{package} is not installed", hint=f"pip install {wanted}")


def missing_in(fault: ImportError) -> MissingPackageError | None:
    """The error for a failed import, or None where an extra does not bring the package.

    >>> str(missing_in(ModuleNotFoundError(name="torch.nn")))
    'torch is not installed; pip install "medseg[train]"'
    >>> missing_in(ModuleNotFoundError(name="numpy")) is None
    True
    """
    package = (fault.name or "").split(".")[0]
    if not isinstance(fault, ModuleNotFoundError) or package not in EXTRA_OF:
        return None
    return missing(package)


@contextmanager
def optional_packages() -> Iterator[None]:
    """Make failed imports of optional packages raise `MissingPackageError`, with what to install."""
    try:
        yield
    except ModuleNotFoundError as fault:
        error = missing_in(fault)
        if error is None:
            raise
        raise error from None
