"""The page of the benchmarks: sections in their order, tables, what was not run; and the steps that write it."""

import os
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))
import report
import run_all


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


def test_a_step_that_takes_too_long_is_ended_with_all_that_it_started(tmp_path):
    start = time.perf_counter()
    reason = run_all.run(["sh", "-c", f"sleep 300 & echo $! > {tmp_path}/child; wait"], 0.02)
    assert reason == "it took longer than 0.02 minutes"
    assert time.perf_counter() - start < 60
    child = int((tmp_path / "child").read_text())
    for _ in range(500):  # until init has buried it
        if not Path(f"/proc/{child}").exists() or "\nState:\tZ" in Path(f"/proc/{child}/status").read_text():
            break
        time.sleep(0.01)
    else:
        pytest.fail("a process goes on")


def test_a_step_that_fails_gives_its_last_line():
    assert run_all.run(["sh", "-c", "echo first >&2; echo second >&2; exit 3"], 1) == "second"
    assert run_all.run(["sh", "-c", "exit 3"], 1) == "it failed"
    assert run_all.run(["sh", "-c", "exit 0"], 1) == ""


def test_the_page_is_written_though_steps_fail(tmp_path, monkeypatch, capsys):
    good = "import report; report.write_section('counts', report.Section('Counts', 'Well.'), report.Path({!r}))"
    (tmp_path / "good.py").write_text(good.format(str(tmp_path / "results")))
    (tmp_path / "bad.py").write_text("raise SystemExit('no such peer')")
    steps = (run_all.Step("counts", "good.py", (), 1), run_all.Step("raw", "bad.py", (), 1))
    results, page = tmp_path / "results", tmp_path / "RESULTS.md"
    for module in (report, run_all):
        monkeypatch.setattr(module, "RESULTS", results)
    monkeypatch.setattr(run_all, "STEPS", steps)
    monkeypatch.setattr(run_all, "HERE", tmp_path)
    monkeypatch.setattr(run_all, "PAGE", page)
    monkeypatch.setattr(sys, "argv", ["run_all.py", "--no-peers", "--data", str(tmp_path / "data")])
    monkeypatch.setenv("PYTHONPATH", f"{Path(report.__file__).parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    run_all.main()
    text = page.read_text()
    assert "## Counts\n\nWell." in text
    assert "## Raw\n\nNot measured: no such peer." in text
    assert "== raw: no such peer" in capsys.readouterr().out


def test_nothing_of_an_earlier_run_stays_of_a_step_that_fails(tmp_path, monkeypatch):
    (tmp_path / "bad.py").write_text("raise SystemExit('no disk')")
    for module in (report, run_all):
        monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
    for name in ("layouts", "defaults", "counts"):
        report.write_section(name, report.Section(f"Old {name}", ""), tmp_path / "results")
    steps = (run_all.Step("layouts", "bad.py", (), 1, ("defaults",)), run_all.Step("counts", "bad.py", (), 1))
    monkeypatch.setattr(run_all, "STEPS", steps)
    monkeypatch.setattr(run_all, "HERE", tmp_path)
    monkeypatch.setattr(run_all, "PAGE", tmp_path / "RESULTS.md")
    monkeypatch.setattr(
        sys, "argv", ["run_all.py", "--no-peers", "--only", "layouts", "--data", str(tmp_path / "data")]
    )
    run_all.main()
    text = (tmp_path / "RESULTS.md").read_text()
    assert "Not measured: no disk." in text
    assert "## Old counts" in text
    assert "Old layouts" not in text
    assert "Old defaults" not in text
