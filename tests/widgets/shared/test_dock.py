from dataclasses import dataclass

from napari.components import ViewerModel

from napari_lowdose_tem.widgets.profile.dock import ProfileDock
from napari_lowdose_tem.widgets.shared import dock as dock_module
from napari_lowdose_tem.widgets.shared.dock import Dock
from napari_lowdose_tem.widgets.shared.state import DockState


def test_a_closed_dock_gives_memory_back(qtbot, monkeypatch):
    given = []
    monkeypatch.setattr(dock_module, "_TRIM_MS", 10)
    monkeypatch.setattr(dock_module, "give_back_memory", lambda: given.append(1))
    dock = ProfileDock(ViewerModel())
    qtbot.addWidget(dock)
    dock.show()
    qtbot.wait(50)
    assert not given
    dock.close()
    qtbot.waitUntil(lambda: given == [1], timeout=10_000)


def test_a_deleted_dock_is_told_nothing(qtbot):
    @dataclass
    class State(DockState):
        n: int = 0

    class Control:
        def __init__(self):
            self.state = State()

        def close(self):
            self.state.n += 1

    class Shown(Dock[Control]):
        def _make_widgets(self):
            pass

        _lay_out = _connect = _make_widgets

        def _show_state(self, *_):
            self.width()

    control = Control()
    dock = Shown(control)
    dock.deleteLater()
    qtbot.waitUntil(lambda: control.state.n == 1, timeout=10_000)
