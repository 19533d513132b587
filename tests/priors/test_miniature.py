"""The embedded prior: held to the same conformance as every prior, and to what a user asks of it."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from vivant.awaken import awaken
from vivant.data.scenes import sample
from vivant.errors import PromptError, WeightsError
from vivant.flow import flow
from vivant.priors.miniature.adapter import Miniature
from vivant.priors.miniature.net import Config, MotionUNet, PictureReader
from vivant.priors.miniature.weights import FILE, load_networks, save_networks
from vivant.proxy.embedded import embedded
from vivant.shot import Arrow, Controls, Shot

from .conformance import check


@pytest.fixture(scope="module")
def prior():
    return Miniature.load()


@pytest.fixture(scope="module")
def shot():
    import vivant

    path = next(iter(vivant.__path__)) + "/data/demo.jpg"
    picture = cv2.imread(path)[..., ::-1]
    return Shot(
        np.ascontiguousarray(cv2.resize(picture, (280, 200), interpolation=cv2.INTER_AREA)),
        "Clouds drift to the right",
        frames=5,
        steps=6,
    )


def run(prior, shot, proxy=None, seed=0):
    return awaken(prior, shot, proxy, torch.Generator().manual_seed(seed))


def test_conformance(prior, shot):
    check(prior, shot)


def test_weights_are_small_and_strict(tmp_path):
    assert FILE.stat().st_size < 40e6
    other = MotionUNet(Config(width=32))
    with pytest.raises(WeightsError, match="of shape"):
        load_networks(PictureReader(Config()), other)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(FILE.read_bytes()[:5000])
    with pytest.raises(WeightsError, match="could not read"):
        load_networks(PictureReader(Config()), MotionUNet(Config()), broken)
    with pytest.raises(WeightsError, match="found none"):
        load_networks(PictureReader(Config()), MotionUNet(Config()), tmp_path / "none.safetensors")


def test_weights_round_trip(tmp_path):
    torch.manual_seed(0)
    nets = PictureReader(Config()), MotionUNet(Config())
    tensors = {
        f"{n}.{k}": v for n, net in zip(("reader", "motion"), nets, strict=True) for k, v in net.state_dict().items()
    }
    save_networks(tensors, tmp_path / "a.safetensors", {})
    again = PictureReader(Config()), MotionUNet(Config())
    load_networks(*again, tmp_path / "a.safetensors")
    for a, b in zip(nets, again, strict=True):
        assert all(
            torch.equal(x.half().float(), y)
            for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
        )


@pytest.mark.parametrize(("way", "sign"), [("right", 1), ("left", -1)])
def test_the_sky_moves_the_way_it_is_told(prior, shot, way, sign):
    shot = replace(shot, prompt=f"Clouds drift to the {way}")
    frames = list(prior.frames(run(prior, shot, embedded(shot.painting)), shot))
    # A backward displacement to the left carries paint to the right; read it from the frames, as a viewer would.
    found = flow(frames[0], frames[-1])
    assert sign * np.median(found[10:80, 60:][..., 0]) > 2
    assert np.abs(found[165:, :40]).mean() < 1


def test_a_still_prompt_moves_nothing(prior, shot):
    shot = replace(shot, prompt="Nothing moves.")
    for frame in prior.frames(run(prior, shot), shot):
        assert (frame == shot.painting).all()


def test_the_first_frame_is_the_painting(prior, shot):
    assert (next(prior.frames(run(prior, shot), shot)) == shot.painting).all()


def test_a_mask_holds_the_rest(prior, shot):
    mask = np.zeros(shot.painting.shape[:2], np.float32)
    mask[:, 140:] = 1
    x = run(prior, replace(shot, controls=Controls(mask=mask)))
    assert x[..., :14].abs().max() == 0 and x[..., 18:].abs().max() > 0.1


def test_strength_scales_the_motion(prior, shot):
    moved = []
    for strength in (0.0, 0.2, 0.6):
        frames = list(prior.frames(run(prior, shot), replace(shot, controls=Controls(strength=strength))))
        moved.append(float(np.abs(flow(frames[0], frames[-1])[10:80, 60:]).mean()))
    assert moved[0] < 0.1 and moved[2] == pytest.approx(3 * moved[1], rel=0.4)


def test_an_arrow_turns_the_motion(prior, shot):
    shot = replace(shot, prompt="clouds drift")
    angles = []
    for x1, y1 in ((0.7, 0.15), (0.3, 0.15)):
        arrows = tuple(Arrow(x, 0.15, x + (x1 - 0.5) * 0.5, y1) for x in (0.3, 0.5, 0.7))
        x = run(prior, replace(shot, controls=Controls(arrows=arrows)))
        angles.append(float(-x[0, 0, -1, 2:9, 8:30].mean()))
    assert angles[0] > 0 > angles[1]


def test_an_arrow_takes_its_boat_and_no_other(prior):
    rng = np.random.default_rng(0)
    picture = np.zeros((192, 256, 3), np.float32)
    picture[:80], picture[80:] = (150, 190, 230), (50, 90, 130)
    picture = np.clip(picture + rng.normal(0, 4, (192, 256, 1)), 0, 255).astype(np.uint8)
    for x in (70, 190):
        cv2.fillPoly(picture, [np.array([[x - 22, 112], [x + 22, 112], [x + 14, 124], [x - 14, 124]])], (90, 45, 25))
        cv2.fillPoly(picture, [np.array([[x, 70], [x + 18, 108], [x, 108]])], (245, 240, 225))
    arrow = Arrow(76 / 256, 98 / 192, 108 / 256, 98 / 192)  # 32 pixels to the right
    shot = Shot(picture, "The boat sails", controls=Controls(arrows=(arrow,)), frames=5, steps=6, distil=0.0)
    last = list(prior.frames(run(prior, shot), shot))[-1]
    sail = (slice(90, 105), slice(72, 80))
    assert np.abs(last[90:105, 104:112].astype(int) - picture[sail]).mean() < 4
    assert np.abs(last[sail].astype(int) - 240).min() > 20, "no ghost"
    assert (last[:, 160:] == picture[:, 160:]).all(), "the other boat stays"


def test_short_arrows_of_a_long_film_arrive_too(prior):
    """Less than a pixel a window, eight over the film: the thing is lifted, and the sky goes its share of a window."""
    picture = np.full((192, 384, 3), (60, 100, 150), np.uint8)
    cv2.circle(picture, (96, 96), 20, (250, 240, 200), -1)
    shot = Shot(picture, "The sun rises", controls=Controls(arrows=(Arrow(0.25, 0.5, 0.27, 0.5),)), frames=72)
    film = prior.reel(shot, 2000)
    film.go_on(torch.zeros(1, 3, 8, 32, 32), 0)
    (thing,) = film.film.reel.sheets.things
    assert thing.way[-1] == pytest.approx((0.02 * 384 * 72 / 2000, 0), rel=0.01)
    assert film.window.controls.arrows[0].x1 == pytest.approx(0.25 + 0.02 * 72 / 2000)


def test_same_seed_same_clip_other_seed_other_clip(prior, shot):
    a, b, c = (run(prior, replace(shot, prompt="the water ripples"), seed=s) for s in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_words_it_does_not_know(prior, shot):
    assert "zyzzyva" in prior.unknown_words("the zyzzyva clouds drift")
    with pytest.raises(PromptError, match="knew none"):
        run(prior, replace(shot, prompt="qwx zzkr vbnmp"))


def test_reader_knows_sky_from_water(prior):
    right = []
    for seed in range(30):
        scene = sample(np.random.default_rng([99, seed]))
        picture = torch.from_numpy(scene.picture).permute(2, 0, 1)[None].float() / 127.5 - 1
        with torch.no_grad():
            best = prior.reader(picture).argmax(1)[0].numpy()
        right.append((best == scene.labels[1::3, 1::3]).mean())
    assert np.mean(right) > 0.6
