"""From a painting and a sentence to a clip, with the embedded model as it is shipped."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vivant
from vivant.errors import ImageError, InputError, OutputError, PromptError, SettingError
from vivant.pipeline import animate, rerun
from vivant.recipe import Recipe
from vivant.render.export import read_recipe
from vivant.shot import Arrow

DEMO = Path(vivant.__file__).parent / "data" / "demo.jpg"
PROMPT = "Clouds drift to the right and the water ripples"
QUICK = {"frames": 5, "steps": 4}


@pytest.fixture(scope="module")
def painting(tmp_path_factory):
    path = tmp_path_factory.mktemp("in") / "bay.png"
    with Image.open(DEMO) as image:
        image.resize((160, round(160 * image.height / image.width)), Image.Resampling.LANCZOS).save(path)
    return path


@pytest.fixture(scope="module")
def pixels(painting):
    return np.asarray(Image.open(painting))


@pytest.fixture(scope="module")
def made(painting):
    return animate(painting, PROMPT, **QUICK)


@pytest.fixture(scope="module")
def clip(made):
    return np.stack(list(made.frames()))


def test_it_begins_with_the_painting_and_moves(clip, pixels):
    assert clip.shape == (5, *pixels.shape) and clip.dtype == np.uint8
    assert (clip[0] == pixels).all()
    assert np.abs(clip[-1].astype(int) - pixels).mean() > 0.1


def test_frames_can_be_asked_for_again(made, clip):
    assert (np.stack(list(made.frames())) == clip).all()


def test_the_record(made, painting):
    recipe = made.recipe
    assert Recipe.parse(json.loads(json.dumps(recipe))).as_dict() == recipe
    assert recipe["painting"] == str(painting.resolve()) and recipe["proxy"] == "auto" and recipe["mask"] is None
    assert (recipe["frames"], recipe["steps"], recipe["seed"]) == (5, 4, 42)
    assert made.evaluations >= 4 and made.warnings == []
    assert set(made.seconds) >= {"prepare", "generate"}


def test_same_seed_same_bytes_and_another_seed_another_clip(painting, made, clip, tmp_path):
    first = made.save(tmp_path / "a.mp4").read_bytes()
    assert animate(painting, PROMPT, **QUICK).save(tmp_path / "b.mp4").read_bytes() == first
    other = np.stack(list(animate(painting, PROMPT, seed=43, **QUICK).frames()))
    assert (other[0] == clip[0]).all() and (other != clip).any()


def test_a_file_is_made_again_from_itself(made, clip, tmp_path):
    again = rerun(read_recipe(made.save(tmp_path / "a.mp4")))
    assert (np.stack(list(again.frames())) == clip).all()
    assert again.recipe == made.recipe and again.warnings == []


def test_every_setting_survives_the_rerun(painting, pixels, tmp_path):
    mask = np.zeros(pixels.shape[:2], np.uint8)
    mask[:60] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    Image.fromarray(pixels // 2 + 60).save(tmp_path / "proxy.png")
    result = animate(
        painting, PROMPT, seed=3, fps=6, guidance=1.5, mask=tmp_path / "mask.png", strength=0.8,
        arrows=[Arrow(0.2, 0.2, 0.5, 0.2)], proxy=tmp_path / "proxy.png", distil=0.5, distil_evaluations=1,
        curve="linear-increasing", gain=0.4, blend="lerp", **QUICK,
    )  # fmt: skip
    again = rerun(result.recipe)
    assert again.recipe == result.recipe
    assert all((a == b).all() for a, b in zip(result.frames(), again.frames(), strict=True))
    Image.fromarray(pixels).save(tmp_path / "proxy.png")
    with pytest.raises(InputError, match="proxy"):
        rerun(result.recipe)
    Image.fromarray(255 - mask).save(tmp_path / "mask.png")
    with pytest.raises(InputError, match="mask"):
        rerun(result.recipe)


def test_no_proxy_by_any_name(painting):
    results = [animate(painting, PROMPT, proxy=proxy, **QUICK) for proxy in ("none", None)]
    assert results[0].recipe == results[1].recipe and results[0].recipe["proxy"] == "none"
    again = rerun(results[1].recipe)
    assert all((a == b).all() for a, b in zip(results[0].frames(), again.frames(), strict=True))


def test_outside_the_mask_the_painting_to_the_pixel(painting, pixels):
    mask = np.zeros(pixels.shape[:2], np.uint8)
    mask[5:50, 40:150] = 255
    moved = False
    for frame in animate(painting, PROMPT, mask=mask, strength=1.0, **QUICK).frames():
        assert (frame[mask == 0] == pixels[mask == 0]).all()
        moved |= bool((frame != pixels).any())
    assert moved


def test_arrays_and_pictures_in_memory(painting, pixels, clip):
    for source in (pixels, Image.open(painting)):
        result = animate(source, PROMPT, **QUICK)
        assert (np.stack(list(result.frames())) == clip).all()
        assert result.recipe["painting"] == "<memory>"
    with pytest.raises(SettingError, match="memory"):
        rerun(result.recipe)


def test_a_proxy_in_memory(painting, pixels):
    for proxy in (pixels // 2 + 60, Image.fromarray(pixels // 2 + 60)):
        assert animate(painting, PROMPT, proxy=proxy, **QUICK).recipe["proxy"] == "<memory>"


def test_a_changed_painting_is_refused(pixels, tmp_path):
    mine = tmp_path / "mine.png"
    Image.fromarray(pixels).save(mine)
    recipe = animate(mine, PROMPT, **QUICK).recipe
    changed = pixels.copy()
    changed[0, 0, 0] ^= 1
    Image.fromarray(changed).save(mine)
    with pytest.raises(InputError, match=r"painting.*changed"):
        rerun(recipe)
    mine.unlink()
    with pytest.raises(ImageError, match="no such file"):
        rerun(recipe)


def test_other_weights_and_versions(made):
    with pytest.raises(SettingError, match="weights"):
        rerun({**made.recipe, "weights_sha256": "0"})
    older = rerun({**made.recipe, "versions": {**made.recipe["versions"], "numpy": "0.1"}})
    assert any("numpy" in line for line in older.warnings)


def test_words_it_does_not_know_are_said(painting):
    result = animate(painting, "Clouds drift zzyzx", **QUICK)
    assert len(result.warnings) == 1 and "zzyzx" in result.warnings[0] and "louds" not in result.warnings[0]
    with pytest.raises(PromptError, match="qwx"):
        animate(painting, "qwx zzkr", **QUICK)


@pytest.mark.parametrize(
    "bad",
    [
        {"frames": 0}, {"frames": 1}, {"steps": 0}, {"fps": 0}, {"seed": -1}, {"guidance": -1}, {"strength": 1.5},
        {"distil": 2}, {"distil_evaluations": 0}, {"distil_evaluations": -1}, {"gain": float("nan")},
        {"curve": "wavy"}, {"blend": "mix"}, {"model": "nobody"}, {"device": "toaster"},
        {"arrows": [(0, 0, 2, 2)]}, {"arrows": [(0, 0)]},
    ],
    ids=str,
)  # fmt: skip
def test_settings_out_of_range(painting, bad):
    with pytest.raises(SettingError):
        animate(painting, PROMPT, **{**QUICK, **bad})


def test_progress_counts_up_to_the_end(painting):
    seen = []
    result = animate(painting, PROMPT, on_progress=lambda *event: seen.append(event), **QUICK)
    list(result.frames())
    dreaming = [(done, total) for stage, done, total in seen if stage == "dreaming"]
    assert dreaming == [(i + 1, result.evaluations) for i in range(result.evaluations)]
    assert [e[1:] for e in seen if e[0] == "painting"] == [(i + 1, 5) for i in range(5)]


def test_the_painting_is_not_written_over(painting, made, clip, tmp_path):
    mine = tmp_path / "mine.png"
    mine.write_bytes(painting.read_bytes())
    before = mine.read_bytes()
    with pytest.raises(OutputError, match="which it is made from"):
        animate(mine, PROMPT, **QUICK).save(mine)
    assert mine.read_bytes() == before and list(tmp_path.iterdir()) == [mine]


def test_controls_that_would_do_nothing_are_refused(painting):
    with pytest.raises(SettingError, match="expected a mask that the feather softens"):
        animate(painting, PROMPT, feather=3, **QUICK)
    with pytest.raises(SettingError, match="together or in turn, got 'never'"):
        animate(painting, PROMPT, compose="never", **QUICK)
    with pytest.raises(PromptError, match="knew none of: 🌊"):
        animate(painting, "🌊🌊", proxy="none", **QUICK)
