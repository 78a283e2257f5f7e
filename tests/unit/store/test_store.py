import errno
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from exdd_ray.errors import ArtifactError, UserError
from exdd_ray.store.arrays import read_arrays, write_arrays
from exdd_ray.store.artifact import Recipe, Store
from exdd_ray.store.contents import content_digests
from exdd_ray.store.folders import MANIFEST
from exdd_ray.store.hashes import file_digest


def recipe(**changes):
    return Recipe(**{"stage": "test", "version": 1, "config": {"a": 1, "b": [2, 3]}, "inputs": ("x",), **changes})


def build(folder):
    write_arrays(folder / "v.arrow", {"v": np.arange(12.0).reshape(3, 4)})
    return {"note": "made"}


def write_x(folder):
    (folder / "a").write_text("x")


def test_an_artifact_is_made_once(tmp_path):
    calls = []
    store = Store(tmp_path)
    for _ in range(2):
        artifact = store.make(recipe(), lambda folder: calls.append(folder) or build(folder))
    again = Store(tmp_path).make(recipe(), lambda folder: pytest.fail("made twice"))
    assert len(calls) == 1
    assert again.metadata == artifact.metadata == {"note": "made"}
    np.testing.assert_array_equal(read_arrays(again.file("v.arrow"))["v"], np.arange(12.0).reshape(3, 4))


def test_the_key_depends_on_everything_but_the_order_of_keys():
    assert recipe().key == recipe(config={"b": [2, 3], "a": 1}).key
    others = [recipe(stage="other"), recipe(version=2), recipe(config={"a": 2, "b": [2, 3]}), recipe(inputs=("y",))]
    assert len({recipe().key, *(other.key for other in others)}) == 5


def test_nothing_is_published_when_the_build_fails(tmp_path):
    store = Store(tmp_path)

    def fail(folder):
        (folder / "half").write_text("half")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        store.make(recipe(), fail)
    assert Store(tmp_path).find(recipe().key) is None
    assert list((tmp_path / "unfinished").iterdir()) == []


@pytest.mark.parametrize("damage", ["truncate", "flip", "remove", "manifest"])
def test_a_damaged_artifact_is_rebuilt_never_read(tmp_path, damage):
    artifact = Store(tmp_path).make(recipe(), build)
    file = artifact.file("v.arrow")
    if damage == "truncate":
        file.write_bytes(file.read_bytes()[:-3])
    elif damage == "flip":
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    elif damage == "remove":
        file.unlink()
    else:
        artifact.file("manifest.json").write_text("{")
    store = Store(tmp_path)
    rebuilt = store.make(recipe(), build)
    assert store.made == [recipe().key]
    np.testing.assert_array_equal(read_arrays(rebuilt.file("v.arrow"))["v"][0], [0, 1, 2, 3])


def test_what_cannot_be_read_is_not_taken_for_damaged(tmp_path, monkeypatch):
    made = Store(tmp_path).make(recipe(), write_x)

    def refuse(self, *_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", refuse)
        with pytest.raises(UserError, match="cannot read the artifact: Permission denied"):
            Store(tmp_path).find(recipe().key)
    assert made.file("a").read_text() == "x"


def test_checksums_as_once_written_still_count(tmp_path):
    made = Store(tmp_path).make(recipe(), write_x)
    manifest = json.loads(made.file(MANIFEST).read_text())
    manifest["files"]["a"][1] = file_digest(made.file("a"))
    made.file(MANIFEST).write_text(json.dumps(manifest))
    assert Store(tmp_path).find(recipe().key) is not None
    made.file("a").write_text("y")
    assert Store(tmp_path).find(recipe().key) is None


def test_a_full_disk_is_one_clear_error(tmp_path):
    def full(folder):
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match="No space left"):
        Store(tmp_path).make(recipe(), full)


def test_arrays_keep_type_and_shape_and_share_the_file(tmp_path):
    columns = {
        "half": np.random.default_rng(0).random((5, 3)).astype(np.float16),
        "cube": np.arange(5 * 2 * 3, dtype=np.float32).reshape(5, 2, 3),
        "ids": np.arange(5),
    }
    write_arrays(tmp_path / "a.arrow", columns)
    found = read_arrays(tmp_path / "a.arrow")
    for name, values in columns.items():
        assert found[name].dtype == values.dtype
        assert not found[name].flags.writeable
        np.testing.assert_array_equal(found[name], values)


def test_a_file_that_is_not_arrow_is_refused(tmp_path):
    (tmp_path / "x").write_bytes(b"nothing of the kind")
    with pytest.raises(ArtifactError, match="not a readable Arrow file"):
        read_arrays(tmp_path / "x")


@pytest.mark.parametrize("key", ["", "bank-", "../precious-", "bank-123", "bank-" + "g" * 40])
def test_what_is_no_key_touches_nothing(tmp_path, key):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("kept")
    store = Store(tmp_path / "store")
    store.make(Recipe("bank", 1, {}, ()), lambda folder: (folder / "a").write_text("b") and None)
    with pytest.raises(ArtifactError, match="is not the key of an artifact"):
        store.find(key)
    assert (tmp_path / "precious" / "file").read_text() == "kept"
    assert Store(tmp_path / "store").find(store.made[0]) is not None


def test_threads_that_want_one_artifact_build_it_once(tmp_path):
    built = []

    def build(folder):
        built.append(folder)
        time.sleep(0.2)
        (folder / "a").write_text("a")

    with ThreadPoolExecutor(4) as pool:
        keys = list(pool.map(lambda _: Store(tmp_path).make(Recipe("slow", 1, {}), build).key, range(4)))
    assert len(built) == len(set(keys)) == 1
    assert list((tmp_path / "unfinished").iterdir()) == []


def test_who_waits_builds_where_the_first_one_fails(tmp_path):
    begun, tried = threading.Event(), []

    def build(folder):
        tried.append(folder)
        begun.set()
        if len(tried) == 1:
            time.sleep(0.2)
            raise ValueError("broken")
        (folder / "a").write_text("a")

    slow = Recipe("slow", 1, {})
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(Store(tmp_path).make, slow, build)
        begun.wait()
        second = pool.submit(Store(tmp_path).make, slow, build)
        with pytest.raises(ValueError, match="broken"):
            first.result()
        assert second.result().file("a").read_text() == "a"


def test_what_is_made_or_opened_is_recorded(tmp_path):
    store = Store(tmp_path)
    old = store.make(Recipe("old", 1, {}), lambda folder: None)
    with store.recording() as outer:
        with store.recording() as inner:
            store.find(old.key)
        new = store.make(Recipe("new", 1, {}), lambda folder: None)
    assert inner == {old.key}
    assert outer >= {new.key}


def test_a_file_is_hashed_again_where_it_has_changed(tmp_path):
    file, absent = tmp_path / "a", tmp_path / "b"
    file.write_text("one")
    first = content_digests([file, absent, file])
    assert first[0] == first[2] == file_digest(file)
    assert first[1] == "unreadable: No such file or directory"
    file.write_text("other")
    absent.write_text("one")
    assert content_digests([file, absent]) == [file_digest(file), first[0]]
