import logging
import threading
import warnings

import pytest

from napari_lowdose_tem.io.errors import quiet


def test_overlapping_threads_leave_the_warning_filters():
    before = list(warnings.filters)
    first_in, second_in = threading.Event(), threading.Event()
    collected = []

    def first():
        with quiet("some library"):
            first_in.set()
            second_in.wait(5)

    def second():
        first_in.wait(5)
        with quiet("some library") as messages:
            second_in.set()
            one.join(5)
            logging.getLogger("some library").warning("of this thread")
            collected.extend(messages)

    one, two = threading.Thread(target=first), threading.Thread(target=second)
    for thread in (one, two):
        thread.start()
    for thread in (one, two):
        thread.join(10)
    assert collected == ["of this thread"]
    assert warnings.filters == before


def test_overlapping_readers_leave_the_warning_filters(monkeypatch, tmp_path):
    import rsciio.digitalmicrograph

    from napari_lowdose_tem.io import rosetta

    before = list(warnings.filters)
    first_in, second_in = threading.Event(), threading.Event()
    read = []

    def file_reader(path, lazy):
        warnings.warn("odd file", stacklevel=2)
        if path == "first":
            first_in.set()
            second_in.wait(0.3)
        else:
            second_in.set()
            one.join(0.3)
        read.append(path)

    monkeypatch.setattr(rsciio.digitalmicrograph, "file_reader", file_reader)
    one, two = (
        threading.Thread(target=rosetta.signals, args=(name, "digitalmicrograph"))
        for name in ("first", "second")
    )
    one.start()
    first_in.wait(5)
    two.start()
    for thread in (one, two):
        thread.join(10)
    assert sorted(read) == ["first", "second"]
    assert warnings.filters == before
    with pytest.warns(UserWarning, match="seen"):
        warnings.warn("seen", stacklevel=1)
