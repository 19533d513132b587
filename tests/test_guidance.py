import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from vivant.guidance import combine, in_interval, rescale, text_weights, three_branch_weights
from vivant.process import Level, coefficients, recover

RECORD = Path(__file__).resolve().parents[1] / ".." / "shared" / "parity" / "consisti2v" / "frameinit.safetensors"
recorded = pytest.mark.skipif(not RECORD.is_file(), reason="the recorded official run (../shared/parity) is not here")
scales = st.floats(0, 20)


def branches(count, shape=(2, 3, 4, 5, 6)):
    generator = torch.Generator().manual_seed(count)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(count)]


@given(g=scales)
def test_text_guidance(g):
    without, text = branches(2)
    assert sum(text_weights(g)) == pytest.approx(1)
    torch.testing.assert_close(combine([without, text], text_weights(g)), without + g * (text - without))


@given(g_img=scales, g_txt=scales)
def test_three_branches(g_img, g_txt):
    nothing, image, both = branches(3)
    weights = three_branch_weights(g_img, g_txt)
    assert sum(weights) == pytest.approx(1)
    expected = nothing + g_img * (image - nothing) + g_txt * (both - image)
    torch.testing.assert_close(combine([nothing, image, both], weights), expected)


def test_no_guidance_is_the_conditional():
    outputs = branches(3)
    torch.testing.assert_close(combine(outputs[:2], text_weights(1)), outputs[1], rtol=0, atol=0)
    torch.testing.assert_close(combine(outputs, three_branch_weights(1, 1)), outputs[2], rtol=0, atol=0)
    assert three_branch_weights(1, 5) == (0, -4, 5)


@pytest.mark.parametrize("form", ["epsilon", "v_prediction", "flow"])
def test_guiding_outputs_is_guiding_predictions(form):
    """Weights that sum to 1 commute with `recover`."""
    z, *outputs = branches(4)
    level = Level(0.6, 0.8, 0.0)
    p, q = coefficients(form, level)
    weights = three_branch_weights(2.0, 7.5)
    whole = recover(z, combine(outputs, weights), level, p, q)
    parts = [recover(z, out, level, p, q) for out in outputs]
    torch.testing.assert_close(whole.x0, combine([part.x0 for part in parts], weights))
    torch.testing.assert_close(whole.eps, combine([part.eps for part in parts], weights))


def test_combine_leaves_its_inputs_alone():
    outputs = branches(2)
    kept = [out.clone() for out in outputs]
    combine(outputs, (0.5, 0.5))
    assert all(torch.equal(a, b) for a, b in zip(outputs, kept, strict=True))


@pytest.mark.parametrize("weights", [(0.5, 0.6), (1.0, math.nan), (1.0, math.inf)])
def test_weights_must_sum_to_one(weights):
    with pytest.raises(ValueError, match="sum to 1"):
        combine(branches(2), weights)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_one_weight_a_branch(count):
    with pytest.raises(ValueError, match="one weight a branch"):
        combine(branches(2)[:count] if count < 3 else branches(3), (0.5, 0.5))


def test_rescale_is_equations_15_and_16():
    conditional, extra = branches(2)
    guided = conditional + 4 * extra
    for phi in (0.0, 0.3, 0.7, 1.0):
        out = rescale(guided, conditional, phi)
        for b in range(2):
            ratio = conditional[b].std() / guided[b].std()
            torch.testing.assert_close(out[b], phi * guided[b] * ratio + (1 - phi) * guided[b])
    assert torch.equal(rescale(guided, conditional, 0.0), guided)
    whole = rescale(guided, conditional, 1.0)
    torch.testing.assert_close(whole.std((1, 2, 3, 4)), conditional.std((1, 2, 3, 4)))


def test_rescale_goes_by_the_clip():
    conditional, guided = branches(2)
    conditional[1] *= 100
    whole = rescale(guided, conditional, 0.7)
    for b in range(2):
        torch.testing.assert_close(whole[b : b + 1], rescale(guided[b : b + 1], conditional[b : b + 1], 0.7))


def test_rescale_of_a_flat_output_is_finite():
    conditional = branches(1)[0]
    flat = torch.full_like(conditional, 3.0)
    assert torch.equal(rescale(flat, conditional, 0.7), flat)


@pytest.mark.parametrize("phi", [-0.1, 1.1, math.nan])
def test_rescale_refuses_a_wrong_share(phi):
    with pytest.raises(ValueError, match="expected phi between 0 and 1"):
        rescale(*branches(2), phi)


def test_the_interval_is_open_below_and_closed_above():
    level = Level(0.5, 1.0, 0.0)  # s/a = 2
    assert in_interval(level, 1, 3) and in_interval(level, 1, 2)
    assert not in_interval(level, 2, 3) and not in_interval(level, 0, 1)


def test_the_interval_at_both_ends_of_the_process():
    noise, clean = Level(0.0, 1.0, 999.0), Level(1.0, 0.0, 0.0)
    assert in_interval(noise, 0, math.inf) and not in_interval(noise, 0, 1e9)
    assert not in_interval(clean, 0, math.inf)


@given(a=st.floats(0.01, 1), s=st.floats(0, 1), k=st.floats(0.1, 10))
def test_the_interval_does_not_depend_on_the_scale_of_z(a, s, k):
    if min(abs(s / a - 0.3), abs(s / a - 2)) > 1e-6:
        assert in_interval(Level(a, s, 0.0), 0.3, 2) == in_interval(Level(k * a, k * s, 0.0), 0.3, 2)


@recorded
def test_guidance_matches_the_official_run():
    record = load_file(RECORD)
    nothing, image, both = record["input.guidance.noise_pred"].chunk(3)
    torch.testing.assert_close(
        combine([nothing, image, both], three_branch_weights(1.5, 7.5)), record["output.guidance.both"],
        rtol=0, atol=2e-5,
    )  # fmt: skip
    text = combine([nothing, both], text_weights(7.5))
    torch.testing.assert_close(text, record["output.guidance.text"], rtol=0, atol=2e-5)
    torch.testing.assert_close(rescale(text, both, 0.7), record["output.guidance.text_rescaled"], rtol=0, atol=2e-5)
