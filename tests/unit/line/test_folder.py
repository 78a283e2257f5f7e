"""A folder of an exported detector is whole, or refused in a line."""

import json

import pytest

from exdd_ray.line.folder import FORMAT, MANIFEST, Manifest, ModelError, Threshold, read_manifest, write_manifest
from exdd_ray.line.geometry import Geometry

GEOMETRY = Geometry((64, 48), "cut", None, None, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "weights.safetensors").write_bytes(b"weights")
    threshold = Threshold(1.5, "F1-max on 10 defects")
    write_manifest(tmp_path, Manifest("patch_bank", GEOMETRY, None, (0.0, 2.0), threshold, {"seed": 0}, {}, {}))
    return tmp_path


def test_a_manifest_is_read_as_it_was_written(folder):
    found = read_manifest(folder)
    assert found.geometry == GEOMETRY
    assert found.threshold == Threshold(1.5, "F1-max on 10 defects")
    assert (found.detector, found.lineage, found.format) == ("patch_bank", {"seed": 0}, FORMAT)
    assert list(found.files) == ["weights.safetensors"]


def test_a_file_that_was_altered_or_is_missing_is_named(folder):
    (folder / "weights.safetensors").write_bytes(b"other weights")
    with pytest.raises(ModelError, match=r"weights.safetensors: altered or cut short"):
        read_manifest(folder)
    (folder / "weights.safetensors").unlink()
    with pytest.raises(ModelError, match=r"weights.safetensors is missing"):
        read_manifest(folder)


def changed(folder, **values):
    path = folder / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    return read_manifest(folder)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"format": FORMAT + 1}, "is newer than"),
        ({"format": "x"}, "no exported detector"),
        ({"surprise": 1}, "altered or cut short"),
        ({"geometry": {"resize": 3}}, "altered or cut short"),
    ],
)
def test_a_manifest_of_a_newer_format_or_an_altered_one_is_refused(values, said, folder):
    with pytest.raises(ModelError, match=said) as raised:
        changed(folder, **values)
    assert "\n" not in str(raised.value)


def test_a_manifest_that_is_cut_short_or_absent_is_refused(folder):
    text = (folder / MANIFEST).read_text()
    (folder / MANIFEST).write_text(text[: len(text) // 2])
    with pytest.raises(ModelError, match="not valid JSON"):
        read_manifest(folder)
    (folder / MANIFEST).unlink()
    with pytest.raises(ModelError, match="no exported detector"):
        read_manifest(folder)
