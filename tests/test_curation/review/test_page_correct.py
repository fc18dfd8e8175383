"""Corrections through the page's own buttons and handles in a real browser, and the dataset after the next run."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import correct_case
import review_case as case
from browser import Page
from review_page import IN_A_BROWSER, listening

from curation import Dataset

pytestmark = IN_A_BROWSER


@contextlib.contextmanager
def correcting(page: Page, data: Dataset, unit: str) -> Iterator[Callable[[], None]]:
    """Open a unit in the review of a dataset and begin to correct it; gives what opens it anew."""

    with listening(data) as url:

        def begin() -> None:
            page.open("about:blank")
            page.open(f"{url}#watch/{unit}")
            page.until("(document.body.dataset.parts ?? '').includes('source')")
            page.press("c")
            page.until("!!document.querySelector('.correct')")

        begin()
        yield begin
        page.open("about:blank")


def said(page: Page, text: str) -> None:
    page.until(f"document.getElementById('said').innerText.includes({json.dumps(text)})")


def lane(page: Page, label: str) -> str:
    """Choose a lane by what its label begins with, at its middle; returns an expression of its strip."""
    found = f"[...document.querySelectorAll('.lane')].find((l) => l.innerText.startsWith({json.dumps(label)}))"
    page.until(f"!!{found}")
    return f"{found}.querySelector('.strip')"


def click_at(page: Page, strip: str, share: float) -> None:
    x, y = page.eval(f"(() => {{ const r = {strip}.getBoundingClientRect(); "
                     f"return [r.left + {share} * r.width, r.top + r.height / 2] }})()")  # fmt: skip
    for kind in ("mousePressed", "mouseReleased"):
        page.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)


def test_two_people_are_merged_and_a_run_makes_them_one(page: Page, tmp_path: Path) -> None:
    videos = [correct_case.video(tmp_path / f"{s}.mp4", s) for s in (12.0, 12.4)]
    data = correct_case.go(tmp_path / "out", *videos, workflow=correct_case.MET)
    of_first = "SELECT track_id, identity_id FROM track_identities ORDER BY 1"
    before = dict(data.query(of_first).fetchall())
    assert len(before) == len(set(before.values())) == 4
    (here, first), _, (there, second), _ = before.items()
    unit = data.query(f"SELECT min(segment_id) FROM segments WHERE track_id = '{here}'").fetchall()[0][0]
    with correcting(page, data, unit) as anew:
        page.eval("document.getElementById('fix-people').open = true")
        chosen = f"document.querySelector('#fix-people select[data-person=\"{first}\"]')"
        page.until(f"[...({chosen}?.options ?? [])].some((o) => o.value === '{second}')")
        page.eval(f"{chosen}.value = '{second}'")
        page.eval(f"{chosen}.parentNode.querySelector('.merge').click()")
        said(page, "are one person")
        page.until("document.getElementById('waiting').innerText.includes('1 correction waits')")
        correct_case.go(tmp_path / "out", workflow=correct_case.MET)
        assert "scan" not in correct_case.RAN and "heard" not in correct_case.RAN
        after = dict(data.query(of_first).fetchall())
        assert after[here] == after[there] and len(set(after.values())) == 3
        faces = "[...document.querySelectorAll('#fix-people b')]"
        shown = f"{faces}.some((b) => b.textContent.startsWith('{after[here]}'))"
        anew()
        page.until(shown)
        page.until("document.getElementById('waiting').innerText.includes('No correction waits')")


def test_a_cut_is_set_and_dragged(page: Page, tmp_path: Path) -> None:
    data = correct_case.go(tmp_path / "out", correct_case.video(tmp_path / "talk.mp4"))
    unit = data.query("SELECT min(segment_id) FROM segments").fetchall()[0][0]
    with correcting(page, data, unit) as anew:
        click_at(page, lane(page, "words"), 0.5)
        page.press("k")
        said(page, "stored: a cut at")
        page.until("!!document.querySelector('.handle[aria-label=cut]')")
        at = float(page.eval("document.querySelector('.handle[aria-label=cut]').dataset.at"))
        page.drag("document.querySelector('.handle[aria-label=cut]')", "s.left + 0.75 * (s.right - s.left)")
        said(page, "stored: the cut lies at")
        page.until(f"Number(document.querySelector('.handle[aria-label=cut]').dataset.at) > {at + 0.5}")
        moved = float(page.eval("document.querySelector('.handle[aria-label=cut]').dataset.at"))
        sql = "SELECT round((start_s + end_s) / 2, 1), cut, author FROM cut_labels ORDER BY labelled_at, cut"
        rows = data.query(sql).fetchall()
        assert {r[2] for r in rows} == {"ann"} and {r[1] for r in rows} == {True, False}
        correct_case.go(tmp_path / "out")
        assert "seen" in correct_case.RAN and "heard" not in correct_case.RAN
        anew()
        page.until("document.getElementById('waiting')?.innerText.includes('No correction waits')")
    assert moved > at


def test_a_voice_and_a_word_are_corrected_and_a_run_uses_them(page: Page, tmp_path: Path) -> None:
    data = correct_case.go(tmp_path / "out", correct_case.video(tmp_path / "talk.mp4"))
    unit, left = data.query("SELECT min(segment_id), min(track_id) FROM segments").fetchall()[0]
    with correcting(page, data, unit):
        click_at(page, lane(page, "voice"), 0.3)
        page.until("document.querySelector('.correct').innerText.includes('is that of')")
        chips = "[...document.querySelectorAll('.correct .chips button')]"
        page.eval(f"{chips}.find((b) => b.innerText === 'off screen').click()")
        said(page, "is off screen")
        click_at(page, lane(page, "words"), 0.25)
        page.until("!!document.getElementById('word')")
        wrong = page.eval("document.getElementById('word').value")
        page.press("e")
        page.eval("document.getElementById('word').select()")
        page.type(f"said {case.EVIL}")
        page.press("Enter")
        said(page, "stored: said")
        page.until("document.getElementById('waiting').innerText.includes('2 corrections wait')")
        assert page.eval("!document.querySelector('img[src=x]')")
        voices = data.query("SELECT track_id, author FROM voice_labels").fetchall()
        assert voices == [(None, "ann")]
        correct_case.go(tmp_path / "out")
        assert "heard" not in correct_case.RAN and "followed" not in correct_case.RAN
    bound = data.query(f"SELECT count(*) FROM bindings WHERE bound AND track_id = '{left}'").fetchall()
    texts = " ".join(str(x) for (x,) in data.query("SELECT text FROM segments WHERE text IS NOT NULL").fetchall())
    assert bound == [(0,)] and case.EVIL in texts and wrong not in texts.split()


def test_a_field_of_a_caption_is_corrected_and_taken_back(page: Page, tmp_path: Path) -> None:
    data = case.dataset(tmp_path / "data", {"talk.mp4": case.video(tmp_path / "talk.mp4")})
    unit = data.query("SELECT min(segment_id) FROM segments").fetchall()[0][0]
    with correcting(page, data, unit):
        page.eval("document.getElementById('fix-caption').open = true")
        chosen = "const f = document.getElementById('field'); f.value = 'prose'; f.dispatchEvent(new Event('change'))"
        page.eval(f"(() => {{ {chosen}; document.getElementById('value').value = 'She laughs.' }})()")
        page.click("#store-caption")
        said(page, "stored: prose")
        page.until("document.body.innerText.includes('She laughs.')")
        sql = "SELECT field, value, author FROM caption_labels"
        assert data.query(sql).fetchall() == [("prose", '"She laughs."', "ann")]
        page.press("Escape")
        page.eval("document.activeElement.blur()")
        page.click("#uncorrect")
        said(page, "taken back: caption labels")
        assert not data.query(sql).fetchall()
