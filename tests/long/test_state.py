"""Films that are dreamt all at once go on from the step at which they were killed, and come out the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from vivant.long.base import Settings, tiling
from vivant.long.film import Film, shoot, work_folder
from vivant.priors.analytic import AnalyticPrior
from vivant.shot import Shot
from vivant.stage import Stage

STEPS = 6


def film(
    out: Path, name: str = "windowed", solver: str = "dpmpp_2m", at: int = 0, stop: Callable[[], Any] | None = None
) -> Film:
    """A film on the exact prior; at evaluation number `at` it is stopped."""
    prior = AnalyticPrior("v_prediction", sigma=0.3)
    prior.card = replace(prior.card, solver=solver)
    picture = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
    stage = Stage(prior, Shot(picture, "clouds drift", steps=STEPS, distil=0.5), None, {"of": "tests"})
    real, calls = prior.emit, []

    def emit(*given: Any) -> Any:
        calls.append(1)
        if len(calls) == at and stop is not None:
            stop()
        return real(*given)

    prior.emit = emit  # type: ignore[method-assign]
    tiles = tiling(prior, stage.shot, 20, Settings(), joint=True)
    made = Film(out, 20, 8, tiles.count, recipe={"method": name, "solver": solver})
    shoot(stage, tiles, name, Settings(), made)
    return made


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["windowed", "freenoise"])
@pytest.mark.parametrize("solver", ["dpmpp_2m", "ddim_stochastic", "ddim"])
def test_it_goes_on_from_the_last_step(tmp_path: Path, name: str, solver: str) -> None:
    whole = film(tmp_path / "whole.mp4", name, solver)
    out = tmp_path / "film.mp4"
    with pytest.raises(KeyboardInterrupt):
        film(out, name, solver, at=3 + 3 * whole.windows + 2, stop=interrupt)  # in the fourth step, past distillation
    kept = load_file(work_folder(out) / "steps.safetensors")
    assert int(kept["step"]) == 3 and ("before" in kept) == (solver == "dpmpp_2m")
    again = film(out, name, solver)
    assert again.evaluations == (STEPS - 3) * whole.windows and "going on from the steps" in again.warnings[0]
    assert out.read_bytes() == (tmp_path / "whole.mp4").read_bytes()
    assert not work_folder(out).exists()


def test_a_killed_process_leaves_what_can_be_gone_on_from(tmp_path: Path) -> None:
    whole, out = film(tmp_path / "whole.mp4"), tmp_path / "film.mp4"
    script = (
        "import os, signal, sys; from pathlib import Path; from tests.long.test_state import film; "
        "film(Path(sys.argv[1]), at=19, stop=lambda: os.kill(os.getpid(), signal.SIGKILL))"
    )
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run([sys.executable, "-c", script, str(out)], cwd=root, env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == -signal.SIGKILL and not out.exists()
    again = film(out)
    assert 0 < again.evaluations < whole.evaluations
    assert out.read_bytes() == (tmp_path / "whole.mp4").read_bytes()


def test_the_multistep_solver_goes_on_in_the_middle() -> None:
    from vivant.process import Level
    from vivant.solvers import dpmpp_2m

    prior = AnalyticPrior(sigma=0.3)
    one = Shot(np.full((32, 48, 3), 90, np.uint8), "clouds drift", steps=8)
    levels, denoise = prior.levels(one, 8), prior.bind([one], torch.Generator())
    z = torch.randn(prior.still([one], torch.Generator()).shape, generator=torch.Generator().manual_seed(0))
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def watch(z: torch.Tensor, level: Level) -> Any:
        said = denoise(z, level)
        seen.append((z, said.x0))
        return said

    want = dpmpp_2m(watch, z, levels)
    assert torch.equal(dpmpp_2m(denoise, seen[5][0], levels[5:], None, (levels[4], seen[4][1])), want)
    assert not torch.equal(dpmpp_2m(denoise, seen[5][0], levels[5:]), want)
