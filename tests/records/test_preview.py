"""Laws of the page that shows records: whole by itself, true to the samples, and it leaves the folder as it is."""

import re
import shutil
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import three_clocks
from browsing import opened
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from jangin.errors import DataError
from jangin.records.checks import Finding
from jangin.records.drawing import bars, contact_sheet, curves, envelope, spectrogram
from jangin.records.preview import page, words

NOW = datetime(2026, 11, 21, tzinfo=UTC)


class Reader(HTMLParser):
    """Every tag closed, no script, and every address that is not the picture itself."""

    EMPTY = frozenset({"meta", "br", "path", "img"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in self.EMPTY:
            self.open.append(tag)
        for name, value in attributes:
            if name in ("src", "href", "action") and not (value or "").startswith("data:image/png;base64,"):
                self.outside.append(f"{tag} {name}={value}")
        assert tag != "script"
        assert not any(name.startswith("on") for name, _ in attributes)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = three_clocks.write(tmp_path_factory.mktemp("clocks") / "records", 4)
    table = pq.read_table(made / "episodes.parquet")
    masters = pa.array(["<b>M</b>", "M-1", "M-1", "M-1"])
    consents = pa.array([None, "c1", "c1", None], pa.string())
    for name, column in (("master", masters), ("consent_id", consents)):
        table = table.set_column(table.column_names.index(name), name, column)
    pq.write_table(table, made / "episodes.parquet")
    return made


@pytest.mark.parametrize("lang", ["ko", "en"])
def test_the_page_is_whole_says_that_it_stays_and_shows_every_stream_and_field(folder: Path, lang: Any) -> None:
    found = [Finding("warning", "JG-data-028", where="<i>", column="x", nearest=["y"])]
    html = page(folder, found, lang, NOW, {"M-1": "covered"})
    reader = Reader()
    reader.feed(html)
    assert (reader.open, reader.outside) == ([], [])
    assert "&lt;b&gt;M&lt;/b&gt;" in html
    assert "<b>M</b>" not in html
    assert re.search(r"<td>M-1</td><td>3</td><td>2</td><td>covered</td>", html)
    for said in (words()["stays"][lang], "JG-data-028", "&lt;i&gt;", "microphone, weld-00", "action.filler", "current"):
        assert said in html
    assert html.count('class="heat"') == 3
    assert html.count('alt="weld-') == 3
    assert page(folder, found, lang, NOW, {"M-1": "covered"}) == html
    assert bool(re.search("[가-힣]", re.sub("기공률", "", html))) == (lang == "ko")


def test_every_word_of_the_page_is_said_in_both_languages() -> None:
    assert all(set(texts) == {"en", "ko"} and all(texts.values()) for texts in words().values())


def test_a_browser_draws_the_page_and_nobody_is_asked_for_anything(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(page(folder, [], "ko", NOW), encoding="utf-8")
    seen = opened(tmp_path / "page.html", tmp_path / "profile")
    assert (seen.html.count("<svg"), seen.asked) == (8, [])


@pytest.mark.soak
def test_a_page_that_asks_somebody_is_found_out(tmp_path: Path) -> None:
    (tmp_path / "other.html").write_text('<img src="http://127.0.0.1:9/x.png">')
    assert opened(tmp_path / "other.html", tmp_path / "profile").asked == ["http://127.0.0.1:9/x.png"]


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ("media/sound/weld-00.flac", "JG-data-032"),
        ("media/pool/weld-00.png", "JG-data-032"),
        ("streams/arc/part-000.parquet", "Parquet"),
    ],
)
def test_what_cannot_be_read_is_told_in_its_place(copied: Path, broken: str, told: str) -> None:
    (copied / broken).write_bytes(b"fLaC")
    html = page(copied, [], "en", NOW)
    assert told in html
    assert "action.filler" in html


def test_a_column_of_another_type_is_told_and_a_folder_without_episodes_has_a_code(copied: Path) -> None:
    part = copied / "streams" / "arc" / "part-000.parquet"
    table = pq.read_table(part)
    words = pa.array(["a lot"] * len(table))
    pq.write_table(table.set_column(table.column_names.index("current"), "current", words), part)
    assert "a lot" in page(copied, [], "en", NOW)
    for content in (b"PAR1", None):
        if content is None:
            (copied / "episodes.parquet").unlink()
        else:
            (copied / "episodes.parquet").write_bytes(content)
        with pytest.raises(DataError, match=r"JG-data-01[12]"):
            page(copied, [], "en", NOW)


@settings(max_examples=30)
@given(
    x=arrays.arrays(np.float64, st.integers(1, 200), elements=st.floats(-1e6, 1e6) | st.just(np.nan)),
    columns=st.integers(1, 50),
)
def test_an_envelope_loses_no_sample(x: np.ndarray, columns: int) -> None:
    t = np.arange(len(x), dtype=np.float64)
    low, high = envelope(t, x, 0.0, float(len(x)), columns)
    place = (t / len(x) * columns).astype(int).clip(0, columns - 1)
    there = ~np.isnan(x)
    assert (low[place[there]] <= x[there]).all()
    assert (x[there] <= high[place[there]]).all()
    assert set(low[~np.isnan(low)]) | set(high[~np.isnan(high)]) <= set(x[there])


def test_sixty_thousand_samples_are_few_bytes_and_a_single_spike_is_drawn() -> None:
    t, x = np.arange(60_000) / 1000, np.zeros(60_000)
    x[31_416] = 7.0
    drawn = curves([(t, x)], (-5.0, 5.0))
    assert len(drawn) < 8_000
    assert ">7</text>" in drawn
    assert 'class="limit"' in drawn
    assert 'class="limit"' not in curves([(t, x)], (-10.0, 10.0))


def test_a_picture_of_little_or_nothing_is_none_or_small() -> None:
    assert curves([(np.empty(0), np.empty(0)), (np.zeros(2), np.full(2, np.nan))], (0, 1)) == ""
    assert "<path" in curves([(np.zeros(1), np.ones(1))], (0, 1))
    assert "outside" in bars([1, 0], ["a", "<b>"], outside=2)
    assert "<b>" not in bars([1, 0], ["a", "<b>"])
    assert spectrogram(np.zeros(64)).startswith("data:image/png")
    assert len(spectrogram(np.random.default_rng(0).normal(size=480_000))) < 200_000
    assert contact_sheet(np.zeros((3, 1, 2, 2), np.float32), [(0, 1)] * 3).startswith("data:image/png")
