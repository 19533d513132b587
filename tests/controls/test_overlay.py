"""The overlay shows what was asked for, where it was asked for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from vivant import cli_arrows
from vivant.controls.arrows import field
from vivant.controls.overlay import INK, overlay, tint
from vivant.errors import OutputError, SettingError
from vivant.shot import Arrow

PAINTING = np.full((120, 200, 3), 128, np.uint8)


def near(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return np.abs(picture.astype(int) - colour).max(-1) < 40


def test_the_arrow_lies_between_its_ends() -> None:
    drawn = near(overlay(PAINTING, [Arrow(0.2, 0.5, 0.8, 0.5)]), INK)
    rows, columns = np.nonzero(drawn)
    assert drawn[60, 50:150].all() and abs(rows.mean() - 60) < 1
    assert 36 <= columns.min() <= 42 and 156 <= columns.max() <= 164


def test_a_pin_is_a_ring() -> None:
    picture = overlay(PAINTING, [Arrow(0.5, 0.5, 0.5, 0.5)])
    changed = (picture != 128).any(-1)
    assert changed[60, 106] and not changed[60, 100] and not changed[:40].any()


def test_the_field_tints_only_where_it_moves() -> None:
    flow = field([Arrow(0.2, 0.5, 0.4, 0.5)], (100, 60), sigma=0.1)
    picture = overlay(PAINTING, [], flow)
    still, moving = picture[5, 190].astype(int), picture[62, 43].astype(int)
    assert np.ptp(still) <= 1
    assert moving[0] > moving[1] + 30  # right is red


def test_hues_turn_with_the_direction() -> None:
    ways = np.array([[[1, 0], [0, 1], [-1, 0], [0, -1]]], np.float32)
    red, yellowish, cyan, violet = tint(ways)[0].astype(int)
    assert red.argmax() == 0 and red[1] < 20
    assert cyan.argmin() == 0 and cyan[1] > 200 and cyan[2] > 200
    assert yellowish.argmin() == 2 and violet.argmin() == 1


def test_large_paintings_are_shown_smaller() -> None:
    assert overlay(np.zeros((100, 3000, 3), np.uint8), []).shape == (43, 1280, 3)


@pytest.fixture
def app() -> typer.Typer:
    app, train = typer.Typer(), typer.Typer()
    app.add_typer(train, name="train")
    cli_arrows.register(app, train)
    return app


def test_the_command(app: typer.Typer, tmp_path: Path) -> None:
    source = tmp_path / "grey.png"
    Image.fromarray(PAINTING).save(source)
    told = ["arrows", str(source), "--arrow", "0.2,0.5:0.6,0.5", "--arrow", "0.9,0.9", "-o", str(tmp_path / "o.png")]
    done = CliRunner().invoke(app, [*told, "--dense", "--json"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.output)
    assert report["arrows"] == ["0.2,0.5:0.6,0.5", "0.9,0.9"] and 0 < report["moving_share"] < 1
    assert np.asarray(Image.open(tmp_path / "o.png")).shape == (120, 200, 3)
    refused = CliRunner().invoke(app, [*told[:4], "-o", str(tmp_path / "o.jpg")])
    assert isinstance(refused.exception, OutputError)
    refused = CliRunner().invoke(app, [*told, "--frames", "9999999999999999"])
    assert isinstance(refused.exception, SettingError)
    refused = CliRunner().invoke(app, [*told[:4], "--arrow", "0.2,0.5:0.1,0.5"])
    assert isinstance(refused.exception, SettingError)
