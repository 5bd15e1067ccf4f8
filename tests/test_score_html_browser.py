"""The HTML report in a real browser; skipped where there is no Chromium."""

import shutil

import pytest
from scored import calibration, comparison, morning, score_of, utterance
from stand_ins import noise

from hyperasr.score.html import to_html
from hyperasr.score.result import Interval

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
playwright = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="needs the chromium program")

PHONE = {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def window(browser, tmp_path_factory):
    """Open a score; at the end nothing may have gone wrong or been asked elsewhere."""
    said, asked = [], []
    root = tmp_path_factory.mktemp("pages")

    def opened(score, audio_from=None, **settings):
        file = (audio_from or root) / "report.html"
        file.write_text(to_html(score, audio_from), encoding="utf-8")
        page = browser.new_page(**settings)
        page.set_default_timeout(10_000)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(file.as_uri())
        return page

    yield opened
    assert not [text for text in said if "net::ERR_FILE_NOT_FOUND" not in text]
    assert all(url.startswith(f"{root.parent.as_uri()}/") for url in asked)


@pytest.fixture
def show(window):
    """A window of its own for a test."""
    pages = []

    def opened(*what, **settings):
        pages.append(window(*what, **settings))
        return pages[-1]

    yield opened
    for page in pages:
        page.close()


@pytest.fixture(scope="module")
def shared(window):
    return window(morning())


@pytest.fixture
def report(shared):
    """One window for the tests that only sort and filter."""
    shared.get_by_role("button", name="Show all").click()
    return shared


@pytest.fixture
def played(show, tmp_path):
    """A page in a folder of its own, beside a recording whose name is hard to write in a URL."""
    page = show(morning(str(noise(tmp_path / "50% #1 ü?.wav", seconds=4))), tmp_path)
    page.evaluate(
        "document.querySelector('audio').defaultPlaybackRate = 0"
    )  # to see where it starts
    return page


def until(page, condition):
    """Wait until the `audio` element of the page is as said."""
    page.evaluate(
        f"""() => new Promise((done, failed) => {{
          setTimeout(() => failed(new Error("never came")), 10000);
          const audio = document.querySelector("audio");
          const look = () => ({condition} ? done() : requestAnimationFrame(look));
          look();
        }})"""
    )


def everything(**more):
    score = morning(**more)
    found = score.utterances
    return morning(
        calibration=calibration(found),
        comparison=comparison(found, Interval(-0.1, 0.1)),
        extra=("a-very-long-identifier-" * 9,),
        **more,
    )


def ids(page):
    return page.locator("article:visible h3").all_text_contents()


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("Word error rate", ["morning-2", "morning-10", "morning-1"]),
        ("Errors", ["morning-2", "morning-10", "morning-1"]),
        ("Length", ["morning-10", "morning-1", "morning-2"]),
        ("Id", ["morning-1", "morning-2", "morning-10"]),
        ("As given", ["morning-1", "morning-10", "morning-2"]),
    ],
)
def test_sorting(report, order, expected):
    report.get_by_label("Sort by").select_option("Id")
    report.get_by_label("Sort by").select_option(order)
    assert ids(report) == expected


def test_insertions_into_nothing_are_the_worst_rate(show):
    rows = [("full", "a b", "c d"), ("empty", "", "x"), ("both", "", ""), ("good", "a", "a")]
    page = show(score_of([utterance(*row) for row in rows]))
    page.get_by_label("Sort by").select_option("Word error rate")
    assert ids(page) == ["empty", "full", "good", "both"]


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("to the door", ["morning-2"]),  # as said
        ("NOW to the tower", ["morning-2"]),  # as heard
        ("ee", ["morning-10"]),
        ('"she"', ["morning-1"]),
        ('"sh"', []),
        ("−a", ["morning-10"]),
        ("bob", ["morning-10"]),
        ("morning-1", ["morning-1", "morning-10"]),
        ("[", []),
    ],
)
def test_searching(report, typed, expected):
    report.get_by_label("Search").fill(typed)
    assert ids(report) == expected
    assert report.locator("output").inner_text().startswith(f"{len(expected)} of 3 utterances")


def test_filters_meet_and_all_come_back(report):
    report.get_by_label("Only with errors").check()
    assert ids(report) == ["morning-10", "morning-2"]
    report.get_by_role("combobox", name="Speaker").select_option("ann")
    assert ids(report) == ["morning-2"]
    assert report.locator("output").inner_text() == "1 of 3 utterances, WER\u00a040.00\u00a0%"
    report.get_by_role("combobox", name="Source").select_option("a")
    assert ids(report) == []
    report.get_by_label("Sort by").select_option("Id")
    report.get_by_role("button", name="Show all").click()
    assert ids(report) == ["morning-1", "morning-10", "morning-2"]


@pytest.mark.parametrize(
    ("errors", "words", "rate"),
    [(1, 32, "3.12"), (3, 32, "9.38"), (1, 160, "0.62"), (23, 160, "14.37")],
)
def test_the_rate_beside_the_list_is_that_of_the_tables(show, errors, words, rate):
    """Half a hundredth is where two ways of rounding part."""
    page = show(score_of([utterance("u-1", "a " * words, "a " * (words - errors))]))
    rate += "\u00a0%"
    assert page.locator("output").inner_text() == f"1 of 1 utterances, WER\u00a0{rate}"
    assert page.locator("dd").first.inner_text().startswith(rate)


@pytest.mark.parametrize(
    ("link", "expected"),
    [("door→tower", ["morning-2"]), ("−a", ["morning-10"]), ("bob", ["morning-10"])],
)
def test_a_row_of_a_table_leads_to_its_utterances(report, link, expected):
    report.get_by_label("Only with errors").check()
    report.get_by_role("link", name=link, exact=True).click()
    assert ids(report) == expected


def test_a_click_on_a_word_plays_from_there(played):
    assert not played.locator("#player").is_visible()
    played.locator("article", has_text="morning-2").get_by_text("tower").click()
    until(played, "audio.currentTime === 2.5 && !audio.paused")
    assert played.locator("#player").is_visible()
    assert played.locator("#player p").inner_text() == "morning-2"
    played.wait_for_selector("mark.now")


def test_the_keyboard_plays_words(played):
    played.get_by_role("button", name="Play").first.focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "ArrowRight", "ArrowLeft", "Enter"):
        played.keyboard.press(key)
    assert played.evaluate("document.activeElement.textContent") == "that"
    until(played, "audio.currentTime === 1 && !audio.paused")


def test_a_piece_of_a_recording_ends_where_it_ends(show, tmp_path):
    recording = noise(tmp_path / "long.wav", seconds=4)
    piece = utterance("a", "one", "one", audio=str(recording), offset=1.0, duration=0.2)
    page = show(score_of([piece]), tmp_path)
    page.get_by_role("button", name="Play").click()
    until(page, "audio.paused && audio.currentTime > 1.15")
    assert page.evaluate("document.querySelector('audio').currentTime") < 2


def test_a_recording_that_is_not_there_is_named(show, tmp_path):
    page = show(morning(str(tmp_path / "gone away.wav")), tmp_path)
    page.get_by_role("button", name="Play").first.click()
    page.get_by_text("cannot play gone away.wav").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(show, scheme):
    """WCAG 2 AA: a contrast of 4.5 to 1."""
    page = show(everything(), color_scheme=scheme)
    ratio = """(element) => {
      const luminance = (colour) => colour.match(/[\\d.]+/g).slice(0, 3)
        .map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
      let ground = element;
      const behind = () => getComputedStyle(ground).backgroundColor;
      while (/, 0\\)$/.test(behind())) ground = ground.parentElement;
      const [a, b] = [getComputedStyle(element).color, behind()].map(luminance);
      return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    }"""
    for name in ("mark", "del", "ins", "a", ".about", ".note summary", "dt", "thead th", "output"):
        assert page.locator(name).first.evaluate(ratio) >= 4.5, name
    ground = "(element) => getComputedStyle(element).backgroundColor"
    kinds = ("body", "mark", "del", "ins")
    assert len({page.locator(name).first.evaluate(ground) for name in kinds}) == 4


def test_a_phone_never_scrolls_sideways(show, tmp_path):
    words = utterance("u" * 200, "w" * 300, "x" * 300, speaker="s" * 100, source="t" * 100)
    long = [words, *morning().utterances]
    page = show(
        score_of(
            long,
            calibration=calibration(long),
            comparison=comparison(long, Interval(-0.1, 0.1)),
            extra=("e" * 200,),
            system="y" * 200,
            normaliser="z" * 200,
        ),
        tmp_path,
        viewport=PHONE,
    )
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    ends = "(elements) => elements.map((element) => element.getBoundingClientRect().right)"
    assert max(page.locator("body *").evaluate_all(ends)) <= PHONE["width"]
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_every_control_has_a_name_and_every_table_headers(show):
    page = show(everything())
    names = "(elements) => elements.map((element) => element.labels.length)"
    assert page.locator("input, select").evaluate_all(names) == [1, 1, 1, 1, 1]
    assert page.locator("table").count() == 7
    for headers in ("thead th[scope=col]", "tbody th[scope=row]"):
        assert page.locator("table", has=page.locator(headers)).count() == 7


def test_words_that_look_like_markup_are_shown(show):
    word = "</p><script>document.title='owned'</script><img/src='x'>"
    page = show(score_of([utterance("<b>id</b>", word, f"{word}<b>x</b>")]))
    assert ids(page) == ["<b>id</b>"]
    assert page.locator(".words").inner_text() == f"{word}→{word}<b>x</b>"
    assert page.title() != "owned"


def test_without_scripts_everything_can_still_be_read(show):
    page = show(morning(), java_script_enabled=False)
    assert ids(page) == ["morning-1", "morning-10", "morning-2"]
    assert not page.get_by_label("Search").is_visible()
