import os

import numpy as np
import pytest
import tifffile

from napari_lowdose_tem.live import Arrival, FolderSource, Passed, Skipped, Wait

QUICK = {"poll_s": 0.01, "patience_s": 0.2}


def names(events):
    return [event.name for event in events if isinstance(event, Arrival)]


def test_frames_come_in_natural_order_once(tmp_path, save_tiff, frames, collect):
    for n in (9, 10, 2):
        save_tiff(tmp_path, n)
    events = FolderSource(tmp_path, **QUICK).iter_events(False)
    first = collect(events, 3)
    assert names(first) == ["frame_2.tif", "frame_9.tif", "frame_10.tif"]
    np.testing.assert_array_equal(first[1].image.data, frames(9))
    save_tiff(tmp_path, 11)
    assert names(collect(events, 9, idle_s=0.3)) == ["frame_11.tif"]


def test_newest_wins_and_the_others_are_counted(tmp_path, save_tiff, collect):
    for n in range(4):
        save_tiff(tmp_path, n)
    events = FolderSource(tmp_path, **QUICK).iter_events(True)
    # what lay there before was not missed
    assert [type(event) for event in collect(events, 1)] == [Arrival]
    for n in range(4, 11):
        save_tiff(tmp_path, n)
    passed, newest = collect(events, 1)
    assert passed == Passed(6)
    assert newest.name == "frame_10.tif"
    assert not collect(events, 1, idle_s=0.1)


def test_half_written_file_waits_and_holds_back_those_behind(tmp_path, save_tiff, frames, collect):
    whole = save_tiff(tmp_path, 1).read_bytes()
    half = tmp_path / "frame_1.tif"
    half.write_bytes(whole[:-100])
    save_tiff(tmp_path, 2)
    events = FolderSource(tmp_path, poll_s=0.01, patience_s=60).iter_events(False)
    assert not collect(events, 1, idle_s=0.2)
    half.write_bytes(whole)
    found = collect(events, 2)
    assert names(found) == ["frame_1.tif", "frame_2.tif"]
    np.testing.assert_array_equal(found[0].image.data, frames(1))


def test_file_still_changing_is_not_taken_even_if_it_can_be_read(tmp_path, frames):
    # laid out at once and filled afterwards, as many camera programs do
    path = tmp_path / "frame.tif"
    tifffile.imwrite(path, np.zeros_like(frames(0)))
    events = FolderSource(tmp_path, **QUICK).iter_events(False)
    for step in range(5):
        os.utime(path, ns=(10**18 + step, 2 * 10**18 + step))  # a time to come: not one renamed
        assert isinstance(next(events), Wait)
    event = next(events)
    while isinstance(event, Wait):
        event = next(events)
    assert event.name == "frame.tif"


def test_broken_foreign_and_other_files_are_named_once(tmp_path, save_tiff, collect):
    data = save_tiff(tmp_path, 0).read_bytes()
    (tmp_path / "frame_1.tif").write_bytes(data[: len(data) // 2])
    (tmp_path / "frame_2.tif").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / ".hidden").write_text("x")
    (tmp_path / "folder").mkdir()
    tifffile.imwrite(tmp_path / "frame_3.tif", np.ones((5, 8, 9), np.uint8))
    save_tiff(tmp_path, 4)
    events = FolderSource(tmp_path, **QUICK).iter_events(False)
    found = collect(events, 9, idle_s=0.6)
    assert names(found) == ["frame_0.tif", "frame_4.tif"]
    reasons = {event.name: event.reason for event in found if isinstance(event, Skipped)}
    assert len(found) == 2 + len(reasons)
    assert set(reasons) == {"frame_1.tif", "frame_2.tif", "frame_3.tif", "notes.txt"}
    assert "cut short" in reasons["frame_1.tif"]
    assert "empty" in reasons["frame_2.tif"]
    assert "5 frames" in reasons["frame_3.tif"]
    assert ".txt" in reasons["notes.txt"]


def test_file_written_again_and_again_under_one_name(tmp_path, save_tiff, frames, collect):
    path = save_tiff(tmp_path, 0)
    events = FolderSource(tmp_path, **QUICK).iter_events(True)
    collect(events, 1)
    for n in (1, 2):
        save_tiff(tmp_path, n).replace(path)
        (found,) = collect(events, 1)
        np.testing.assert_array_equal(found.image.data, frames(n))


def test_done_and_ignored_files_are_left_alone(tmp_path, save_tiff, collect):
    for n in range(3):
        save_tiff(tmp_path, n)
    source = FolderSource(tmp_path, ignore=[tmp_path / "frame_2.tif"], **QUICK)
    assert names(collect(source.iter_events(False, {"frame_0.tif"}), 9, idle_s=0.2)) == ["frame_1.tif"]


def test_missing_folder_is_a_clear_error(tmp_path):
    with pytest.raises(ValueError, match="no such folder"):
        FolderSource(tmp_path / "none")


def test_folder_that_comes_back_is_followed_on(tmp_path, save_tiff, collect, monkeypatch):
    folder = tmp_path / "camera"
    folder.mkdir()
    save_tiff(folder, 0)
    events = FolderSource(folder, **QUICK).iter_events(False)
    collect(events, 1)
    folder.rename(tmp_path / "away")
    assert next(events).seconds < 1
    assert next(events) == Wait(1.0)
    (tmp_path / "away").rename(folder)
    save_tiff(folder, 1)
    assert "frame_1.tif" in names(collect(events, 2, idle_s=0.3))
