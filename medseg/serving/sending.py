"""Objects that are sent to a DICOM node by C-STORE."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pynetdicom import AE, build_context
from pynetdicom.association import Association

from medseg.core.errors import ResourceError, UsageError
from medseg.io.dicom.library import dataset

SYNTAXES = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")
"""Explicit and implicit VR, little endian; every node takes the second (PS3.5, 10.1)."""
CONNECT_S, ANSWER_S = 10, 60
TAKEN = (0x0000, 0x0111, 0xB000, 0xB006, 0xB007)
"""Of a C-STORE that the peer has stored: success, a duplicate, and what it warns of (PS3.4, table B.2-1)."""
TITLE = re.compile(r"[ -\[\]-~]{1,16}")
"""An application entity title (PS3.5, 6.2): 16 characters, none of them a backslash."""


class UnreachableError(ResourceError):
    """The peer takes no association just now."""


class RefusedError(ResourceError):
    """The peer did not take an object."""


@dataclass(frozen=True)
class Peer:
    """Whom objects are sent to.

    Attributes:
        host: its address or name.
        port: that it listens to.
        title: its application entity title.
    """

    host: str
    port: int
    title: str = "ANY-SCP"

    @classmethod
    def of(cls, text: str, title: str) -> Peer:
        """A peer as it is written, HOST:PORT.

        Raises:
            UsageError: it is written otherwise, or the title is not one.
        """
        try:
            found = urlsplit(f"//{text}")
            host, port = found.hostname, found.port
        except ValueError:
            host, port = None, None
        if not host or not port:
            raise UsageError(f"--send-to takes HOST:PORT, not {text!r}", hint="give such as archive:104")
        return cls(host, port, checked_title("--send-aet", title))


def checked_title(option: str, title: str) -> str:
    """An application entity title.

    Raises:
        UsageError: it is not one.
    """
    if not title.strip() or not TITLE.fullmatch(title):
        raise UsageError(
            f"{option} takes 1 to 16 characters without a backslash, not {title!r}",
            hint="give an application entity title such as MEDSEG",
        )
    return title.strip()


def send(paths: Sequence[Path], peer: Peer, title: str) -> None:
    """Send objects in their order over one association.

    A peer that has one already answers so, or replaces it: an object has one SOPInstanceUID for ever.

    Args:
        paths: of the objects.
        peer: whom they are sent to.
        title: of the sender.

    Raises:
        UnreachableError: it cannot be reached, or takes no association.
        RefusedError: it did not take one of them.
        InputError: one cannot be read.
    """
    objects = [dataset(path, pixels=True) for path in paths]
    kinds = list(dict.fromkeys(str(one.SOPClassUID) for one in objects))
    entity = AE(title)
    entity.connection_timeout, entity.acse_timeout = CONNECT_S, CONNECT_S
    entity.dimse_timeout = entity.network_timeout = ANSWER_S
    contexts = [build_context(kind, list(SYNTAXES)) for kind in kinds]
    try:
        link = entity.associate(peer.host, peer.port, contexts, peer.title)
    except OSError as fault:  # a name that is not known
        raise UnreachableError(fault.strerror or type(fault).__name__) from None
    if not link.is_established:
        why = "it rejects the association" if link.is_rejected else "it does not answer"
        raise UnreachableError(why)
    try:
        for path, one in zip(paths, objects, strict=True):
            _sent(link, path, one)
    finally:
        if link.is_established:
            link.release()


def _sent(link: Association, path: Path, one: Any) -> None:
    """Send one object.

    Raises:
        RefusedError: it was not taken.
    """
    try:
        status = link.send_c_store(one).get("Status")
    except (ValueError, RuntimeError, AttributeError):
        status = None
        if link.is_established:
            raise RefusedError(f"it takes no objects of the kind of {path.name}") from None
    if status is None:
        raise UnreachableError("the association ended")
    if status not in TAKEN:
        raise RefusedError(f"it answers {status:#06x} to {path.name}")
