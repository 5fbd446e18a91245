import os

from napari_lowdose_tem.widgets.train import saved


def test_stopped_trainings_are_listed_newest_first(tmp_path):
    for name, age_s in (("old", 3000), ("new", 10), ("a.b", 100)):
        path = tmp_path / f"{name}.state"
        path.write_bytes(b"")
        os.utime(path, (path.stat().st_mtime - age_s,) * 2)
    (tmp_path / "other.safetensors").write_bytes(b"")
    listed = saved.list_stopped(tmp_path)
    names = ["new.safetensors", "a.b.safetensors", "old.safetensors"]
    assert [path for path, _ in listed] == [str(tmp_path / name) for name in names]
    assert listed[0][1].startswith("new, ")
    assert saved.list_stopped(tmp_path / "none") == ()
    for path, _ in listed:
        assert saved.state_of(tmp_path / path).is_file()


def test_newest_saved_model_is_the_best_one(tmp_path):
    output = tmp_path / "a.b.safetensors"
    assert saved.saved_model(output) is None
    last = tmp_path / "a.b.last.safetensors"
    last.write_bytes(b"")
    assert saved.saved_model(output) == last
    output.write_bytes(b"")
    assert saved.saved_model(output) == output
    # one that is to be replaced is not what a training saved
    os.utime(output, (output.stat().st_mtime - 60,) * 2)
    assert saved.saved_model(output, last.stat().st_mtime) == last
