"""The tables and figures of a chapter's run, and those of its archived run beside them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from traindyn.files import atomic_path, project_root, read_json
from traindyn.report import outputs
from traindyn.report.showing import Markdown, display


class Figures:
    """What a chapter draws and saves.

    Attributes:
        name: the chapter's name.
        preset: of the run.
        interactive: whether the notebook is run by hand.
        out: the run's folder.
    """

    name: str
    preset: str
    interactive: bool
    out: Path

    def save(self, name: str, frame: pd.DataFrame) -> Path:
        """Write a table to `tables/<name>.csv` of the run's folder (rounded to 6 digits); return its path."""
        path = self.out / "tables" / f"{name}.csv"
        with atomic_path(path) as part:
            frame.to_csv(part, index=False, float_format="%.6g")
        return path

    def archived(self, name: str, preset: str = "paper") -> pd.DataFrame | None:
        """Return a table of this chapter's archived run, or None if there is none.

        None, too, where this run has the same preset, and at smoke, which is for tests and has to be quick.

        Args:
            name: as in `save` and `figure`.
            preset: of the archived run.
        """
        path = project_root() / "data" / "results" / self.name / preset / "tables" / f"{name}.csv"
        return pd.read_csv(path) if self.preset not in ("smoke", preset) and path.is_file() else None

    def archived_size(self, experiment: str, preset: str = "paper") -> SimpleNamespace:
        """Return the sizes that one experiment had in this chapter's archived run, as attributes."""
        about = read_json(project_root() / "data" / "results" / self.name / preset / "provenance.json")
        return SimpleNamespace(**about["sizes"][experiment])

    def say(self, text: str) -> None:
        """Show a sentence that was made from numbers, MyST Markdown."""
        display(Markdown(text)) if self.interactive else display({"text/markdown": text}, raw=True)

    def figure(self, name: str, fig: Figure, *, caption: str, alt: str, data: pd.DataFrame | None = None) -> None:
        """Save a figure (SVG, and PNG outside smoke) and show it with number, caption and the table behind it.

        Args:
            name: short file name; the figure's anchor is `fig-<chapter>-<name>`.
            fig: the figure; it is closed.
            caption: what is drawn, with sizes, seeds and data; MyST Markdown.
            alt: the same for one who cannot see it.
            data: the tidy table behind the figure.
        """
        for suffix in ("svg",) if self.preset == "smoke" else ("svg", "png"):
            with atomic_path(self.out / "figures" / f"{name}.{suffix}") as part:
                fig.savefig(part, format=suffix, dpi=150, metadata={"Date": None} if suffix == "svg" else None)
        if self.interactive:
            display(fig)
            display(Markdown(f"*{caption}*"))
        plt.close(fig)
        if data is not None:
            self.save(name, data)
        if not self.interactive:
            text = outputs.figure_directive(self.name, name, caption, alt, data)
            display({"text/markdown": text}, raw=True)

    def archived_figure(
        self,
        name: str,
        draw: Callable[[pd.DataFrame], Figure],
        *,
        caption: str | Callable[[pd.DataFrame], str],
        alt: str,
        preset: str = "paper",
    ) -> None:
        """Show the archived run's figure beside the live one, drawn by the same function from the archived table.

        Nothing is shown where there is no such run or table, where this run has the same preset, and at smoke.

        Args:
            name: of the live figure, whose table is drawn.
            draw: table -> figure.
            caption: what is drawn, or a function of the table that says it.
            alt: the same for one who cannot see it.
            preset: of the archived run.
        """
        table = self.archived(name, preset)
        if table is not None:
            text = caption if isinstance(caption, str) else caption(table)
            self.figure(f"{name}-archived", draw(table), caption=text, alt=alt, data=table)
