"""Cosines between features of frames, sentences and the painting: CLIPSIM, frame consistency, input conformity."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cosine_similarity

from ...errors import InputError


def frame_consistency(features: Float[Tensor, "F D"]) -> float:
    """Mean cosine of neighbouring frames' features, −1..1 (AnimateAnything sec. 4.1; CLIA's Tem-Cons, with CLIP).

    A clip of one frame has no neighbours: raises `InputError`.
    """
    _check(features, 2)
    return float(cosine_similarity(features[1:].double(), features[:-1].double()).mean())


def text_alignment(frame_features: Float[Tensor, "F D"], text_features: Float[Tensor, " D"]) -> float:
    """Mean cosine of the frames' features with the sentence's, −1..1 (CLIPSIM; Wu et al. 2021, GODIVA, sec. 4.2).

    `text_features` may also be (1, D). Some papers print it times 100. Raises `InputError`.
    """
    _check(frame_features, 1)
    width = frame_features.shape[1]
    if text_features.shape not in ((width,), (1, width)):
        raise InputError(f"expected one sentence's features of width {width}, got {tuple(text_features.shape)}")
    text = text_features.reshape(1, width)
    return float(cosine_similarity(frame_features.double(), text.double().to(frame_features.device)).mean())


def input_conformity(frame_features: Float[Tensor, "F D"], painting_features: Float[Tensor, " D"]) -> float:
    """Mean of 1 − distance between the painting and each frame, the distance 1 − cosine (DynamiCrafter's PIC, DreamSim).

    −1..1, 1 where every frame looks like the painting. `painting_features` may also be (1, D). Raises `InputError`.
    """
    return text_alignment(frame_features, painting_features)


def _check(features: Tensor, least: int) -> None:
    if features.ndim != 2:
        raise InputError(f"expected the features of one clip's frames as (F, D), got {tuple(features.shape)}")
    if len(features) < least:
        raise InputError(f"expected at least {least} frames, got {len(features)}")
    if not bool(torch.isfinite(features).all()):
        raise InputError("expected finite features, got NaN or infinity")
