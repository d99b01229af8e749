"""Figures of results and of training, as objects that notebooks show and `Picture.save` writes.

They are made without ``pyplot``, so they share no state with the caller's own figures, need no display and can be drawn
in any thread; settings are fixed. Every function returns a `Picture`; texts are large enough to be read at half size,
and colours are the eight of Okabe and Ito, which colour-blind people can tell apart.
"""

from __future__ import annotations

from captioner.errors import needs_extra
from captioner.outputs.plots.settings import local_settings_unread

with needs_extra("figures need matplotlib", "plots"), local_settings_unread():
    from captioner.outputs.plots.charts import (
        bar_figure,
        confusion_figure,
        heat_figure,
        line_figure,
        reliability_figure,
        risk_coverage_figure,
        roc_figure,
        scatter_figure,
        training_figure,
    )
    from captioner.outputs.plots.photos import attention_figure, attention_overlays, photos_figure
    from captioner.outputs.plots.picture import COLOURS, Picture
    from captioner.outputs.plots.timeline import timeline_figure

__all__ = [
    "COLOURS",
    "Picture",
    "attention_figure",
    "attention_overlays",
    "bar_figure",
    "confusion_figure",
    "heat_figure",
    "line_figure",
    "photos_figure",
    "reliability_figure",
    "risk_coverage_figure",
    "roc_figure",
    "scatter_figure",
    "timeline_figure",
    "training_figure",
]
