"""How much memory this process may use, so that impossible files are refused before allocation."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medseg.core.errors import ResourceError

GIB = 2**30
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


CGROUP_USE = (
    (CGROUP_LIMITS[0], "/sys/fs/cgroup/memory.current"),
    (CGROUP_LIMITS[1], "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def memory_limit_bytes() -> int | None:
    """The least of physical memory, the container's limit and the process's own; None if unknown."""
    limits = [n for n in (_physical(), *_container(), _process()) if n is not None and n > 0]
    return min(limits, default=None)


def available_bytes() -> int | None:
    """Memory that this process could still allocate without swapping; None if unknown."""
    found = [n for n in (_unused(), *_container_room()) if n is not None]
    return min(found, default=None)


def held_bytes() -> int:
    """Memory this process holds now; its peak so far where the system does not say; 0 if unknown."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return peak_memory_bytes() or 0


def require_memory(needed_bytes: int, source: str | Path) -> None:
    """Refuse an image that does not fit into memory.

    Raises:
        ResourceError: `needed_bytes` is more than this process can ever have.
    """
    limit = memory_limit_bytes()
    if limit is not None and needed_bytes > limit:
        raise ResourceError(
            f"the image needs {needed_bytes / GIB:.1f} GiB of memory (voxels as stored and as float32), "
            f"and {limit / GIB:.1f} GiB is all that is available",
            source=source,
            hint="crop or downsample it, or use a machine with more memory",
        )


def peak_memory_bytes() -> int | None:
    """The most memory this process has held so far; None where the system does not say.

    Linux says it of the program that runs now; the older count that others have begins with the memory of
    the process that started it.
    """
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    except (OSError, ValueError, IndexError):
        pass
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@contextmanager
def out_of_memory_named(source: str | Path) -> Iterator[None]:
    """Convert a failed allocation to a ResourceError.

    Raises:
        ResourceError: naming the file that was too much.
    """
    try:
        yield
    except MemoryError as fault:
        raise ResourceError(
            "the remaining memory does not suffice to read it",
            source=source,
            hint="close other programs, or use a machine with more memory",
        ) from fault


def _physical() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _unused() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    except (OSError, ValueError, IndexError):
        pass
    return _physical()


def _container_room() -> tuple[int, ...]:
    """Limit less use of each control group that has both."""
    found = []
    for limit, use in CGROUP_USE:
        try:
            most, now = (Path(name).read_text(encoding="ascii").strip() for name in (limit, use))
        except (OSError, ValueError):
            continue
        if most.isdigit() and now.isdigit():
            found.append(max(0, int(most) - int(now)))
    return tuple(found)


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
