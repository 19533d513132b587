"""Any diffusers image-to-video pipeline as a prior: `adapt(pipe)` for one already held, `from_pretrained` for a folder.

Each family calls its pipeline's own components; with `distil=0` and no proxy it gives what the pipeline's own call gives.
"""

from .load import FAMILIES, adapt, from_pretrained

__all__ = ["FAMILIES", "adapt", "from_pretrained"]
