"""One way to hash text, bytes and tensors."""

from __future__ import annotations

import hashlib

from medseg.core.digest import digest, hexdigest, tensor_digest


def test_digests_are_sha256_of_the_parts_in_their_order() -> None:
    expected = hashlib.sha256("grün".encode() + b"\x00\xff")
    assert digest("grün", b"\x00\xff") == expected.digest()
    assert hexdigest("gr", "ün", b"\x00", b"\xff") == expected.hexdigest()
    assert hexdigest() == hashlib.sha256().hexdigest()


def test_names_that_are_no_utf8_have_digests_of_their_own() -> None:
    """File systems and JSON give such names: one way refused them, another one refused the second."""
    assert len({hexdigest(name) for name in ("a\udc80", "a\ud800", "a\\ud800", "a")}) == 4


def test_a_tensor_counts_with_its_name_type_shape_and_values() -> None:
    one = ("w", "float32", (2,), b"12345678")
    assert tensor_digest("spec", [one]) == hexdigest("spec|w|float32|(2,)|", b"12345678")
    others = [
        ("v", *one[1:]),
        ("w", "int32", *one[2:]),
        ("w", "float32", (2, 1), one[3]),
        (*one[:3], b"8765"),
    ]
    assert len({tensor_digest("spec", [tensor]) for tensor in (one, *others)}) == 5
