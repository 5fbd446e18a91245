"""The list of what a check found."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QScrollArea

from napari_lowdose_tem.widgets.shared.parts import ERROR_COLOR
from napari_lowdose_tem.widgets.train.state import FindingRow

_SEVERITIES = {"error": ("✖", ERROR_COLOR), "warning": ("▲", "#e0a030"), "info": ("●", "#5b9bd5")}
_HEIGHT_PX = 150


class FindingsList(QScrollArea):
    """What a check found, one below the other; hidden when that is nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.setWidgetResizable(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFixedHeight(_HEIGHT_PX)
        self._label = QLabel()
        self._label.setWordWrap(True)
        self._label.setTextFormat(Qt.TextFormat.RichText)
        self._label.setAlignment(Qt.AlignmentFlag.AlignTop)
        self._label.setMargin(4)
        self._label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.setWidget(self._label)
        self._shown: tuple[FindingRow, ...] = ()
        self.setVisible(False)

    @property
    def text(self) -> str:
        """What is shown, with its mark-up."""
        return str(self._label.text())

    def show_findings(self, findings: tuple[FindingRow, ...]) -> None:
        """Show findings."""
        if findings != self._shown:
            self._shown = findings
            self._label.setText("".join(_row(finding) for finding in findings))
            self.setVisible(bool(findings))


def _row(finding: FindingRow) -> str:
    mark, color = _SEVERITIES.get(finding.severity, _SEVERITIES["info"])
    where = f"<b>{_escaped(finding.where)}</b>: " if finding.where else ""
    return (
        f"<p style='margin: 0 0 5px 14px; text-indent: -14px'><span style='color: {color}'>{mark}</span> "
        f"{where}{_escaped(finding.text)}</p>"
    )


def _escaped(text: str) -> str:
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace("_", "_\u200b").replace("/", "/\u200b")
