"""Rain and snow: heard in a sentence, painted over a clip, never a part of the painting's motion."""

import numpy as np
import pytest
import torch

from vivant.awaken import awaken
from vivant.priors.miniature.weather import Weather, over, said
from vivant.priors.registry import load
from vivant.render.render import render
from vivant.shot import Controls, Shot


@pytest.mark.parametrize(
    ("prompt", "kind", "rest"),
    [
        ("Rain falls on the sea", "rain", ""),
        ("It's raining heavily and the waves roll", "rain", "the waves roll"),
        ("clouds drift while snow falls to the left", "snow", "clouds drift"),
        ("Heavy rain pours down over the old harbour, boats rock", "rain", "boats rock"),
        ("falling snow", "snow", ""),
        ("it snows", "snow", ""),
        ("the snow-covered village sleeps", None, "the snow-covered village sleeps"),
        ("a train passes", None, "a train passes"),
        ("no rain falls and clouds drift", None, "clouds drift"),
    ],
)
def test_what_is_heard(prompt: str, kind: str | None, rest: str) -> None:
    weather, left = said(prompt)
    assert (weather.kind if weather else None, left) == (kind, rest)


def test_words_decide_side_and_pace() -> None:
    left, right = said("snow drifts to the left")[0], said("snow drifts to the right")[0]
    slow, fast = said("rain falls softly")[0], said("rain falls hard")[0]
    assert left and right and left.slant < 0 < right.slant
    assert slow and fast and slow.pace < 1 < fast.pace


def falling(weather: Weather, strength: float = 0.5, seed: int = 1) -> list[np.ndarray]:
    dark = np.full((120, 160, 3), 60, np.uint8)
    dark[:10] = 200
    return list(over(iter([dark] * 12), weather, 12, strength, seed))


@pytest.mark.parametrize("kind", ["rain", "snow"])
def test_it_gathers_falls_and_repeats(kind: str) -> None:
    frames = falling(Weather(kind))
    assert (frames[0] == 60).any() and np.array_equal(frames[0], falling(Weather(kind))[0])
    added = [int((f.astype(int) - frames[0] > 3).any(-1).sum()) for f in frames]
    assert added[0] == 0 < added[1] and added[-1] > 100
    assert all(np.array_equal(a, b) for a, b in zip(frames, falling(Weather(kind)), strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(frames, falling(Weather(kind), seed=2), strict=True))
    more = falling(Weather(kind), strength=1.0)
    assert (more[-1] != more[0]).any(-1).sum() > 1.3 * added[-1]
    assert all(np.array_equal(f, frames[0]) for f in falling(Weather(kind), strength=0.0))


def test_a_flake_goes_down_and_aside() -> None:
    """One flake, followed by its centre of light: down at its pace, aside by the slant."""
    dark = np.zeros((200, 200, 3), np.uint8)
    dark[0] = 255
    for seed in range(40):
        places = []
        for frame in over(iter([dark] * 9), Weather("snow", slant=0.6), 9, 1 / 840, seed):
            y, x = np.nonzero(frame[1:, :, 0] > 40)
            places.append((y.mean(), x.mean()) if len(y) > 4 else None)
        whole = [p for p in places[2:] if p is not None]
        if len(whole) == 7 and whole[-1][0] - whole[0][0] > 10:
            assert whole[-1][1] > whole[0][1], "it fell against the slant"
            return
    raise AssertionError("no flake crossed the picture in one piece")


def test_the_whole_way_with_a_mask() -> None:
    painting = np.full((96, 96, 3), 70, np.uint8)
    mask = np.zeros((96, 96), np.float32)
    mask[:, :48] = 1
    prior = load("miniature")
    shot = Shot(painting, "snow falls", controls=Controls(mask=mask), frames=8, steps=2, distil=0.0)
    frames = list(render(prior, awaken(prior, shot, None, torch.Generator().manual_seed(0)), shot))
    assert np.array_equal(frames[0], painting)
    assert (frames[-1][:, :40] != painting[:, :40]).any()
    assert np.array_equal(frames[-1][:, 48:], painting[:, 48:])
    assert "snow" in prior.unknown_words("snow lies on the roof")  # type: ignore[attr-defined]
    assert prior.unknown_words("snow falls on the roof") == []  # type: ignore[attr-defined]
