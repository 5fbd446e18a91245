import sys

import pytest

from napari_lowdose_tem.widgets.shared.memory import give_back_memory


@pytest.mark.parametrize("platform", ["linux", "win32", "darwin"])
def test_memory_is_given_back_or_nothing_happens(monkeypatch, platform):
    called = []
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr("ctypes.CDLL", lambda name: called.append(name) or no_such_library())
    give_back_memory()
    assert called == (["libc.so.6"] if platform == "linux" else [])


def no_such_library():
    raise OSError("not here")
