"""The page of the benchmarks: sections in their order, tables, what was not run."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))
import report


@pytest.fixture
def results(tmp_path):
    facts = report.machine()
    table = report.Table("Two rows:", ["name", "a|b"], [["x", 1], ["y", "2 (1–3)"]])
    report.write_section("unheard_of", report.Section("Last", "", machine=facts), tmp_path)
    report.write_section("codecs", report.Section("Codecs", "A text.", [table], ["c.png"], facts), tmp_path)
    report.write_section("layouts", report.Section("Layouts", "", machine=facts | {"zarr": "9"}), tmp_path)
    return tmp_path


def test_sections_come_in_order_and_unknown_ones_last(results):
    assert list(report.read_sections(results)) == ["layouts", "codecs", "unheard_of"]


def test_the_page_has_tables_figures_and_says_what_is_missing(results):
    page = report.page(report.read_sections(results))
    assert "| name | a\\|b |\n| --- | --- |\n| x | 1 |\n| y | 2 (1–3) |" in page
    assert "![Codecs](figures/c.png)" in page
    (missing,) = [line for line in page.splitlines() if line.startswith("Not run")]
    assert "engines" in missing
    assert "codecs" not in missing


def test_a_machine_is_said_where_it_differs(results):
    page = report.page(report.read_sections(results))
    assert "zarr 9" in page.partition("## Layouts")[0]
    assert page.partition("## Codecs")[2].count("Here: zarr ") == 2


def test_a_section_comes_back_as_it_was_written(results):
    section = report.read_sections(results)["codecs"]
    assert section == report.Section(
        "Codecs", "A text.", [report.Table("Two rows:", ["name", "a|b"], [["x", 1], ["y", "2 (1–3)"]])], ["c.png"],
        section.machine,
    )  # fmt: skip
    assert {"machine", "python", "zarr", "date"} <= set(section.machine)
