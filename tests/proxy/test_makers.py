"""The image models that make proxies, each on a tiny random pipeline loaded from the hub's layout."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.proxy import tiny
from vivant.data.scenes import sample
from vivant.errors import SettingError, WeightsError
from vivant.proxy.edit import Editor
from vivant.proxy.invsr import PROMPT, InvSR, NoisePredictor, starts, with_colours_of
from vivant.proxy.masactrl import START_STEP, MasaCtrl, Moment, Mutual, self_attentions
from vivant.proxy.pipelines import at_area, open_pipeline
from vivant.proxy.refiner import Refiner


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def painting() -> np.ndarray:
    return np.ascontiguousarray(sample(np.random.default_rng(3), 96).picture[:72, :90])


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(int) - b).mean())


# SDXL's refiner


@pytest.fixture(scope="module")
def refiner(tmp_path_factory: pytest.TempPathFactory) -> Refiner:
    folder = tiny.refiner(tmp_path_factory.mktemp("hub") / "refiner")
    return Refiner.from_folder(folder, strength=0.5, steps=4, area=64 * 64)


def test_refiner_is_diffusers_own_call(refiner: Refiner, painting: np.ndarray) -> None:
    ours = refiner(painting, "waves roll", rng())
    assert ours.shape == painting.shape and ours.dtype == np.uint8
    assert np.array_equal(ours, refiner(painting, "waves roll", rng()))
    assert not np.array_equal(ours, refiner(painting, "waves roll", rng(1)))
    assert not np.array_equal(ours, refiner(painting, "boats sail", rng()))


def test_more_strength_moves_further(refiner: Refiner, painting: np.ndarray) -> None:
    weak, strong = (Refiner(refiner.pipe, s, 8, area=64 * 64)(painting, "waves", rng()) for s in (0.15, 0.9))
    assert distance(weak, painting) < distance(strong, painting)


# Instruct editors


def test_an_editor_sees_the_painting_and_the_words(tmp_path: Path, painting: np.ndarray) -> None:
    editor = Editor.from_folder(tiny.instruct_pix2pix(tmp_path / "edit"), steps=2, guidance=3.0, area=64 * 64)
    made = editor(painting, "Clouds drift.", rng())
    assert made.shape == painting.shape
    assert not np.array_equal(made, editor(painting, "The sea burns.", rng()))
    assert not np.array_equal(made, editor(painting[:, ::-1].copy(), "Clouds drift.", rng()))
    with pytest.raises(SettingError, match="prompt"):
        Editor(editor.pipe, order="make it move")


def test_kontext_keeps_the_paintings_shape(tmp_path: Path, painting: np.ndarray) -> None:
    """FLUX Kontext would pick another shape by itself; it is held to the painting's."""
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxKontextPipeline, FluxTransformer2DModel
    from diffusers.models import AutoencoderKL
    from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

    made = tiny.parts(tmp_path / "parts")
    torch.manual_seed(0)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=4,
        block_out_channels=(32, 32), layers_per_block=1, shift_factor=0.1, use_quant_conv=False, use_post_quant_conv=False,
    )  # fmt: skip
    words = made["tokenizer"].backend_tokenizer
    transformer = FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, pooled_projection_dim=32, axes_dims_rope=(4, 4, 8), guidance_embeds=True,
    )  # fmt: skip
    t5 = T5EncoderModel(T5Config(vocab_size=400, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2))
    pipe = FluxKontextPipeline(
        FlowMatchEulerDiscreteScheduler(), vae, made["text_encoder"], made["tokenizer"], t5,
        PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<|endoftext|>"), transformer,
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    seen: list[tuple[int, ...]] = []
    hook = transformer.register_forward_pre_hook(
        lambda m, a, k: seen.append(k["hidden_states"].shape), with_kwargs=True
    )
    out = Editor(pipe, steps=1, area=64 * 64)(painting, "clouds drift", rng())
    hook.remove()
    assert out.shape == painting.shape
    # 72 × 90 in 64² pixels is 64 × 64 or 64 × 80 in multiples of 16, halved by the VAE and again into patches
    assert all(s[1] <= 2 * (80 // 4) * (64 // 4) for s in seen), f"it worked at a size of its own: {seen}"


# MasaCtrl


@pytest.fixture(scope="module")
def masactrl(tmp_path_factory: pytest.TempPathFactory) -> MasaCtrl:
    folder = tiny.stable_diffusion(tmp_path_factory.mktemp("hub") / "sd")
    return MasaCtrl.from_folder(folder, steps=10, area=48 * 48)


def test_target_attends_to_the_source() -> None:
    """Attention(Q_target, K_source, V_source) in each half (eq. 4), written out."""
    from diffusers.models.attention_processor import Attention

    torch.manual_seed(0)
    attn = Attention(query_dim=16, heads=2, dim_head=8)
    x = torch.randn(4, 5, 16)
    moment = Moment()
    mutual = Mutual(moment)
    torch.testing.assert_close(mutual(attn, x), attn(x))
    moment.on = True
    ours = mutual(attn, x)
    for half in (0, 2):
        source = x[half]
        for clip in (half, half + 1):
            q, k, v = (
                w.view(5, 2, 8).transpose(0, 1) for w in (attn.to_q(x[clip]), attn.to_k(source), attn.to_v(source))
            )
            out = ((q @ k.transpose(1, 2)) / 8**0.5).softmax(-1) @ v
            torch.testing.assert_close(ours[clip], attn.to_out[0](out.transpose(0, 1).reshape(5, 16)))
    words = torch.randn(4, 3, 16)
    torch.testing.assert_close(mutual(attn, x, words), attn(x, words)), "cross-attention is left alone"


def test_inversion_is_the_inverse_schedulers(masactrl: MasaCtrl, painting: np.ndarray) -> None:
    from diffusers import DDIMInverseScheduler

    from vivant.proxy.masactrl import SCHEDULE

    z = masactrl.encode(at_area(painting, masactrl.area, 4))
    reference = DDIMInverseScheduler(**SCHEDULE, clip_sample=False, set_alpha_to_one=False)
    reference.set_timesteps(masactrl.steps)
    wanted, words = z, masactrl.words(["", ""], (0, 0))
    with torch.no_grad():
        for t in reference.timesteps:
            eps = masactrl.network(torch.cat([wanted, wanted]), t, words)[:1]
            wanted = reference.step(eps, t, wanted).prev_sample
    torch.testing.assert_close(masactrl.invert(z), wanted, rtol=1e-4, atol=1e-4)


def test_inversion_leads_to_the_noise_of_a_picture_of_known_law(
    masactrl: MasaCtrl, painting: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For latents of variance σ² the exact ε is s·z/(a²σ² + s²), and the way to the noise a mere scale."""
    z = masactrl.encode(at_area(painting, masactrl.area, 4))
    variance, fine = 0.3, MasaCtrl(masactrl.pipe, steps=250, area=masactrl.area)

    def exact(z: torch.Tensor, t: int, words: object) -> torch.Tensor:
        bar = fine._alpha(t)
        return (1 - bar) ** 0.5 * z / (bar * variance + 1 - bar)

    monkeypatch.setattr(fine, "network", exact)
    first, last = fine._alpha(-1), fine._alpha(int(fine.scheduler.timesteps[0]))
    scale = ((last * variance + 1 - last) / (first * variance + 1 - first)) ** 0.5
    torch.testing.assert_close(fine.invert(z), scale * z, rtol=0.03, atol=1e-3)


def test_masactrl_layers_steps_and_words(masactrl: MasaCtrl, painting: np.ndarray) -> None:
    layers = self_attentions(masactrl.pipe.unet)
    mutual = [isinstance(layer.processor, Mutual) for layer in layers]
    assert len(layers) == 4 and mutual == sorted(mutual) and 0 < sum(mutual) < 4, "the later layers look at the source"
    on: list[bool] = []
    hook = layers[-1].register_forward_pre_hook(lambda m, a: on.append(masactrl.moment.on))
    made = masactrl(painting, "waves roll", rng())
    hook.remove()
    assert on == [False] * masactrl.steps + [False] * START_STEP + [True] * (masactrl.steps - START_STEP)
    assert made.shape == painting.shape and not masactrl.moment.on
    assert not np.array_equal(made, masactrl(painting, "a storm", rng()))
    assert np.array_equal(made, masactrl(painting, "waves roll", rng(1))), "nothing is random"


def test_masactrl_on_sdxl(tmp_path: Path, painting: np.ndarray) -> None:
    maker = MasaCtrl.from_folder(tiny.sdxl(tmp_path / "sdxl"), steps=6, area=48 * 48)
    assert maker.large and maker(painting, "waves roll", rng()).shape == painting.shape


# InvSR


def test_the_noise_predictor_has_the_released_size() -> None:
    with torch.device("meta"):
        net = NoisePredictor()
    assert sum(p.numel() for p in net.parameters()) == 33_837_576


@pytest.fixture(scope="module")
def invsr(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny.stable_diffusion(tmp_path_factory.mktemp("hub") / "turbo", vae=(32, 32, 32, 32))
    torch.manual_seed(5)
    net = NoisePredictor((32, 64), 1, 32, 32, 32)
    torch.save({f"encoder.{k}": v for k, v in net.state_dict().items()}, folder / "noise_predictor_sd_turbo_v5.pth")
    return folder


def load_invsr(folder: Path, **options: object) -> InvSR:
    return InvSR.from_folder(folder, area=128 * 128, tile=64, **options)


@pytest.mark.parametrize("steps", [1, 3])
def test_invsr_draws_the_painting_again(invsr: Path, painting: np.ndarray, steps: int) -> None:
    maker = load_invsr(invsr, steps=steps)
    made = maker(painting, "waves", rng())
    assert made.shape == painting.shape
    assert np.array_equal(made, maker(painting, "waves", rng())) and not np.array_equal(
        made, maker(painting, "waves", rng(1))
    )
    # a random network's detail, but the painting's own colours at large
    coarse = [p.astype(float).mean((0, 1)) for p in (made, painting)]
    assert np.abs(coarse[0] - coarse[1]).max() < 12


def test_invsr_starts_from_the_predicted_noise_and_ends_clean(invsr: Path) -> None:
    """One step in closed form: z = z0 + σ·n, then x̂0 = z - σ·ε̂."""
    maker = load_invsr(invsr)
    low = torch.rand(1, 3, 16, 16, generator=rng()) * 2 - 1
    pipe = maker.pipe
    with torch.no_grad():
        ours = maker.draw(low, rng(3))
        high = torch.nn.functional.interpolate(low, scale_factor=4, mode="bicubic", antialias=True).clamp(-1, 1)
        z0 = pipe.vae.encode(high).latent_dist.mean * pipe.vae.config.scaling_factor
        bar = pipe.scheduler.alphas_cumprod[199]
        sigma = ((1 - bar) / bar).sqrt()
        n = maker.predictor(low, 200)
        z = z0 + sigma * (n.mean + n.std * torch.randn(z0.shape, generator=rng(3)))
        words = pipe.encode_prompt([PROMPT], "cpu", 1, False)[0]
        eps = pipe.unet(z * bar.sqrt(), 199, encoder_hidden_states=words).sample
        expected = pipe.vae.decode((z - sigma * eps) / pipe.vae.config.scaling_factor).sample.clamp(-1, 1)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("length", "side"), [(16, 16), (40, 16), (37, 16), (100, 32)])
def test_squares_cover_everything(length: int, side: int) -> None:
    found = starts(length, side)
    covered = np.zeros(length, int)
    for s in found:
        covered[s : s + side] += 1
    assert covered.min() >= 1 and found[-1] + side == length and found == sorted(set(found))


def test_colour_correction_keeps_detail_and_takes_colour() -> None:
    made, target = (torch.rand(1, 3, 96, 96, generator=rng(i)) for i in (0, 1))
    target = target * 0.2 + torch.tensor([0.1, 0.5, 0.7]).view(1, 3, 1, 1)
    out = with_colours_of(made, target)
    assert (out.mean((2, 3)) - target.mean((2, 3))).abs().max() < 0.01
    torch.testing.assert_close(with_colours_of(target, target), target)
    # an even shift of colour is taken off wholly
    torch.testing.assert_close(with_colours_of(target + 0.3, target), target, rtol=0, atol=1e-5)


def test_what_is_refused(invsr: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="model_index"):
        Refiner.from_folder(tmp_path)
    with pytest.raises(WeightsError, match="got StableDiffusionPipeline"):
        open_pipeline(invsr, ("StableDiffusionXLPipeline",))
    with pytest.raises(WeightsError, match="noise_predictor"):
        InvSR.from_folder(tmp_path)
    other = tmp_path / "noise_predictor_sd_turbo_v5.safetensors"
    save_file({"conv_in.weight": torch.zeros(4, 3, 3, 3)}, other)
    with pytest.raises(WeightsError, match="noise predictor"):
        InvSR.from_folder(tmp_path)
    with pytest.raises(SettingError, match="1 to 5"):
        load_invsr(invsr, steps=6)
    with pytest.raises(SettingError, match="strength"):
        Refiner(None, strength=0.0)
