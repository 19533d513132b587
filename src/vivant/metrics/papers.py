"""The papers' tables and ablations as data: a table is rows (arguments of `vivant.animate`) by columns (metrics)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from .evaluate import ROWS


@dataclass(frozen=True)
class Row:
    """One way of making clips. `arguments` go to `vivant.animate`, or to `animate_long` where one is `method`; `without` names controls of the case that are withheld."""

    label: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    marks: tuple[str, ...] = ()
    """what stands in the further label columns, such as ✓"""
    without: frozenset[str] = frozenset()
    given: bool = False
    """made by other code or other weights: filled only from a folder of clips (`--method LABEL=DIR`)"""

    @property
    def folder(self) -> str:
        """The label as a folder's name."""
        return safe(self.label.replace("&", "and"))


@dataclass(frozen=True)
class Table:
    """`columns`: names of metrics. `across`: what the groups of columns are, beside one table for all."""

    name: str
    title: str
    rows: tuple[Row, ...]
    columns: tuple[str, ...]
    corner: tuple[str, ...] = ("Method",)
    across: Literal["model", "benchmark"] = "model"
    common: Mapping[str, Any] = field(default_factory=dict)
    """arguments of every row, under the row's own"""


def safe(name: str) -> str:
    """A label or a model's name as a folder's."""
    return re.sub(r"[^\w.+-]+", "_", name).strip("_") or "unnamed"


def _ablation(row: str) -> dict[str, Any]:
    """A row of the suite of scenes in `animate`'s words: True takes the case's own proxy, or "auto"."""
    options = dict(ROWS[row])
    return options | {"proxy": "case" if options["proxy"] else "none"}


EPA = "Every Painting Awakened"
CURVES = {
    "Stepwise-Decreasing": "stepwise-decreasing", "Linear-Decreasing": "linear-decreasing",
    "Stepwise-Increasing": "stepwise-increasing", "Linear-Increasing": "linear-increasing",
}  # fmt: skip

TABLES: dict[str, Table] = {
    t.name: t
    for t in (
        Table(
            "table1", f"{EPA}, Table 1: what each part brings",
            (
                Row("Baseline", _ablation("base"), ("", "", "")),
                Row("+V", _ablation("+V"), ("✓", "", "")),
                Row("+S", _ablation("+S"), ("", "✓", "")),
                Row("+V&U", _ablation("+V&U"), ("✓", "", "✓")),
                Row("+V&S (Ours)", _ablation("full"), ("✓", "✓", "")),
            ),
            ("clipsim", "fvd"), ("Method", "VSDS", "Slerp", "Uniform"),
        ),
        Table(
            "curves", f"{EPA}, fig. 6: the step sizes α of VSDS",
            tuple(Row(label, {"curve": curve}) for label, curve in CURVES.items()), ("clipsim", "fvd"), ("α",),
        ),
        Table(
            "proportions", f"{EPA}, fig. 7: the share p of the steps that VSDS spans",
            tuple(Row(f"p = {p:.1f}", {"distil": p}) for p in (0.2, 0.4, 0.6, 0.8, 1.0)), ("clipsim", "fvd"), ("p",),
        ),
        Table(
            "proxies", f"{EPA}, fig. 8: who makes the proxy",
            (
                Row("Baseline", _ablation("base")), Row("no proxy", {"proxy": "none"}), Row("Embedded", {"proxy": "embedded"}),
                Row("SDXL Refiner", {"proxy": "refiner"}), Row("MasaCtrl", {"proxy": "masactrl"}),
                Row("InvSR", {"proxy": "invsr"}), Row("Instruct editor", {"proxy": "edit"}),
            ),
            ("clipsim", "fvd"), ("Proxy",),
        ),
        Table(
            "clia1", "Controllable Longer Image Animation, Table 1",
            (
                *(Row(label, given=True) for label in (
                    "Gen-2", "Genmo", "Pika Labs", "I2VGen", "SFS", "Animating-pictures", "Animating-landscape")),
                Row("Ours"), Row("Ours (w/o T)", {"refine": False}),
                Row("Ours (w/o motion fields)", without=frozenset({"arrows"})),
                Row("Ours (w/o motion strength)", without=frozenset({"strength"})),
            ),
            ("fvd", "psnr", "ssim", "lpips", "consistency", "study:motion", "study:coherence", "study:conformity"),
        ),
        Table(
            "clia2", "Controllable Longer Image Animation, Table 2: longer clips",
            (
                Row("Direct", {"method": "continuation"}), Row("Gen-L-Video", {"method": "windowed"}),
                Row("FreeNoise", {"method": "freenoise"}), Row("Ours", {"method": "phased"}),
            ),
            ("fvd", "psnr", "ssim", "lpips", "consistency", "seconds", "study:motion", "study:coherence", "study:conformity"),
            common={"frames": 125},
        ),
        Table(
            "gammas", "Controllable Longer Image Animation, fig. 8: where the phased inference splits",
            tuple(Row(f"γ = {g:.1f}", {"method": "phased", "gamma": g}) for g in (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)),
            ("fvd", "seconds"), ("γ",), common={"frames": 125},
        ),
        Table(
            "dynamicrafter1", "DynamiCrafter, Table 1",
            (Row("VideoComposer", given=True), Row("I2VGen-XL", given=True), Row("Ours")),
            ("fvd", "kvd", "pic"), across="benchmark",
        ),
        Table(
            "dynamicrafter2", "DynamiCrafter, Table 2: user study",
            (*(Row(label, given=True) for label in ("PikaLabs", "Gen-2", "VideoComposer", "I2VGen-XL")), Row("Ours")),
            ("study:motion", "study:coherence", "study:conformity"),
        ),
        Table(
            "dynamicrafter3", "DynamiCrafter, Table 3: the two streams and the training",
            (Row("Ours"), *(Row(label, given=True) for label in ("w/o ctx", "w/o VDG", "w/o λ", "Ours_G", "Ft. ent.", "1st frame"))),
            ("fvd", "pic"),
        ),
        Table(
            "animateanything2", "AnimateAnything, Table 2: how the image is given",
            (
                *(Row(label, given=True) for label in (
                    "CLIP Vision Global Token", "CLIP Vision Full Tokens", "Concat Latent Spatial")),
                Row("Concat Latent Temporal"),
            ),
            ("fvd", "consistency", "seconds", "memory"),
        ),
        Table(
            "animateanything3", "AnimateAnything, Table 3: the motion mask",
            (Row("No Control", without=frozenset({"mask"})), Row("Mask Guidance", {"freeze": False}), Row("Mask Guidance + Freeze")),
            ("mask_precision",),
        ),
        Table(
            "animateanything4", "AnimateAnything, Table 4: the motion strength",
            (
                Row("No Control", without=frozenset({"strength"})), Row("Adding Noise", given=True),
                Row("FPS Guidance", given=True), Row("Motion Strength Guidance", given=True),
                Row("Motion Strength Guidance + Loss"),
            ),
            ("strength_error",),
        ),
    )
}  # fmt: skip
"""Rows that are other weights or other code are `given`: no argument of ours makes them."""
