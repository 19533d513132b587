"""A table from end to end: cells that are known, cells that cannot be, and nothing made or measured twice."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vivant.cli import app, run
from vivant.cli_eval import HELP
from vivant.errors import InputError, SettingError
from vivant.metrics.bench import Bench, evaluate, frame_features
from vivant.metrics.cases import cases_of, drags, scenes
from vivant.metrics.columns import COLUMNS
from vivant.metrics.eyes import Eyes
from vivant.metrics.papers import TABLES, Row, Table
from vivant.metrics.plans import Job
from vivant.metrics.runs import Made
from vivant.metrics.video import read_video
from vivant.render.export import export

NAMES = ("a", "b", "c")


def walk(picture: np.ndarray, step: int, frames: int = 6) -> list[np.ndarray]:
    return [np.roll(picture, step * i, 1) for i in range(frames)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three paintings with real clips: all of it walks to the right by 2 pixels a frame."""
    rng = np.random.default_rng(0)
    entries = []
    for name in NAMES:
        small = Image.fromarray(rng.integers(0, 255, (12, 16, 3), np.uint8))
        picture = np.asarray(small.resize((96, 64), Image.Resampling.BICUBIC))
        (tmp_path / "in").mkdir(exist_ok=True)
        Image.fromarray(picture).save(tmp_path / "in" / f"{name}.png")
        export(walk(picture, 2), tmp_path / "in" / f"{name}-real.mp4", 8)
        entries.append({"image": f"{name}.png", "prompt": "it moves", "reference": f"{name}-real.mp4", "strength": 0.5})
    (tmp_path / "in" / "cases.json").write_text(json.dumps(entries))
    return tmp_path / "in"


def maker(job: Job, device: str) -> Made:
    """Clips of known motion in place of a model's: the row's `distil` says how many pixels a frame."""
    picture = np.asarray(Image.open(job.painting).convert("RGB"))
    export(walk(picture, int(job.arguments["distil"])), job.target, 8)
    made.append(job)
    return Made(2.0, 5, 3_000_000_000, device)


made: list[Job] = []
ROWS = (Row("true", {"distil": 2}), Row("wrong way", {"distil": -2}), Row("still", {"distil": 0}))


@pytest.fixture
def bench(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("VIVANT_MODELS", str(tmp_path / "models"))
    made.clear()
    columns = ("fvd", "psnr", "motion", "seconds", "memory")
    return Bench(Table("t", "Test", ROWS, columns), tmp_path / "run", ["miniature"], {"": str(folder)},
                 frames=6, devices=["cpu"], suffix="", maker=maker)  # fmt: skip


def test_the_true_motion_wins_every_column(bench: Bench) -> None:
    [grid] = evaluate(bench).grids
    cells = {labels[0]: [c.value for c in row] for labels, row in grid.rows}
    fvd, psnr, motion = (
        dict(zip(cells, column, strict=True)) for column in list(zip(*cells.values(), strict=True))[:3]
    )
    # The real clips went through H.264, so a Fréchet distance of exactly 0 is not to be had; the order is.
    assert fvd["true"] < 0.2 * fvd["still"] and fvd["true"] < 0.2 * fvd["wrong way"]
    assert (
        psnr["true"] > psnr["still"] + 5
        and psnr["true"] > psnr["wrong way"] + 5
        and motion["still"] == 0 < motion["true"]
    )
    assert cells["true"][3:] == [2.0, pytest.approx(3.0)]
    assert grid.heads[0].label == "Fréchet distance (gradients-3d)"  # never called FVD
    assert any("is not FVD" in note for note in grid.notes) and any("3 of 3 cases" in note for note in grid.notes)
    assert grid.rows[0][1][1].low <= psnr["true"] <= grid.rows[0][1][1].high
    printed = (bench.out / "t.md").read_text()
    assert printed.count("| true |") == 1 and "**" in printed and (bench.out / "t.tex").read_text().count("\\\\") == 4
    assert len((bench.out / "t.csv").read_text().splitlines()) == 4
    assert json.loads((bench.out / "t.json").read_text())["tables"][0]["rows"][0]["labels"] == ["true"]


def test_nothing_is_made_or_measured_twice(bench: Bench) -> None:
    first = evaluate(bench).as_dict()
    assert len(made) == 9
    blind = replace(COLUMNS["psnr"], clip=lambda seen: pytest.fail("measured again"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(COLUMNS, "psnr", blind)
        assert evaluate(bench).as_dict() == first and len(made) == 9
    # One clip lost: only that one is made again.
    gone = next(j.target for j in made if j.row == "still")
    shutil.rmtree(gone)
    assert evaluate(bench).as_dict() == first and len(made) == 10


def test_rows_are_compared_on_the_cases_all_of_them_have(bench: Bench, folder: Path, tmp_path: Path) -> None:
    """A folder of clips made elsewhere as one more row; it has two of the three cases."""
    for name in NAMES[:2]:
        picture = np.asarray(Image.open(folder / f"{name}.png").convert("RGB"))
        (tmp_path / "else").mkdir(exist_ok=True)
        export(walk(picture, 2), tmp_path / f"else/{NAMES.index(name):02d}-{name}.mp4", 8)
    [grid] = evaluate(replace(bench, given={"Elsewhere": tmp_path / "else"})).grids
    labels = [row[0][0] for row in grid.rows]
    assert labels == ["true", "wrong way", "still", "Elsewhere"] and any("2 of 3 cases" in n for n in grid.notes)
    elsewhere = grid.rows[3][1]
    assert elsewhere[1].value > 30 and elsewhere[3].value is None and "elsewhere" in elsewhere[3].why
    (tmp_path / "none").mkdir()
    export(walk(np.zeros((16, 16, 3), np.uint8), 0), tmp_path / "none/x.mp4", 8)
    with pytest.raises(InputError, match="00-a"):
        evaluate(replace(bench, given={"Elsewhere": tmp_path / "none"}))


def test_cells_that_cannot_be_filled_say_why(bench: Bench) -> None:
    columns = ("clipsim", "mask_precision", "direction", "strength_error", "study:motion")
    rows = (*ROWS[:1], Row("Gen-2", given=True))
    result = evaluate(replace(bench, table=Table("u", "Test", rows, columns)))
    first, second = (cells for _, cells in result.grids[0].rows)
    assert [c.value is None for c in first] == [True, True, True, False, True]
    assert (
        "clip" in first[0].why
        and "region" in first[1].why
        and "direction" in first[2].why
        and "--study" in first[4].why
    )
    assert all("--method" in c.why for c in second[:4])
    rates = {"motion": {"true": {"rate": 0.25, "low": 0.2, "high": 0.3}}}
    again = evaluate(replace(bench, table=Table("u", "Test", rows, columns), study={"rates": rates}))
    assert again.grids[0].rows[0][1][4].value == 25.0 and "did not show" in again.grids[0].rows[1][1][4].why


def test_benchmarks_across(bench: Bench, folder: Path) -> None:
    """DynamiCrafter's layout: a group of columns a benchmark, a row a model."""
    table = Table("d", "Test", (Row("Ours", {"distil": 2}),), ("fvd", "psnr"), across="benchmark")
    [grid] = evaluate(
        replace(bench, table=table, sources={"one": str(folder), "two": str(folder)}, intervals=True)
    ).grids
    assert grid.groups == (("one", 2), ("two", 2)) and len(grid.heads) == 4 and len(grid.rows) == 1
    values = [c.value for c in grid.rows[0][1]]
    assert values[:2] == pytest.approx(values[2:]) and grid.rows[0][1][0].low <= values[0] <= grid.rows[0][1][0].high
    assert (bench.out / "one" / "clips").is_dir() and (bench.out / "two" / "clips").is_dir()


def test_settings_out_of_range(bench: Bench) -> None:
    for bad, word in (({"also": ("beauty",)}, "columns"), ({"models": []}, "model"), ({"extractors": {"video": "x"}}, "extractor"),
                      ({"extractors": {"ear": "i3d"}}, "role"), ({"models": ["miniature", "cinemo"], "given": {"X": Path(".")}},
                       "LABEL@MODEL")):  # fmt: skip
        with pytest.raises(SettingError, match=word):
            evaluate(replace(bench, **bad))


def test_every_column_is_known_and_every_table_asks_for_known_ones() -> None:
    for column in COLUMNS.values():
        assert sum(map(bool, (column.clip, column.group, column.took, column.study))) == 1
        assert bool(column.role) == bool(column.metric)
    assert all(name in COLUMNS for table in TABLES.values() for name in table.columns)
    assert set(HELP) == set(TABLES)


def test_eyes_take_the_papers_network_only_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIVANT_MODELS", str(tmp_path))
    assert Eyes().name("video") == "gradients-3d" and Eyes({"video": "videomae"}).name("video") == "videomae"
    weights = tmp_path / "extractors" / "i3d" / "i3d_torchscript.pt"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"")
    assert Eyes().name("video") == "i3d" and Eyes().label("frechet", "video") == "FVD"
    pixels = np.random.default_rng(0).integers(0, 255, (20, 16, 16, 3), np.uint8)
    assert torch.allclose(Eyes(device="cpu").frames(pixels)[17:18], Eyes(device="cpu").frames(pixels[17:18]))


def test_scenes_are_cases_with_their_exact_motion(tmp_path: Path) -> None:
    first, again = scenes(2, 0, tmp_path), cases_of("scenes", tmp_path, count=2, size="512")
    assert first == again  # written once, never magnified
    for case in first:
        assert case.reference is not None and case.region is not None
        frames = read_video(case.reference).frames
        assert frames.shape == (16, 192, 192, 3) and (frames[0].astype(int) - frames[-1]).std() > 0.5
    assert len({c.name for c in first}) == 2


def test_arrows_are_read_from_the_real_clip(folder: Path, tmp_path: Path) -> None:
    cases = cases_of(str(folder), tmp_path / "c", arrows=True)
    assert all(1 <= len(c.arrows) <= 5 for c in cases)
    moves = np.array([(x1 - x0, y1 - y0) for c in cases for x0, y0, x1, y1 in c.arrows])
    assert np.median(moves[:, 0]) > 0.04 and abs(np.median(moves[:, 1])) < 0.03  # the walk is to the right
    spots = [(a[0] * 96, a[1] * 64) for a in cases[0].arrows]
    assert all(np.hypot(p[0] - q[0], p[1] - q[1]) > 12 for i, p in enumerate(spots) for q in spots[:i])
    assert drags([np.zeros((32, 32, 3), np.uint8)] * 3) == ()


def test_features_for_figures(folder: Path) -> None:
    found = frame_features(folder / "a-real.mp4", None, 4)
    assert found.shape[0] == 4 and np.isfinite(found).all()


def test_the_command_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One command, the real embedded model, Table 1's layout; the second call makes nothing."""

    def call(*words: object) -> int:
        return run(lambda: app([str(w) for w in words], standalone_mode=False))

    monkeypatch.setenv("VIVANT_MODELS", str(tmp_path / "models"))
    cases = json.loads((folder / "cases.json").read_text())
    (folder / "cases.json").write_text(json.dumps([c | {"prompt": "the water ripples"} for c in cases[:1]]))
    words = (
        "eval",
        "table1",
        "-o",
        tmp_path / "t1",
        "--paintings",
        folder,
        "--frames",
        3,
        "--steps",
        2,
        "--devices",
        "cpu",
    )
    assert call(*words, "--json") == 0
    first = json.loads(capsys.readouterr().out)
    assert [r["labels"] for r in first["tables"][0]["rows"]] == [
        ["Baseline", "", "", ""], ["+V", "✓", "", ""], ["+S", "", "✓", ""], ["+V&U", "✓", "", "✓"],
        ["+V&S (Ours)", "✓", "✓", ""],
    ]  # fmt: skip
    assert len(list((tmp_path / "t1" / "clips").rglob("*.mp4"))) == 5 and not first["failures"]
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "t1" / "clips").rglob("*.mp4")}
    assert call(*words, "--print", "tex") == 0 and "\\begin{tabular}" in capsys.readouterr().out
    assert stamps == {p: p.stat().st_mtime_ns for p in stamps}
    assert call("eval", "table1", "-o", tmp_path / "x", "--print", "doc") == 2
    assert call("eval", "curves", "-o", tmp_path / "x", "--paintings", tmp_path / "nowhere") == 2
    assert call("eval", "curves", "-o", tmp_path / "x", "--columns") == 0 and "brush" in capsys.readouterr().out
    clips = sorted((tmp_path / "t1" / "clips").rglob("*.mp4"))[:2]
    assert call("eval", "figure", "side", f"one={clips[0]}", f"two={clips[1]}", "-o", tmp_path / "s.mp4") == 0
    assert call("eval", "figure", "strip", clips[0], clips[1], "-o", tmp_path / "s.png") == 0
    assert call("eval", "figure", "lambda", tmp_path / "s.png") == 2
