"""`python -m tests.priors.diffusers_i2v`: how near each adapter, without proxy and distillation, is to its pipeline's own call."""

from vivant.awaken import awaken

from .families import CASES, called, generator, latents, noise, pipeline, prior, relative, shot

print("| family | pipeline | latents | frames |\n|---|---|---|---|")
for name in CASES:
    base, own = shot(name, distil=0), prior(name)
    ours = awaken(own, base, None, generator())
    kept = ours[:, :, 1:] if name == "hunyuan" else ours  # that pipeline drops its first latent frame
    off = relative(kept, latents(name, called(name, base, noise(name, base)), base))
    frames = called(name, base, noise(name, base), "pt", **({"decode_timestep": 0.0} if name == "ltx" else {}))
    seen = relative((own.decode(ours, base) + 1) / 2, frames.transpose(1, 2)[:, :, : base.frames])
    print(f"| {name} | {type(pipeline(name)).__name__} | {off:.0e} | {seen:.0e} |", flush=True)
