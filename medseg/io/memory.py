"""How much memory this process may use, so that impossible files are refused before allocation."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medseg.errors import ResourceError

GIB = 2**30
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def memory_limit_bytes() -> int | None:
    """The least of physical memory, the container's limit and the process's own; None if unknown."""
    limits = [n for n in (_physical(), *_container(), _process()) if n is not None and n > 0]
    return min(limits, default=None)


def require_memory(needed_bytes: int, source: str | Path) -> None:
    """Refuse what cannot fit.

    Raises:
        ResourceError: `needed_bytes` is more than this process can ever have.
    """
    limit = memory_limit_bytes()
    if limit is not None and needed_bytes > limit:
        raise ResourceError(
            f"the image needs {needed_bytes / GIB:.1f} GiB of memory (voxels as stored and as float32), "
            f"and {limit / GIB:.1f} GiB is all there is",
            source=source,
            mend="crop or downsample it, or use a machine with more memory",
        )


def peak_memory_bytes() -> int | None:
    """The most memory this process has held so far; None where the system does not say."""
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@contextmanager
def out_of_memory_named(source: str | Path) -> Iterator[None]:
    """Turn a failed allocation into the fault it is.

    Raises:
        ResourceError: naming the file that was too much.
    """
    try:
        yield
    except MemoryError as fault:
        raise ResourceError(
            "the memory left does not suffice to read it",
            source=source,
            mend="close other programs, or use a machine with more memory",
        ) from fault


def _physical() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _container() -> tuple[int, ...]:
    found = []
    for name in CGROUP_LIMITS:
        try:
            text = Path(name).read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            continue
        if text.isdigit():
            found.append(int(text))
    return tuple(found)


def _process() -> int | None:
    try:
        import resource
    except ImportError:
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if soft == resource.RLIM_INFINITY else soft
