import sys
from dataclasses import dataclass

import pytest
from napari.components import ViewerModel
from psygnal import evented

from napari_lowdose_tem.widgets.profile.dock import ProfileDock
from napari_lowdose_tem.widgets.shared import parts as _parts
from napari_lowdose_tem.widgets.shared.memory import give_back_memory


def test_a_closed_dock_gives_memory_back(qtbot, monkeypatch):
    given = []
    monkeypatch.setattr(_parts, "_TRIM_MS", 10)
    monkeypatch.setattr(_parts, "give_back_memory", lambda: given.append(1))
    dock = ProfileDock(ViewerModel())
    qtbot.addWidget(dock)
    dock.show()
    qtbot.wait(50)
    assert not given
    dock.close()
    qtbot.waitUntil(lambda: given == [1], timeout=10_000)


def test_a_deleted_dock_is_told_nothing(qtbot):
    @evented
    @dataclass
    class State:
        n: int = 0

    class Control:
        def __init__(self):
            self.state = State()

        def close(self):
            self.state.n += 1

    class Shown(_parts.Dock):
        def _make_widgets(self):
            pass

        _lay_out = _connect = _make_widgets

        def _show_state(self, *_):
            self.width()

    control = Control()
    dock = Shown(control)
    dock.deleteLater()
    qtbot.waitUntil(lambda: control.state.n == 1, timeout=10_000)


@pytest.mark.parametrize("platform", ["linux", "win32", "darwin"])
def test_memory_is_given_back_or_nothing_happens(monkeypatch, platform):
    called = []
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr("ctypes.CDLL", lambda name: called.append(name) or no_such_library())
    give_back_memory()
    assert called == (["libc.so.6"] if platform == "linux" else [])


def no_such_library():
    raise OSError("not here")
