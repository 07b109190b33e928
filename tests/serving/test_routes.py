"""Routes: which series a model is for; what is written wrongly is named at the start."""

from __future__ import annotations

from pathlib import Path

import pytest
from models import tiny_model
from pydicom.dataset import Dataset

from medseg.core.errors import UsageError
from medseg.serving.routes import Route
from medseg.serving.sending import Peer, checked_title


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    tiny_model(0).save(folder / "brain.safetensors")
    tiny_model(3, channels=("t1", "t2")).save(folder / "pair.safetensors")
    return {path.stem: str(path) for path in folder.iterdir()}


def header(**values: object) -> Dataset:
    found = Dataset()
    for keyword, value in values.items():
        setattr(found, keyword, value)
    return found


SERIES = header(
    Modality="MR",
    SeriesDescription="Sag T1, mprage",
    ImageType=["ORIGINAL", "PRIMARY", "M", "ND"],
    EchoTime=2.5,
)


@pytest.mark.parametrize(
    ("conditions", "takes"),
    [
        ("Modality=MR", True),
        ("Modality=mr", True),
        ("Modality=M", False),
        ("Modality~M", True),
        ("Modality!=MR", False),
        ("SeriesDescription~t1", True),
        ("SeriesDescription!~t1", False),
        ("SeriesDescription~^t1", False),
        ("SeriesDescription~T1, mp, EchoTime=2.5", True),
        ("SeriesDescription~\\bT[12]\\b.{1,9}age$", True),
        ("ImageType~\\\\M\\\\", True),
        ("ImageType=ORIGINAL\\PRIMARY\\M\\ND", True),
        ("BodyPartExamined=HEAD", False),
        ("BodyPartExamined!~HEAD", True),
        (" Modality = MR , SeriesDescription ~ flair ", False),
        ("SeriesDescription~a->b", False),
    ],
)
def test_a_route_takes_the_series_of_which_all_holds(
    models: dict[str, str], conditions: str, takes: bool
) -> None:
    route = Route.of(f"{conditions} -> brain", models)
    assert (route.takes(SERIES), route.model) == (takes, "brain")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Modality=MR", "is not a route"),
        ("-> brain", "is not a route"),
        ("Modality=MR ->", "is not a route"),
        ("Modality=MR -> liver", "names the model 'liver', which is not offered; choose from .*brain"),
        ("Modality=MR -> pair", r"takes 2 channels \(t1, t2\), and a series has one"),
        ("Modality -> brain", "has the condition 'Modality'"),
        ("Modality=MR,T1 -> brain", None),
        ("Modality=,EchoTime=1 -> brain", "has the condition 'Modality='"),
        ("Modalty=MR -> brain", "'Modalty' in the route .* is not a keyword of DICOM"),
        ("SeriesDescription~(T1 -> brain", r"'\(T1' in the route .* is not a regular expression"),
        ("PixelData~a -> brain", "PixelData in the route .* holds no text"),
        ("ReferencedStudySequence=a -> brain", "ReferencedStudySequence in the route .* holds no text"),
    ],
)
def test_a_route_that_is_written_wrongly_is_named(
    models: dict[str, str], text: str, says: str | None
) -> None:
    if says is None:
        assert Route.of(text, models).conditions[0].value == "MR,T1"
        return
    with pytest.raises(UsageError, match=says):
        Route.of(text, models)


def test_peers_and_titles() -> None:
    assert Peer.of("archive.example:104", "ARCHIVE") == Peer("archive.example", 104, "ARCHIVE")
    assert Peer.of("[::1]:104", "A") == Peer("::1", 104, "A")
    for text in ("archive", "archive:", ":104", "archive:port", "archive:99999", "[::1:104", "a:0"):
        with pytest.raises(UsageError, match="--send-to takes HOST:PORT"):
            Peer.of(text, "A")
    for title in ("", "  ", "a" * 17, "A\\B", "Ä", "A\n"):
        with pytest.raises(UsageError, match="--aet takes 1 to 16 characters"):
            checked_title("--aet", title)


def test_models_are_checked_by_their_files(tmp_path: Path) -> None:
    (tmp_path / "bad.safetensors").write_bytes(b"this is no model")
    with pytest.raises(Exception, match=r"bad\.safetensors"):
        Route.of("Modality=MR -> bad", {"bad": str(tmp_path / "bad.safetensors")})
