import re
from importlib.resources import files

import numpy as np
import pytest

from avexp.core.errors import DataError
from avexp.report.html import Card, Report, data_uri
from avexp.report.plots import condition_bars
from avexp.report.tables import KpiRow, kpi_table

NOISE = np.random.default_rng(0).integers(0, 256, (360, 640, 3), np.uint8)


def whole(frames: int = 2) -> Report:
    report = Report("quickstart <b>", "four tasks & one camera")
    report.add_cards([Card("AP50", "0.71", "constant 0.02", True)]).add_facts({"run": "r1", "seed": 1})
    table = kpi_table([KpiRow(task="objects", title="AP50", values={"a": 0.1, "b": 0.2})], ["a", "b"])
    section = report.section("KPIs & more").text("paragraph <script>alert(1)</script>").table(table)
    section.plots([(condition_bars({"AP50": {"day": 0.7}}), "plot")])
    smooth = np.repeat(np.repeat(NOISE[::8, ::8], 8, 0), 8, 1)
    report.section("Predictions").frames([(smooth, "<i>night</i>")] * frames)
    return report.add_skipped([("shard_0.tar@512 <x>", "cut off")])


def test_everything_is_there_and_all_text_is_escaped():
    page = whole().html()
    for text in ("quickstart &lt;b&gt;", "&lt;script&gt;alert", "&lt;i&gt;night", "shard_0.tar@512 &lt;x&gt;", "0.200"):
        assert text in page
    assert "<script" not in page
    assert 'class="number best"' in page
    assert page.count("data:image/jpeg;base64,") == 2
    assert page.count("data:image/png;base64,") == 1
    assert "Nothing was skipped" in Report("empty").html()


def test_it_needs_no_network_and_links_lead_somewhere():
    page = whole().html()
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", page)
    assert not re.search(r"url\(|@import", page)
    anchors = set(re.findall(r'href="#([^"]+)"', page))
    assert anchors == {"kpis---more", "predictions", "origin", "skipped"}
    assert anchors <= set(re.findall(r'id="([^"]+)"', page))


def test_forty_frames_stay_below_six_megabytes(tmp_path):
    path = whole(40).write(tmp_path / "new" / "report.html")
    assert path.stat().st_size < 6e6
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]


def test_a_folder_that_is_a_file_is_one_line(tmp_path):
    (tmp_path / "report.html").mkdir()
    with pytest.raises(DataError, match="cannot be written"):
        whole().write(tmp_path / "report.html")


def test_pictures_are_arrays_png_or_jpeg():
    assert data_uri(NOISE).startswith("data:image/jpeg")
    with pytest.raises(ValueError, match="PNG or JPEG"):
        data_uri(b"GIF89a")


def test_the_template_is_packaged_with_the_room():
    assert files("avexp.report").joinpath("report.html.j2").is_file()


def test_sections_of_one_title_are_one():
    report = Report("t")
    assert report.section("a") is report.section("a")
