"""A film on disk: written as it is made, taken up again, playable throughout, and painted without end."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from vivant.errors import InputError, OutputError
from vivant.long import film as films
from vivant.long.again import rerun_long
from vivant.long.base import Settings, moves, tiling
from vivant.long.evaluate import Meter, compare, likeness, per_hundred, table
from vivant.long.film import Film, animate_long, dreamt, partial, shoot, work_folder
from vivant.long.paint import painter
from vivant.long.segments import Folder, join
from vivant.priors.analytic import AnalyticPrior
from vivant.priors.miniature.around import Lifted
from vivant.priors.miniature.keys import Track, composed
from vivant.priors.miniature.reel import Film as MotionFrames
from vivant.priors.miniature.reel import Reel
from vivant.render.export import export, read_recipe
from vivant.shot import Controls, Shot
from vivant.stage import Stage


def picture(width: int = 48, height: int = 32) -> np.ndarray:
    rng = np.random.default_rng(0)
    small = rng.integers(40, 220, (height // 8, width // 8, 3), np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def textured(width: int = 96, height: int = 64) -> np.ndarray:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(20, 235, (height // 4, width // 4, 3), np.uint8))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))


def staged(**changes: object) -> Stage:
    how: dict = {"steps": 6, "distil": 0.0, "fps": 8} | changes
    return Stage(AnalyticPrior(sigma=0.05), Shot(picture(), "clouds drift", **how), None, {"of": "tests"})


def begin(out: Path, total: int = 30, stage: Stage | None = None, **how: object) -> Film:
    stage = stage or staged()
    tiles = tiling(stage.prior, stage.shot, total, Settings())
    film = Film(out, total, 8, tiles.count, recipe=stage.recipe | {"film": {"frames": total}})
    shoot(stage, tiles, "phased", Settings(), film, **how)  # type: ignore[arg-type]
    return film


def seen(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as file:
        return [f.to_ndarray(format="rgb24") for f in file.decode(video=0)]


def test_a_film_is_whole_and_nothing_else_is_left(tmp_path: Path) -> None:
    film = begin(tmp_path / "film.mp4")
    assert len(seen(film.path)) == 30
    assert [p.name for p in tmp_path.iterdir()] == ["film.mp4"]
    assert read_recipe(film.path)["film"] == {"frames": 30}
    with av.open(str(film.path)) as file:
        times = [f.time for f in file.decode(video=0)]
    assert np.allclose(np.diff(times), 1 / 8), "parts follow on each other without a gap"


def test_a_stopped_film_goes_on_and_comes_out_the_same(tmp_path: Path) -> None:
    whole = begin(tmp_path / "whole.mp4")
    out, stage = tmp_path / "film.mp4", staged()
    decode, calls = stage.prior.decode, []

    def stops(x, shot):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return decode(x, shot)

    stage.prior.decode = stops  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        begin(out, stage=stage)
    assert not out.exists() and len(seen(partial(out))) == 14, "what is there can be played"
    kept = {p.name for p in work_folder(out).iterdir()}
    assert {"window_00000.safetensors", "window_00001.safetensors", "part_00001.mp4"} <= kept
    assert not any(name.endswith(".part") for name in kept)
    again = begin(out)
    assert again.resumed == 3 and again.evaluations < whole.evaluations
    assert all(np.array_equal(a, b) for a, b in zip(seen(whole.path), seen(out), strict=True))


def test_another_recipe_or_a_fresh_start_takes_nothing_over(tmp_path: Path) -> None:
    def begin(fresh: bool = False, **recipe: object) -> Folder:
        folder = Folder(tmp_path / "work", recipe, fresh)
        folder.leave()
        return folder

    folder = begin(seed=1)
    folder.place.mkdir(exist_ok=True)
    folder = Folder(tmp_path / "work", {"seed": 1})
    folder.put("window_00000", {"x": torch.ones(2)})
    with pytest.raises(OutputError, match="no other run that writes this film"):
        begin(seed=1)
    folder.leave()
    assert begin(seed=1).get("window_00000") is not None
    (tmp_path / "work" / "window_00001.safetensors").write_bytes(b"half")
    assert begin(seed=1).get("window_00001") is None, "what is damaged is made again"
    with pytest.raises(OutputError, match=r"it is of another that was stopped \(another seed\).*--fresh"):
        begin(seed=2)
    with pytest.raises(OutputError, match="another film, steps"):
        begin(seed=1, film={"window": 3}, steps=2)
    assert begin(seed=1).get("window_00000") is not None, "nothing was touched"
    fresh = begin(True, seed=2)
    assert fresh.get("window_00000") is None and not fresh.resumed


def test_what_another_run_has_so_far_is_not_written_over(tmp_path: Path) -> None:
    out = tmp_path / "film.mp4"
    export(np.zeros((2, 32, 48, 3), np.uint8), partial(out), 8, json.dumps({"of": "another"}))
    with pytest.raises(OutputError, match="to be this film as far as it is, it is another"):
        begin(out)
    assert read_recipe(partial(out)) == {"of": "another"}
    assert begin(out, fresh=True).path.exists() and not partial(out).exists()


def test_other_formats_and_masks(tmp_path: Path) -> None:
    mask = np.zeros((32, 48), np.float32)
    mask[:16] = 1
    stage = staged(controls=Controls(mask=mask))
    film = begin(tmp_path / "frames", 20, stage)
    files = sorted(film.path.glob("*.png"))
    assert len(files) == 20
    frames = [np.asarray(Image.open(f)) for f in files]
    assert all(np.array_equal(f[16:], picture()[16:]) for f in frames), "outside the mask to the pixel"
    assert not np.array_equal(frames[-1][:16], frames[0][:16])


def test_shared_frames_are_shown_once() -> None:
    stage = staged()
    tiles = tiling(stage.prior, stage.shot, 30, Settings())
    brush = painter(stage.prior, tiles)
    still = stage.prior.still([tiles.shot], torch.Generator())
    counts = [brush.go_on(still, tiles.overlap if k else 0) for k in range(tiles.count)]
    assert counts == [8, 6, 6, 6, 4] and sum(counts) == 30
    assert len(list(brush.frames())) == 4


@pytest.mark.parametrize(("first", "second"), [(2, 3), (2, 5), (3, 2), (5, 2), (2, 2)])
def test_parts_of_few_frames_join(tmp_path: Path, first: int, second: int) -> None:
    rng = np.random.default_rng(0)
    for name, count in (("a.mp4", first), ("b.mp4", second)):
        export(rng.integers(0, 80, (count, 96, 96, 3), np.uint8), tmp_path / name, 8)
    joined = join([tmp_path / "a.mp4", tmp_path / "b.mp4"], tmp_path / "film.mp4")
    with av.open(str(joined)) as file:
        shown = [frame.time for frame in file.decode(video=0)]
    assert np.allclose(shown, np.arange(first + second) / 8)


def test_a_full_disk_is_said_and_nothing_half_kept(tmp_path: Path, monkeypatch) -> None:
    from safetensors import SafetensorError

    def full(tensors: dict, path: Path) -> None:
        path.write_bytes(b"half")
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    kept = Folder(tmp_path / "kept", {})
    with pytest.raises(OutputError, match="No space left on device"):
        kept.put("window", {"x": torch.zeros(1)})
    assert [p.name for p in kept.place.iterdir()] == ["recipe.json"]


def test_parts_join_at_any_rate(tmp_path: Path) -> None:
    parts = []
    for k in range(3):
        frames = [np.full((32, 48, 3), 40 * k + 10 * i, np.uint8) for i in range(5)]
        parts.append(export(frames, tmp_path / f"{k}.mp4", 24))
    join(parts, tmp_path / "all.mp4", json.dumps({"a": 1}))
    levels = [round(float(f.mean())) for f in seen(tmp_path / "all.mp4")]
    want = [40 * k + 10 * i for k in range(3) for i in range(5)]
    assert np.abs(np.array(levels) - want).max() <= 3
    assert read_recipe(tmp_path / "all.mp4") == {"a": 1}


@pytest.mark.parametrize(("how", "said"), [
    ({"frames": 1}, "film of 2"), ({"method": "endless"}, "method among"), ({"gamma": 2.0}, "gamma"),
    ({"omega": -1.0}, "omega"), ({"window": 1}, "window"),
])  # fmt: skip
def test_bad_settings_are_named_before_a_model_is_loaded(tmp_path: Path, how: dict, said: str, monkeypatch) -> None:
    monkeypatch.setattr(films, "prepare", lambda *a, **k: pytest.fail("a model was asked for"))
    with pytest.raises(InputError, match=said):
        animate_long(picture(), "clouds drift", tmp_path / "a.mp4", **how)


# Motion without end


def drift(pace: float, keys: int = 8, cells: int = 32) -> np.ndarray:
    out = np.zeros((keys, 3, cells, cells), np.float32)
    out[:, 0] = -pace * (np.arange(1, keys + 1) / keys)[:, None, None]
    return out


def filmed(field: np.ndarray, total: int, window: int) -> list[np.ndarray]:
    everywhere = np.ones((32, 32), np.float32)
    strip = MotionFrames(Reel(textured(), everywhere, 0 * everywhere), total, 8, window)
    frames = []
    while len(frames) < total:
        frames += list(strip.paint(strip.go_on(field)))
    return frames


def test_what_an_arrow_takes_is_at_its_end_when_the_film_ends() -> None:
    outline = np.zeros(textured().shape[:2], np.float32)
    height, width = outline.shape
    outline[height // 2 - 8 : height // 2 + 8, 10:26] = 1
    painting = textured().copy()
    painting[outline > 0] = 0
    total, window, way = 60, 24, np.array([0.5, 0.0], np.float32)
    nothing = np.zeros((32, 32), np.float32)
    reel = Reel(painting, nothing, nothing, [Lifted(outline, way, 8 * total / window)])
    strip, frames = MotionFrames(reel, total, 8, window), []
    while len(frames) < total:
        frames += list(strip.paint(strip.go_on(drift(0))))
    place = [float(np.nonzero(f.max(2)[height // 2 - 4 : height // 2 + 4] < 20)[1].mean()) for f in frames]
    assert place[-1] - place[0] == pytest.approx(0.5 * width * (total - 1) / total, abs=2)
    steps = np.diff(place)
    assert np.abs(steps - steps.mean()).max() < 0.5, "evenly, through the joins"


def test_clouds_drift_for_500_frames_without_a_tear_or_a_smear() -> None:
    frames = filmed(drift(0.12), 500, 24)
    assert len(frames) == 500 and np.array_equal(frames[0], textured())
    steps = np.array([np.abs(a.astype(int) - b).mean() for a, b in pairwise(frames)])
    assert steps.max() < 2.5 * np.median(steps), "nothing jumps, at a join or anywhere"
    assert steps.min() > 0.3 * np.median(steps), "nothing stops"

    def fine(f: np.ndarray) -> float:
        return float(np.abs(np.diff(f.astype(int), axis=1)).mean())

    early, late = np.mean([fine(f) for f in frames[:60]]), np.mean([fine(f) for f in frames[-60:]])
    assert 0.9 < late / early < 1.1, "as sharp after twenty windows as at first"
    assert late > 0.7 * fine(textured())
    shift = [
        np.abs(frames[400 + 3].astype(int)[:, 20:-20] - np.roll(frames[400], k, 1)[:, 20:-20]).mean()
        for k in range(-5, 6)
    ]
    assert int(np.argmin(shift)) - 5 >= 1, "still to the right"


def test_what_sways_comes_back_and_joins_without_a_jump() -> None:
    t = np.arange(1, 9) / 8
    sway = np.zeros((8, 3, 32, 32), np.float32)
    sway[:, 1] = (0.03 * np.sin(2.3 * np.pi * t))[:, None, None]
    frames = filmed(sway, 150, 24)
    steps = np.array([np.abs(a.astype(int) - b).mean() for a, b in pairwise(frames)])
    joins = steps[24::24]
    assert joins.max() < 2 * np.percentile(steps, 90)
    away = [np.abs(f.astype(int) - textured()).mean() for f in frames]
    assert max(away[75:]) < 1.3 * max(away[:75]), "it sways about its place however long"


def test_fields_compose() -> None:
    """A shift and then another is the sum; a stretch looked up through a shift is the stretch elsewhere."""
    one, two = np.full((8, 8, 2), 0.1, np.float32), np.full((8, 8, 2), 0.2, np.float32)
    np.testing.assert_allclose(composed(one, two), 0.3, atol=1e-6)
    ramp = np.zeros((8, 8, 2), np.float32)
    ramp[..., 0] = np.arange(8) / 100
    moved = composed(ramp, np.full((8, 8, 2), 1 / 8, np.float32) * np.array([1, 0], np.float32))
    np.testing.assert_allclose(moved[0, :7, 0], 1 / 8 + np.arange(1, 8) / 100, atol=1e-5)


def test_a_track_goes_on_where_and_as_fast_as_it_was() -> None:
    track = Track()
    track.go_on(np.array([1.0, 2.0, 3.0]))
    place, speed = track.at(3.0), track.at(3.0) - track.at(2.99)
    track.go_on(np.array([4.0, 4.5, 5.0]))
    assert track.at(0.0) == pytest.approx(float(place)) and track.at(0.01) - track.at(0.0) == pytest.approx(
        float(speed), rel=0.05
    )


def test_the_embedded_model_films(tmp_path: Path) -> None:
    from vivant.data.scenes import sample
    from vivant.priors.registry import load

    painting = sample(np.random.default_rng(11), 96, still=False).picture
    prior = load("miniature")
    assert moves(prior) and not moves(AnalyticPrior())
    out = tmp_path / "film.mp4"
    film = animate_long(
        painting, "Clouds drift to the right, it snows", out, frames=40, window=16, steps=5, fps=8, proxy="none",
        loaded={("miniature", "cpu", "float32"): prior},
    )  # fmt: skip
    frames = seen(out)
    assert len(frames) == 40 and film.windows == 3 and any("cut short" in w for w in film.warnings)
    steps = [np.abs(a.astype(int) - b).mean() for a, b in pairwise(frames)]
    assert max(steps[15], steps[31]) < 2 * max(steps[5:15])
    assert film.evaluations == 2 + 5 + 2 * 1


def test_a_film_is_made_again_from_its_recipe(tmp_path: Path) -> None:
    painting = tmp_path / "a.png"
    Image.fromarray(textured()).save(painting)
    how: dict = {"frames": 12, "window": 8, "steps": 2, "proxy": "none", "distil": 0.0}
    first = animate_long(painting, "Clouds drift to the left", tmp_path / "one.mp4", **how)
    recipe = read_recipe(first.path)
    again = rerun_long(recipe, tmp_path / "two.mp4")
    assert first.path.read_bytes() == again.path.read_bytes() and again.warnings == first.warnings
    Image.fromarray(textured()[::-1]).save(painting)
    with pytest.raises(InputError, match="its pixels have changed"):
        rerun_long(recipe, tmp_path / "three.mp4")
    with pytest.raises(InputError, match="'film' in the recipe"):
        rerun_long({k: v for k, v in recipe.items() if k != "film"}, tmp_path / "three.mp4")


# The measures


def test_drift_is_what_goes_on_growing() -> None:
    assert per_hundred([0.0] * 10 + [5.0] * 90) == pytest.approx(0, abs=1e-9), "to move at all is no drift"
    assert per_hundred([0.03 * i for i in range(100)]) == pytest.approx(3)


def test_a_meter_sees_what_was_done_to_a_film() -> None:
    painting = textured()
    steady, tinted, torn = Meter(painting), Meter(painting), Meter(painting)
    for i in range(40):
        frame = np.roll(painting, i, 1)
        steady.see(frame)
        tinted.see(np.clip(frame.astype(int) + np.array([i // 2, 0, 0]), 0, 255).astype(np.uint8))
        torn.see(np.roll(frame, 30, 1) if i >= 20 else frame)
    a, b, c = (m.result([0, 20]) for m in (steady, tinted, torn))
    assert b["colour_drift_100"] > a["colour_drift_100"] + 2
    assert c["join"] > 3 * a["join"] and c["tem_cons"] < a["tem_cons"]
    assert (
        a["motion_percent"] > 0
        and likeness(painting[..., 0].astype(np.float32), painting[..., 0].astype(np.float32)) == 1
    )


def test_the_table_sets_each_method_against_direct_continuation() -> None:
    stage = staged()
    results = compare(stage.prior, stage.shot, None, 125, Settings(), ["phased"])
    assert list(results) == ["continuation", "phased"]
    windows = results["phased"]["windows"]
    assert (
        results["phased"]["evaluations"] == 6 + 2 * (windows - 1) and results["continuation"]["evaluations_ratio"] == 1
    )
    assert results["phased"]["evaluations_ratio"] == pytest.approx((6 + 2 * (windows - 1)) / (6 * windows))
    lines = table(results).splitlines()
    assert len(lines) == 4 and "Phased (CLIA)" in lines[3]


def test_dreaming_holds_one_window(tmp_path: Path) -> None:
    stage = staged()
    tiles = tiling(stage.prior, stage.shot, 60, Settings())
    film = Film(tmp_path / "a.mp4", 60, 8, tiles.count)
    counts = [len(list(paint())) for _, paint in dreamt(stage, tiles, "phased", Settings(), film)]
    assert sum(counts) == 60 and len(counts) == tiles.count


def test_a_film_that_cannot_be_begun_leaves_nothing(tmp_path: Path) -> None:
    stage = staged()
    stage.prior.levels = lambda *given: (_ for _ in ()).throw(InputError("no"))
    with pytest.raises(InputError, match="no"):
        begin(tmp_path / "film.mp4", stage=stage)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("recipe", [
    {"film": 5}, {"film": None}, {"film": {"frames": "x"}}, {"between": {}}, {"between": None},
    {"film": {"frames": 9, "method": "phased", "gamma": 0.8, "omega": 0.2, "window": None, "overlap": None}, "seed": "x"},
])  # fmt: skip
def test_recipes_that_were_changed_are_refused(tmp_path: Path, recipe: dict) -> None:
    with pytest.raises(InputError, match=r"as vivant writes it, got .*changed since"):
        rerun_long(recipe, tmp_path / "film.mp4")
