"""Clips of a table: made once, whole, by one device or several; what cannot be made is said."""

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vivant.data.benchmarks import Case
from vivant.errors import ModelError, OutputError, SettingError
from vivant.metrics import runs
from vivant.metrics.papers import TABLES, Row, Table
from vivant.metrics.plans import Job, arguments, plan
from vivant.metrics.runs import Made, asked, done_before, make
from vivant.metrics.video import read_video
from vivant.render.export import read_recipe

SMALL = {"frames": 3, "steps": 2, "seed": 7}


@pytest.fixture
def case(tmp_path: Path) -> Case:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (48, 64, 3), np.uint8)).save(tmp_path / "p.png")
    mask = np.zeros((48, 64), np.uint8)
    mask[:24] = 255
    Image.fromarray(mask).save(tmp_path / "m.png")
    return Case("p", "clouds drift to the right", tmp_path / "p.png", mask=tmp_path / "m.png", strength=0.5)


def spawned(job: Job, device: str) -> Made:
    """A maker that says who made it: real files, no network."""
    if job.case == "bad":
        raise ModelError("expected better, got this")
    time.sleep(0.05)
    job.target.write_text(device)
    return Made(0.05, 1, os.getpid(), device)


def test_the_ablations_are_arguments_of_one_call(case: Case, tmp_path: Path) -> None:
    made = plan(TABLES["table1"], ["miniature"], [case], tmp_path, **SMALL)
    assert not made.missing and len(made.jobs) == 5
    rows = {job.row: job.arguments for job in made.jobs}
    assert (rows["Baseline"]["distil"], rows["Baseline"]["proxy"]) == (0.0, "none")
    assert rows["+V"]["proxy"] == "none" and "distil" not in rows["+V"]
    assert (rows["+S"]["distil"], rows["+S"]["proxy"]) == (0.0, "auto")
    assert rows["+V&U"]["blend"] == "lerp" and "blend" not in rows["+V&S (Ours)"]
    assert len({job.target for job in made.jobs}) == 5 and all(r["seed"] == 7 for r in rows.values())


def test_every_table_is_planned_or_says_why_not(case: Case, tmp_path: Path) -> None:
    for table in TABLES.values():
        made = plan(table, ["miniature", "cinemo"], [case], tmp_path)
        planned = {(job.model, job.row) for job in made.jobs} | set(made.missing)
        assert planned == {(m, r.label) for m in ("miniature", "cinemo") for r in table.rows}, table.name
        assert all(made.missing.values())
    missing = plan(TABLES["proxies"], ["miniature", "cinemo"], [case], tmp_path).missing
    assert (
        "vivant pull cinemo" in missing["cinemo", "Baseline"] and "vivant pull invsr" in missing["miniature", "InvSR"]
    )
    assert "--method" in plan(TABLES["clia1"], ["miniature"], [case], tmp_path).missing["miniature", "Gen-2"]
    with pytest.raises(SettingError, match="nobody"):
        plan(TABLES["table1"], ["nobody"], [case], tmp_path)


def test_an_argument_that_animate_does_not_take_is_named(case: Case, tmp_path: Path) -> None:
    table = Table("t", "t", (Row("a", {"wings": 2}), Row("b", {"distil": 0.2})), ("fvd",))
    made = plan(table, ["miniature"], [case], tmp_path)
    assert [job.row for job in made.jobs] == ["b"] and "no wings" in made.missing["miniature", "a"]


def test_films_longer_than_a_clip_go_their_own_way(case: Case, tmp_path: Path) -> None:
    """CLIA's Table 2 by the long methods; what is asked of all rows is asked of them too."""
    made = plan(TABLES["clia2"], ["miniature"], [case], tmp_path, frames=6, steps=2)
    assert not made.missing
    assert {job.row: job.arguments["method"] for job in made.jobs} == {
        "Direct": "continuation", "Gen-L-Video": "windowed", "FreeNoise": "freenoise", "Ours": "phased",
    }  # fmt: skip
    assert all(job.arguments["frames"] == 6 for job in made.jobs)
    assert all(j.arguments["frames"] == 125 for j in plan(TABLES["clia2"], ["miniature"], [case], tmp_path).jobs)
    job = replace(made.jobs[3], arguments=dict(made.jobs[3].arguments) | {"window": 4})
    [done] = make([job], ["cpu"]).values()
    assert not done.error and len(read_video(job.target).frames) == 6
    assert read_recipe(job.target)["film"]["method"] == "phased"


def test_controls_are_the_cases_less_those_withheld(case: Case, tmp_path: Path) -> None:
    full = arguments(case, Row("x"), {})
    assert full == {"prompt": case.prompt, "mask": str(case.mask), "strength": 0.5, "proxy": "auto"}
    bare = arguments(case, Row("x", without=frozenset({"mask", "strength"})), {"size": None, "proxy": "none"})
    assert bare == {"prompt": case.prompt, "proxy": "none"}
    own = Case("p", "x", case.painting, proxy=tmp_path / "proxy.png")
    assert arguments(own, Row("x"), {})["proxy"] == str(tmp_path / "proxy.png")
    assert arguments(own, Row("x"), {"proxy": "none"})["proxy"] == "none"


def test_a_clip_is_made_whole_and_not_twice(case: Case, tmp_path: Path) -> None:
    """The real way: a clip with its recipe, a note of what it took, kept by the next call, remade when asked otherwise."""
    table = Table("t", "t", (Row("full"),), ("fvd",))
    jobs = plan(table, ["miniature"], [case], tmp_path / "run", **SMALL).jobs
    [first] = make(jobs, ["cpu"]).values()
    assert not first.error and first.seconds > 0 and first.evaluations >= 2 and first.memory > 1e7 and first.fresh
    recipe = read_recipe(jobs[0].target)
    assert recipe["prompt"] == case.prompt and recipe["steps"] == 2 and recipe["mask"] == str(case.mask)
    before = jobs[0].target.stat().st_mtime_ns
    seen: list[Job] = []
    [again] = make(jobs, ["cpu"], lambda done, total, job, made: seen.append(job)).values()
    assert (
        not again.fresh and not seen and again.seconds == first.seconds and jobs[0].target.stat().st_mtime_ns == before
    )
    other = plan(table, ["miniature"], [case], tmp_path / "run", **SMALL | {"seed": 8}).jobs
    assert done_before(other[0]) is None
    # Another painting under the same name is another clip.
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(case.painting)
    runs._sha.cache_clear()
    assert done_before(jobs[0]) is None
    # A note without its clip, and a damaged note, count for nothing.
    jobs[0].note.write_text("{")
    assert done_before(jobs[0]) is None
    assert not list((tmp_path / "run").rglob(".*"))


def test_one_bad_clip_does_not_end_the_run(case: Case, tmp_path: Path) -> None:
    table = Table("t", "t", (Row("full"),), ("fvd",))
    silent = Case("q", "qwx zzkr vbnmp", case.painting)  # words the model does not know
    jobs = plan(table, ["miniature"], [silent, case], tmp_path / "run", **SMALL).jobs
    made = make(jobs, ["cpu"])
    assert "qwx" in made["miniature", "full", "q"].error and not made["miniature", "full", "p"].error
    assert not jobs[0].target.exists() and not jobs[0].note.exists()  # the next call tries again


def test_devices_share_the_work(case: Case, tmp_path: Path) -> None:
    """Two processes, each clip by one of them, errors told, the notes written."""
    cases = [Case(f"c{i}", "x", case.painting) for i in range(6)] + [Case("bad", "x", case.painting)]
    table = Table("t", "t", (Row("full"),), ("fvd",))
    jobs = plan(table, ["miniature"], cases, tmp_path / "run").jobs
    seen: list[tuple[int, int]] = []
    made = make(jobs, ["cpu", "cpu"], lambda done, total, job, result: seen.append((done, total)), spawned)
    assert seen == [(i + 1, 7) for i in range(7)]
    assert made["miniature", "full", "bad"].error == "expected better, got this"
    makers = {m.memory for m in made.values() if not m.error}
    assert os.getpid() not in makers and 1 <= len(makers) <= 2
    assert all(json.loads(j.note.read_text())["asked"] == asked(j) for j in jobs if j.case != "bad")
    assert all(not m.fresh for m in make(jobs[:6], ["cpu", "cpu"], None, spawned).values())


def test_refusals(case: Case, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="device"):
        make([], [])
    (tmp_path / "file").write_text("")
    jobs = plan(Table("t", "t", (Row("a"),), ()), ["miniature"], [case], tmp_path / "file").jobs
    with pytest.raises(OutputError, match="folder"):
        make(jobs, ["cpu"])
