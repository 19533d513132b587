"""Which clips a table needs: every row's arguments on every case and model, and why some rows cannot be made here."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..data.benchmarks import Case
from .papers import Row, Table, safe


@dataclass(frozen=True)
class Job:
    """One clip to make: `arguments` for `vivant.animate` in plain JSON types, and where it goes."""

    case: str
    model: str
    row: str
    painting: Path
    arguments: Mapping[str, Any]
    target: Path

    @property
    def note(self) -> Path:
        """What was asked and what it took, beside the clip."""
        return self.target.with_name(f"{self.case}.json")


@dataclass(frozen=True)
class Plan:
    """The jobs of a table, and the rows that cannot be made here, with the reason, by (model, row)."""

    jobs: list[Job]
    missing: dict[tuple[str, str], str] = field(default_factory=dict)


def plan(
    table: Table, models: Sequence[str], cases: Sequence[Case], out: Path, given: Mapping[str, Path] | None = None,
    suffix: str = ".mp4", **common: Any,
) -> Plan:  # fmt: skip
    """Every clip that a table needs. `common`: arguments of all rows (steps, seed …), over the table's, under the rows'.

    `given`: rows filled from folders. Rows that other code makes, makers and models that are not here and arguments that
    `animate` does not take are named in `missing`. Raises `SettingError` for an unknown model.
    """
    from ..priors.registry import entry
    from ..proxy.registry import PROXIES

    jobs: list[Job] = []
    missing: dict[tuple[str, str], str] = {}
    for model in models:
        here = entry(model).present
        for row in table.rows:
            if given and row.label in given:
                continue
            wanted = {**table.common, **{k: v for k, v in common.items() if v is not None}, **row.arguments}
            strange = sorted(wanted.keys() - takes("method" in wanted))
            maker = wanted.get("proxy")
            if row.given:
                missing[model, row.label] = f'other code or weights; give its clips with --method "{row.label}=DIR"'
            elif not here:
                missing[model, row.label] = f"the weights of {model} are not here; run `vivant pull {model}`"
            elif strange:
                missing[model, row.label] = f"`vivant.animate` takes no {', '.join(strange)} here"
            elif maker in PROXIES and not PROXIES[maker].present:
                missing[model, row.label] = f"the proxy maker {maker} is not here: vivant pull {maker}"
            else:
                folder = out / "clips" / safe(model) / row.folder
                for case in cases:
                    jobs.append(Job(
                        case.name, model, row.label, case.painting, arguments(case, row, wanted) | {"model": model},
                        folder / f"{case.name}{suffix}",
                    ))  # fmt: skip
    return Plan(jobs, missing)


def arguments(case: Case, row: Row, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What `animate` is called with: the case's controls, less those the row goes without, and the row's own settings."""
    own: dict[str, Any] = {"prompt": case.prompt}
    if case.mask is not None and "mask" not in row.without:
        own["mask"] = str(case.mask)
    if case.strength is not None and "strength" not in row.without:
        own["strength"] = case.strength
    if case.arrows and "arrows" not in row.without:
        own["arrows"] = [list(arrow) for arrow in case.arrows]
    # "case" and nothing said both mean the proxy that the benchmark brings, where it brings one.
    proxy = wanted.get("proxy", "case")
    settings = {k: v for k, v in wanted.items() if k != "proxy" and v is not None}
    return own | settings | {"proxy": (str(case.proxy) if case.proxy else "auto") if proxy == "case" else proxy}


@lru_cache
def takes(long: bool) -> frozenset[str]:
    """The arguments of `vivant.animate`, or of the films longer than a clip."""
    from ..long.film import animate_long
    from ..pipeline import animate
    from ..stage import prepare

    ways = (animate_long, prepare) if long else (animate,)
    return frozenset(name for way in ways for name in inspect.signature(way).parameters) - {"how", "out"}
