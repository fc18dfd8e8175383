"""The review in a real browser: sample, watch with sound, judge by keys, at 1440 and 390 px, whatever the names are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs

import correct_case
import pytest
import review_case as case
from browser import Page
from command_line import lpm
from review_page import IN_A_BROWSER, listening

from curation import Dataset
from curation.labels.corrections import states

pytestmark = IN_A_BROWSER
HOSTILE = "<img src=x onerror=alert(1)> & 'quotes'.mp4"
SOURCE = case.source_id_of(HOSTILE)
KEPT, LOST = f"{SOURCE}-t0000-00000000", f"{SOURCE}-t0001-00008000"
PARTS = "document.body.dataset.parts ?? ''"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    root = tmp_path_factory.mktemp("page")
    video = case.video(root / HOSTILE)
    made = case.dataset(root / "data", {HOSTILE: video, "gone.mp4": root / "gone.mp4"})
    case.pack(made, root)
    return made


@pytest.fixture(scope="module")
def url(data: Dataset) -> Iterator[str]:
    with listening(data) as found:
        yield found


def fits(page: Page) -> bool:
    return bool(page.eval("document.documentElement.scrollWidth <= innerWidth"))


def harmless(page: Page) -> bool:
    """Say whether hostile names made no element, and are there to be read."""
    return bool(
        page.eval("!document.querySelector('img[src=x], [onerror]') && document.body.innerText.includes('<img src=x')")
    )


def watching(page: Page, url: str, unit: str, parts: str) -> None:
    page.open(f"{url}#watch/{unit}")
    page.until(f"({PARTS}) === '{parts}'")


def test_sample_watch_and_judge_by_keys(page: Page, url: str, data: Dataset) -> None:
    page.open(url)
    page.until("document.body.dataset.ready")
    assert page.until("document.querySelectorAll('.row').length") == 12 and fits(page) and harmless(page)
    page.eval("const f = document.querySelector('form.draw');"
              "f.elements.outcome.value = 'kept'; f.elements.by.value = 'state';"
              "f.elements.n.value = 1; f.elements.source.value = '" + SOURCE + "'; f.requestSubmit()")  # fmt: skip
    assert page.until("document.querySelectorAll('.rows h3').length") == 2
    assert "2 drawn from 2 groups" in page.eval("document.body.innerText")
    page.click("#begin")
    page.until(f"({PARTS}) === 'source packed partner'")
    page.press(" ")
    page.until("document.querySelector('.source video').currentTime > 0.5")
    page.press("r")
    page.until("document.querySelector('.turn').innerText.includes('2 of 2')")
    page.until("document.querySelector('progress')?.value === 1")
    page.press("w", "c", "t")
    page.eval("document.getElementById('comment').focus()")
    page.type(case.EVIL)
    page.press("Escape", "w", "c", "t", "Enter")
    page.until("document.getElementById('said').innerText.includes('last of the list')")
    sql = "SELECT verdict, what, author, comment, drawn FROM audits ORDER BY judged_at"
    asked = {"outcome": ["kept"], "source": [SOURCE], "by": ["state"], "n": ["1"]}
    rows = data.query(sql).fetchall()
    assert rows[0][:4] == ("right", [], "ann", None) and rows[1][:4] == ("wrong", ["cut", "caption"], "ann", case.EVIL)
    assert all(parse_qs(r[4]) == asked for r in rows) and harmless(page)
    page.press("z")
    page.until("document.getElementById('said').innerText.includes('taken back')")
    assert [r[0] for r in data.query(sql).fetchall()] == ["right"]
    page.open(f"{url}#precision")
    page.until("document.querySelectorAll('.precision tbody tr').length > 3")
    assert "ann judged 1" in page.eval("document.body.innerText") and fits(page)


def test_the_source_plays_at_its_time_with_sound(page: Page, url: str) -> None:
    watching(page, url, KEPT.replace("00000000", "00004000"), "source packed partner")
    page.press("o", " ")
    video = "document.querySelector('.source video')"
    page.until(f"{video}.currentTime > 3.1 && {video}.webkitAudioDecodedByteCount > 0")
    page.press(" ")
    assert page.eval(f"!{video}.muted && document.querySelector('.packed video').muted")
    # The ground gets 12 levels brighter a second: what is shown is of the time that the clock says.
    page.press("ArrowRight")
    page.until(f"!{video}.seeking")
    page.eval("new Promise(requestAnimationFrame)")
    seen = page.eval(
        "(() => { const c = document.createElement('canvas'), v = document.querySelector('.source video');"
        "c.width = 320; c.height = 180; const d = c.getContext('2d'); d.drawImage(v, 0, 0);"
        "const p = d.getImageData(5, 5, 10, 10).data;"
        "return [p[0], parseFloat(document.querySelector('.clock').innerText)] })()"
    )
    assert abs((seen[0] - 20) / 12 - seen[1]) < 0.4, seen
    assert seen[1] > 5, "the clip begins at 4 s, and more than a second was played"


def test_each_sound_is_heard_alone_and_lanes_lead_there(page: Page, url: str) -> None:
    watching(page, url, KEPT, "source packed partner")
    for key, heard in (("2", "speak"), ("3", "listen"), ("4", "both"), ("1", "source")):
        page.press(key)
        page.until(f"document.querySelector('.group [aria-pressed=true]').innerText === '{heard}'")
        muted = page.eval("[...document.querySelectorAll('video')].map((v) => v.muted)")
        assert muted.count(False) == 1 and muted[0] == (heard != "source")
    assert page.eval("document.querySelectorAll('.boxes rect.mine').length") == 1
    assert page.eval("document.querySelector('.boxes text.mine').textContent") == "anna (t0000)"
    page.eval("(() => { const strip = document.querySelector('.strip'), s = strip.getBoundingClientRect();"
              "strip.dispatchEvent(new MouseEvent('click', { bubbles: true, clientX: s.left + s.width / 2 })) })()"
    )  # fmt: skip
    assert page.eval("parseFloat(document.querySelector('.clock').innerText)") == pytest.approx(3.0, abs=0.1)
    assert page.eval("parseFloat(document.querySelector('.playhead').style.left)") == pytest.approx(50, abs=1)


def test_a_clip_that_was_left_out_shows_what_decided(page: Page, url: str) -> None:
    watching(page, url, LOST, "source")
    assert page.eval("document.querySelectorAll('.boxes rect.text').length") == 1
    assert "text_in_crop <= 0.0005" in page.eval("document.body.innerText") and harmless(page)
    page.press("w")
    assert page.until("document.querySelector('.chips [aria-pressed=true]').innerText.startsWith('filter')")
    page.press("Escape")
    assert page.eval("document.querySelector('.chips')") is None


@pytest.mark.parametrize("surface", ["sample", f"watch/{KEPT}", f"watch/{LOST}", "precision"])
def test_it_fits_a_telephone(page: Page, url: str, surface: str) -> None:
    page.size(390, 844)
    page.open(f"{url}#{surface}")
    page.until("document.body.dataset.ready")
    if surface.startswith("watch"):
        page.until(PARTS)
        assert page.eval("document.getElementById('judge-right').getBoundingClientRect().height") >= 44
        assert page.eval("innerHeight - document.querySelector('.judge').getBoundingClientRect().bottom") < 2, "at hand"
    assert fits(page) and page.eval("innerWidth") == 390


def test_what_is_not_there_is_told_in_words(page: Page, url: str, tmp_path: Path) -> None:
    page.open(f"{url}#watch/{case.source_id_of('gone.mp4')}-t0000-00000000")
    page.until("document.body.innerText.includes('no longer where it was registered')")
    empty = case.dataset(tmp_path / "data", {})
    with listening(empty) as there:
        page.open(there)
        page.until("document.body.innerText.includes('has no sources')")
        page.open("about:blank")


def test_keys_are_told(page: Page, url: str) -> None:
    page.open(url)
    page.until("document.body.dataset.ready")
    page.press("?")
    assert page.until("document.getElementById('help').open") and "undo" in page.eval(
        "document.getElementById('help').innerText"
    )
    page.press("Escape")
    page.until("!document.getElementById('help').open")


def test_a_border_is_corrected_and_a_run_changes_the_sample(page: Page, tmp_path: Path) -> None:
    data = correct_case.go(tmp_path / "out", correct_case.video(tmp_path / HOSTILE))
    with listening(data) as url:
        unit = data.query("SELECT min(segment_id) FROM segments").fetchall()[0][0]
        watching(page, url, unit, "source")
        page.press("c")
        page.until("document.querySelectorAll('.handle').length === 2")
        page.press(".")  # the border at 4 s: one frame later
        assert page.eval("document.activeElement.getAttribute('aria-label')") == "speak ends, listen begins"
        page.press("ArrowRight", "ArrowRight", "ArrowLeft", "Enter")
        page.until("document.getElementById('waiting').innerText.includes('1 correction waits')")
        page.until("document.getElementById('said').innerText.includes('speak from 4.00 to 4.04')")
        assert page.eval("document.querySelector('.handle').dataset.at") == "4.040"
        assert harmless(page)
        # The other person's border by dragging.
        page.drag("document.querySelectorAll('.handle')[1]", "0.75 * (s.right - s.left) + s.left")
        page.until("document.getElementById('waiting').innerText.includes('2 corrections wait')")
        page.until("document.getElementById('said').innerText.includes('from 4.00 to 4.5')")
        page.press("z")
        page.until("document.getElementById('said').innerText.includes('taken back: labels')")
        page.size(390, 844)
        assert fits(page)
        correct_case.go(tmp_path / "out")
        kept = "SELECT start_s, end_s, state FROM segments JOIN clips USING (segment_id) WHERE track_id LIKE '%t0000'"
        assert sorted(data.query(kept).fetchall()) == [(0, 4.04, "speak"), (4.04, 8, "listen"), (8, 12, "speak")]
        page.open("about:blank")
        watching(page, url, unit, "source")
        page.press("c")
        page.until("document.getElementById('waiting').innerText.includes('No correction waits')")
        page.open("about:blank")


def test_people_are_merged_and_split(page: Page, url: str, data: Dataset) -> None:
    watching(page, url, KEPT, "source packed partner")
    if page.eval("!document.querySelector('.correct')"):
        page.press("c")
    page.eval("document.getElementById('fix-people').open = true")
    page.until("document.querySelector('#fix-people select').options.length > 1")
    page.eval("document.querySelector('#fix-people select').value = 'ben'")
    page.click("#fix-people .merge")
    page.until("document.getElementById('said').innerText.includes('in view at the same time')")
    page.errors.clear()  # the browser logs the refusal
    page.click("#fix-people .split")
    page.until("document.getElementById('said').innerText.includes('is not anna')")
    said = data.query("SELECT kind, author, identity_id <> 'anna' FROM identity_decisions WHERE side = 'b'").fetchall()
    assert said == [("split", "ann", True)]
    page.press("z")
    page.until("document.getElementById('said').innerText.includes('taken back: identity decisions')")
    assert not data.query("SELECT * FROM identity_decisions").fetchall()
    page.press("c")
    page.until("!document.querySelector('.correct')")


def test_a_threshold_is_moved_and_lpm_decide_gives_what_was_shown(page: Page, tmp_path: Path) -> None:
    data = correct_case.go(tmp_path / "out", correct_case.video(tmp_path / "talk.mp4"))
    left = data.query("SELECT min(track_id) FROM tracks").fetchall()[0][0]
    states(data, left, [(0.0, 6.0, "speak")], "ann")
    correct_case.go(tmp_path / "out")
    with listening(data) as url:
        page.open(f"{url}#tune?rule=longer&n=0")
        page.until("document.getElementById('tune').dataset.value === '1'")
        leaving = "Number(document.querySelector('#tune-leaves .n').innerText)"
        assert page.eval(leaving) == 0
        page.eval("document.querySelector('.plot').focus()")
        page.press(*["ArrowRight"] * 12)
        page.until("Number(document.getElementById('tune').dataset.value) > 1")
        page.drag("document.querySelector('.plot .now')", "s.left + 0.5 * (s.right - s.left)")
        page.until(f"{leaving} === 1")  # the clip of 2 s that the label left
        assert page.eval("document.querySelectorAll('.sides .row').length <= 1")
        value = "const i = document.getElementById('tune-value'); i.value = '4.5'; i.dispatchEvent(new Event('change'))"
        page.eval(f"(() => {{ {value} }})()")
        page.until("document.getElementById('tune').dataset.value === '4.5'")
        shown = page.eval(leaving)
        assert shown == page.eval("document.querySelectorAll('.sides .row').length") == 5
        file = tmp_path / "said-longer.yaml"
        file.write_text(page.eval("fetch(document.getElementById('save').href).then((r) => r.text())"))
        page.size(390, 844)
        assert fits(page)
        page.open("about:blank")
    lpm("decide", str(tmp_path / "out"), "--policy", str(file))
    out = data.query("SELECT count(*) FROM decisions WHERE unit = 'segments' AND rule = 'longer'").fetchall()
    assert out == [(shown,)]
