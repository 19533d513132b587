"""The user study: the page in a real browser, its answers counted, quick clickers left out."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from vivant.errors import InputError, OutputError, SettingError
from vivant.metrics.intervals import clustered, wilson
from vivant.metrics.study import QUESTIONS, make, read
from vivant.metrics.tables import markdown
from vivant.metrics.video import read_video
from vivant.render.export import export, save_picture

METHODS = ("still", "ours", "theirs")
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def clip(path: Path, hue: int, fps: int = 10, frames: int = 14, recipe: str = "{}") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[..., 0] = hue
    export(
        (np.clip(picture.astype(int) + np.array([0, 6 * i, 0]), 0, 255).astype(np.uint8) for i in range(frames)),
        path,
        fps,
        recipe,
    )


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("methods")
    save_picture(np.full((40, 60, 3), 90, np.uint8), root / "boat.png")
    recipe = json.dumps({"painting": str(root / "boat.png"), "prompt": "the boat <sails> away"})
    for i, method in enumerate(METHODS):
        clip(root / method / "boat.mp4", 60 * i, recipe=recipe if method == "ours" else "{}")
        clip(root / method / "wave.mp4", 60 * i, fps=25)
    clip(root / "ours" / "alone.mp4", 5)
    return {method: root / method for method in METHODS}


@pytest.fixture(scope="module")
def page(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("study") / "page"
    make(folders, out, prompts={"wave": "the waves roll"}, side=48)
    return out


def study_of(page: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    text = (page / "index.html").read_text()
    data = text.split('<script id="study" type="application/json">')[1].split("</script>")[0]
    return json.loads(data), json.loads(page.with_name("page.key.json").read_text())


def test_the_page_names_no_method(page: Path) -> None:
    data, key = study_of(page)
    assert {key["cases"][c["id"]]["name"] for c in data["cases"]} == {"boat", "wave"}  # "alone" is one method's only
    for file in page.rglob("*"):
        content = str(file.name).encode() + (file.read_bytes() if file.is_file() else b"")
        assert not any(f'{m}"'.encode() in content or f"/{m}/".encode() in content for m in METHODS), file
    assert sorted(key["clips"].values()) == sorted(METHODS * 2)
    words = {key["cases"][c["id"]]["name"]: c["prompt"] for c in data["cases"]}
    assert words == {"boat": "the boat <sails> away", "wave": "the waves roll"}
    assert "<sails>" not in (page / "index.html").read_text()  # a sentence is no markup


def test_all_clips_are_made_alike(page: Path) -> None:
    data, _ = study_of(page)
    for case in data["cases"]:
        seen = [read_video(page / c["src"]) for c in case["clips"]]
        assert {round(v.fps) for v in seen} == {8} and len({v.frames.shape[1:] for v in seen}) == 1
        assert seen[0].frames.shape[1:] == (32, 48, 3)
        assert b"boat" not in (page / case["clips"][0]["src"]).read_bytes()  # no recipe goes along
    boat = next(c for c in data["cases"] if "picture" in c)
    assert (page / boat["picture"]).is_file()


def answers(
    page: Path, who: str, best: str, *, conform: tuple[str, ...] = ("ours",), seconds: float = 60, **more: Any
) -> dict:
    data, key = study_of(page)
    said = []
    for case in data["cases"]:
        tokens = {key["clips"][c["id"]]: c["id"] for c in case["clips"]}
        said.append({"case": case["id"], "order": list(tokens.values()), "seconds": seconds / 2, "motion": tokens[best],
                     "coherence": tokens["still"], "conformity": [tokens[m] for m in conform]})  # fmt: skip
    return {"format": 1, "study": data["id"], "participant": who, "started": "2026-01-01T00:00:00Z",
            "finished": "2026-01-01T00:05:00Z", "seconds": seconds, "answers": said} | more  # fmt: skip


def written(folder: Path, *records: Any) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = []
    for i, record in enumerate(records):
        paths.append(folder / f"{i}.json")
        paths[-1].write_text(record if isinstance(record, str) else json.dumps(record))
    return paths


def test_rates_are_the_known_ones(page: Path, tmp_path: Path) -> None:
    files = written(tmp_path / "a", answers(page, "p", "ours"), answers(page, "q", "ours", conform=("ours", "still")),
                    answers(page, "r", "theirs", conform=()))  # fmt: skip
    tally = read(files, page.with_name("page.key.json"), interval="wilson")
    motion, conformity = tally.rates["motion"], tally.rates["conformity"]
    assert (motion["ours"].chosen, motion["ours"].shown) == (4, 6) and motion["theirs"].rate == pytest.approx(1 / 3)
    assert tally.rates["coherence"]["still"].rate == 1 and sum(r.rate for r in motion.values()) == pytest.approx(1)
    assert [conformity[m].chosen for m in METHODS] == [2, 4, 0]
    assert (motion["ours"].low, motion["ours"].high) == wilson(4, 6)
    text = markdown(tally.grid())
    assert "| M.Q. ↑ |" in text and "**66.67%" in text and "3 participants; 0 left out" in text
    clusters = read(files, page.with_name("page.key.json"))
    assert clusters.rates["motion"]["ours"].rate == motion["ours"].rate
    assert clusters.rates["motion"]["ours"].low == 0 and clusters.rates["motion"]["ours"].high == 1


def test_who_is_left_out_and_why(page: Path, tmp_path: Path) -> None:
    good, again = answers(page, "p", "ours"), answers(page, "p", "theirs", finished="2026-01-02T00:00:00Z")
    files = written(
        tmp_path / "b", good, answers(page, "quick", "theirs", seconds=12), answers(page, "half", "theirs", finished=None),
        answers(page, "other", "theirs", study="else"), "{", again, {"format": 1},
        answers(page, "liar", "theirs") | {"answers": answers(page, "liar", "theirs")["answers"][:1]},
    )  # fmt: skip
    tally = read(files, page.with_name("page.key.json"))
    assert tally.participants == 1 and tally.rates["motion"]["theirs"].rate == 1  # the later answers of "p"
    why = {Path(f).name: w for f, w in tally.dropped}
    assert sorted(why) == ["0.json", "1.json", "2.json", "3.json", "4.json", "6.json", "7.json"]
    assert "again" in why["0.json"] and "too quick: 12 s for 2 cases, at least 18 s" in why["1.json"]
    assert "not finished" in why["2.json"] and "another study" in why["3.json"] and "fit" in why["7.json"]
    assert read(files[:2], page.with_name("page.key.json"), seconds_per_case=1).participants == 2


def test_the_key_is_found_beside_the_answers(page: Path, tmp_path: Path) -> None:
    files = written(tmp_path / "answers", answers(page, "p", "ours"))
    with pytest.raises(InputError, match="--key"):
        read(files)
    shutil.copy(page.with_name("page.key.json"), tmp_path / "mine.key.json")
    assert read(files).participants == 1


def test_wilson_is_scipys_and_the_bootstrap_covers() -> None:
    for k, n in ((0, 7), (3, 10), (38, 49), (20, 20)):
        reference = binomtest(k, n).proportion_ci(method="wilson")
        assert wilson(k, n) == pytest.approx((reference.low, reference.high), abs=1e-9)
    assert wilson(0, 0) == (0, 1)
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(
        60
    ):  # participants with tastes of their own: answers of one hang together, Wilson's would be too tight
        chosen = rng.binomial(10, rng.beta(2, 2, 40))
        low, high = clustered(chosen, np.full(40, 10), rng, 400)
        hits += low <= 0.5 <= high
    assert hits >= 50


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), 0.0])
def test_lengths_that_are_none(folders: dict[str, Path], tmp_path: Path, seconds: float) -> None:
    with pytest.raises(SettingError, match="expected fps, seconds"):
        make(folders, tmp_path / "page", seconds=seconds)


def test_refusals(page: Path, folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="lost"):
        make(folders, page)
    with pytest.raises(InputError, match="2 to 26"):
        make({"ours": folders["ours"]}, tmp_path / "p")
    clip(tmp_path / "more" / "else.mp4", 0)
    with pytest.raises(InputError, match="same names"):
        make({"ours": folders["ours"], "more": tmp_path / "more"}, tmp_path / "p")
    with pytest.raises(InputError, match="folder of clips"):
        make({"ours": folders["ours"], "none": tmp_path / "none"}, tmp_path / "p")
    with pytest.raises(SettingError):
        make(folders, tmp_path / "p", fps=0)
    assert not (tmp_path / "p").exists() and not list(tmp_path.glob(".vivant*"))
    with pytest.raises(InputError, match="too quick"):
        read(written(tmp_path / "c", answers(page, "p", "ours", seconds=1)), page.with_name("page.key.json"))
    with pytest.raises(InputError, match="found none"):
        read(written(tmp_path / "d", "[]"), page.with_name("page.key.json"))


@pytest.mark.browser
def test_a_participant_in_a_browser(page: Path, tmp_path: Path) -> None:
    """Begin, be refused an unfinished page, answer, reload in the middle, finish, download; the file is then counted."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if BROWSER is None:
        pytest.skip("no Chromium on this machine")
    _, key = study_of(page)
    quiet = [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=quiet)
        context = browser.new_context(accept_downloads=True)
        tab = context.new_page()
        faults: list[str] = []
        tab.on("pageerror", lambda error: faults.append(str(error)))
        tab.goto((page / "index.html").as_uri())
        tab.get_by_role("button", name="Begin").click()
        tab.get_by_role("button", name="Next").click()
        assert "all three" in tab.locator("#note").inner_text()
        shown = tab.locator("#clips video").evaluate_all("all => all.map((v) => v.src.split('/').pop().split('.')[0])")
        assert sorted(key["clips"][token] for token in shown) == sorted(METHODS)
        tab.wait_for_function("[...document.querySelectorAll('#clips video')].every((v) => v.readyState >= 2)")
        ours = next(token for token in shown if key["clips"][token] == "ours")
        tab.check(f"#motion input[value='{ours}']")
        tab.check(f"#coherence input[value='{ours}']")
        tab.check("#conformity input[value='']")
        tab.check(f"#conformity input[value='{ours}']")
        assert not tab.is_checked("#conformity input[value='']")  # "none" gives way to a letter
        tab.get_by_role("button", name="Next").click()
        assert tab.locator("#number").inner_text() == "2 of 2"
        tab.reload()  # nothing is lost
        assert tab.locator("#number").inner_text() == "2 of 2"
        tab.get_by_role("button", name="Back").click()
        again = tab.locator("#clips video").evaluate_all("all => all.map((v) => v.src.split('/').pop().split('.')[0])")
        assert again == shown and tab.is_checked(f"#motion input[value='{ours}']")
        tab.get_by_role("button", name="Next").click()
        tokens = tab.locator("#clips video").evaluate_all("all => all.map((v) => v.src.split('/').pop().split('.')[0])")
        mine = next(token for token in tokens if key["clips"][token] == "ours")
        tab.check(f"#motion input[value='{mine}']")
        tab.check(f"#coherence input[value='{mine}']")
        tab.check("#conformity input[value='']")
        tab.get_by_role("button", name="Finish").click()
        with tab.expect_download() as caught:
            tab.get_by_role("button", name="Download answers").click()
        caught.value.save_as(tmp_path / "answers.json")
        browser.close()
    assert not faults
    record = json.loads((tmp_path / "answers.json").read_text())
    assert record["finished"] and 0 < record["seconds"] < 60
    with pytest.raises(InputError, match="too quick"):
        read([tmp_path / "answers.json"], page.with_name("page.key.json"))
    tally = read([tmp_path / "answers.json"], page.with_name("page.key.json"), seconds_per_case=0.01)
    assert {q: tally.rates[q]["ours"].chosen for q in QUESTIONS} == {"motion": 2, "coherence": 2, "conformity": 1}
