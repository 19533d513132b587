"""What long films cost: `python benchmarks/long.py [--frames 125] [--memory]`.

Prints the long methods side by side (Controllable Longer Image Animation, Table 2: its phased inference takes 0.46 of
direct continuation's time), and with --memory the peak of a film of 125 and of 500 frames, each in a process of its own.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

DEMO = Path(__file__).parents[1] / "src" / "vivant" / "data" / "demo.jpg"


def peak(frames: int, painting: Path, size: str, threads: int) -> None:
    """Make one film and print this process's peak in MiB."""
    from vivant.long.film import animate_long

    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        animate_long(painting, "Clouds drift to the right", Path(folder) / "film.mp4", frames=frames, size=size)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    """Run, print a Markdown table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--painting", type=Path, default=DEMO)
    parser.add_argument("--prompt", default="Clouds drift to the right and the water ripples")
    parser.add_argument("--frames", type=int, default=125)
    parser.add_argument("--window", type=int, default=25)
    parser.add_argument("--methods", default="all")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sheets", type=Path, help="folder for a contact sheet of each film")
    parser.add_argument("--memory", action="store_true", help="peaks of 125 and 500 frames instead")
    parser.add_argument("--size", default="320", help="size of the films whose memory is measured")
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        peak(options.peak, options.painting, options.size, options.threads)
        return
    if options.memory:
        peaks = {}
        for frames in (125, 500):
            call = [
                sys.executable,
                __file__,
                "--peak",
                str(frames),
                "--painting",
                str(options.painting),
                "--size",
                options.size,
            ]
            done = subprocess.run(
                [*call, "--threads", str(options.threads)], check=True, capture_output=True, text=True
            )
            peaks[frames] = float(done.stdout.split()[-1])
            print(f"{frames} frames: peak {peaks[frames]:.0f} MiB")
        print(f"ratio {peaks[500] / peaks[125]:.3f} (at most 1.1)")
        return
    from vivant.long.evaluate import main as compare
    from vivant.render.export import contact_sheet

    torch.set_num_threads(options.threads)
    kept: dict[str, list] | None = {} if options.sheets else None
    compare(options.painting, options.prompt, options.frames, options.window, options.methods, keep=kept)
    for name, frames in (kept or {}).items():
        options.sheets.mkdir(parents=True, exist_ok=True)
        print(contact_sheet(frames, options.sheets / f"{name}.png", columns=4, width=400))


if __name__ == "__main__":
    main()
