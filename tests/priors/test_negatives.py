"""Negative sentences for paintings: what is left out, what stays, and that it is told."""

from __future__ import annotations

import pytest

from vivant.priors.negatives import AGAINST_PAINTINGS, for_paintings

WAN = (
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，JPEG压缩残留，丑陋的，残缺的，"
    "多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，形态畸形的肢体，手指融合，静止不动的画面，杂乱的背景，三条腿，背景人很多，倒着走"
)
WAN_IN_ENGLISH = (
    "Bright tones, overexposed, static, blurred details, subtitles, style, works, paintings, images, static, overall gray, "
    "worst quality, low quality, JPEG compression residue, ugly, incomplete, extra fingers, poorly drawn hands"
)


def test_wans_own_negative() -> None:
    softened, removed = for_paintings(WAN)
    assert removed == ("静态", "风格", "作品", "画作", "画面", "静止", "静止不动的画面")
    kept = softened.split("，")
    assert not set(kept) & set(removed)
    assert {"过曝", "字幕", "画得不好的手部", "最差质量", "倒着走"} <= set(kept)
    assert len(kept) + len(removed) == len(WAN.split("，"))


def test_the_same_in_english() -> None:
    softened, removed = for_paintings(WAN_IN_ENGLISH)
    assert removed == ("static", "style", "works", "paintings", "images", "static")
    assert softened == (
        "Bright tones, overexposed, blurred details, subtitles, overall gray, worst quality, low quality, "
        "JPEG compression residue, ugly, incomplete, extra fingers, poorly drawn hands"
    )


@pytest.mark.parametrize(
    ("given", "kept", "removed"),
    [
        ("", "", ()),
        ("worst quality; blurry", "worst quality; blurry", ()),
        ("A Painting", "", ("A Painting",)),
        ("(style:1.2), blurry", "blurry", ("(style:1.2)",)),
        ("blurry. static. ugly.", "blurry, ugly", ("static",)),
        ("poorly drawn hands, hairstyle, framework", "poorly drawn hands, hairstyle, framework", ()),
        ("jpeg artifacts at 0.5 scale, Static", "jpeg artifacts at 0.5 scale", ("Static",)),
    ],
)
def test_whole_items_only(given: str, kept: str, removed: tuple[str, ...]) -> None:
    assert for_paintings(given) == (kept, removed)


def test_nothing_is_left_to_leave_out() -> None:
    for sentence in (WAN, WAN_IN_ENGLISH, ", ".join(AGAINST_PAINTINGS)):
        once = for_paintings(sentence).negative
        assert for_paintings(once) == (once, ())
