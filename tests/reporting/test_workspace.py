"""The workspace on W&B: the JSON that W&B would get, and what is said where it cannot be made."""

import json
import sys
from typing import Any

import fakes
import pytest

from emoshare import reporting
from emoshare.core.errors import EmoshareError
from emoshare.reporting import workspace


def spec(**changes: Any) -> dict[str, Any]:
    """The JSON of a workspace."""
    usual = {
        "sweep": "table4", "entity": "me", "project": "emoshare", "tables": ["cells", "windows"], "tested": True,
        "keys": ["backbone.name", "window.seconds", "optimizer.lr"],
    }  # fmt: skip
    made = workspace.make(**(usual | changes))
    return json.loads(made._to_model().spec.model_dump_json(by_alias=True, exclude_none=True))["section"]


def panels(found: dict[str, Any], section: str) -> list[dict[str, Any]]:
    (wanted,) = [item for item in found["panelBankConfig"]["sections"] if item["name"] == section]
    return [panel["config"] | {"type": panel["viewType"]} for panel in wanted["panels"]]


def test_what_one_compares_comes_first_and_is_open():
    sections = spec()["panelBankConfig"]["sections"]
    assert [section["name"] for section in sections] == ["Comparison", "Learning curves", "Report"]
    assert all(section["isOpen"] for section in sections)


def test_avg_over_windows_bars_of_backbones_and_all_keys():
    scatter, bars, parallel = panels(spec(), "Comparison")
    assert (scatter["type"], scatter["xAxis"]) == ("Scatter Plot", "config:window.value.seconds")
    assert scatter["yAxis"] == "summary:best/devel/avg"
    assert (bars["type"], bars["metrics"]) == ("Bar Chart", ["summary_metrics.best/devel/avg"])
    assert (bars["groupBy"], bars["groupAgg"], bars["groupArea"]) == ("backbone.value.name", "mean", "stddev")
    assert parallel["type"] == "Parallel Coordinates Plot"
    assert [column["accessor"] for column in parallel["columns"]] == [
        "config:backbone.value.name", "config:window.value.seconds", "config:optimizer.value.lr",
        "summary:best/devel/scc", "summary:best/devel/ccc", "summary:best/test/scc", "summary:best/devel/avg",
    ]  # fmt: skip


def test_no_test_scores_where_there_are_none():
    assert "best/test" not in json.dumps(spec(tested=False))


def test_curves_have_the_names_of_the_logged_charts():
    curves = panels(spec(), "Learning curves")
    assert [curve["metrics"] for curve in curves] == [["devel/avg"], ["devel/loss"], ["train/loss"]]
    assert {curve["xAxis"] for curve in curves} == {"epoch"}


def test_the_tables_of_the_report_are_shown():
    _, *tables = panels(spec(), "Report")
    keys = [table["panel2Config"]["exp"]["fromOp"]["inputs"]["key"]["val"] for table in tables]
    assert keys == ["tables/cells", "tables/windows"]


def test_only_the_runs_of_the_sweep_the_best_first_with_readable_columns():
    (runs,) = spec()["runSets"]
    (only,) = runs["filters"]["filters"]
    assert (only["key"], only["op"], only["value"]) == ({"section": "run", "name": "group"}, "=", "table4")
    (order,) = runs["sort"]["keys"]
    assert (order["key"], order["ascending"]) == ({"section": "summary", "name": "best/devel/avg"}, False)
    assert runs["runFeed"]["columnOrder"][2:] == [
        "config:backbone.value.name", "config:window.value.seconds", "config:optimizer.value.lr",
    ]  # fmt: skip


class Run:
    """The report's run on W&B, as much of it as a workspace needs."""

    def __init__(self, **summary: Any) -> None:
        self.entity, self.project, self.summary = "me", "emoshare", summary


@pytest.fixture
def report(tmp_path) -> reporting.WrittenReport:
    """A report of two backbones and two windows."""
    for backbone in ("tiny", "logmel"):
        for seconds in (1.0, 2.0):
            fakes.run(tmp_path / "s" / f"{backbone}-{seconds}", fakes.config(backbone, seconds), clips=40)
    return reporting.write([tmp_path / "s"], resamples=20)


def test_it_is_made_of_what_the_report_found_and_only_once(report, monkeypatch):
    from wandb_workspaces.workspaces import Workspace, internal

    sent: list[Any] = []
    answer = {"upsertView": {"view": {"name": "nw-1-v", "id": "1"}}}
    monkeypatch.setattr(internal, "upsert_view2", lambda view: sent.append(view) or answer)
    monkeypatch.setattr(Workspace, "url", "https://wandb.ai/me/emoshare?nw=1")
    run = Run()
    assert workspace.save("table4", run, report) == "https://wandb.ai/me/emoshare?nw=1"
    assert workspace.save("table4", run, report) == run.summary["workspace"]
    (view,) = sent
    assert (view.entity, view.project, view.display_name) == ("me", "emoshare", "emoshare sweep table4")
    section = json.loads(view.spec.model_dump_json(by_alias=True))["section"]
    columns = [column["displayName"] for column in panels(section, "Comparison")[2]["columns"]]
    assert columns == ["backbone.name", "window.seconds", "seed", "devel/scc", "devel/ccc", "test/scc", "devel/avg"]
    assert len(panels(section, "Report")) == 1 + len(report.tables)


def test_without_the_library_one_line_says_what_to_install(report, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    with pytest.raises(EmoshareError):
        spec()
    assert workspace.save("table4", Run(), report) is None
    (line,) = caplog.messages
    assert line == 'W&B workspace: not made: the library is not installed; run `pip install "emoshare[workspaces]"`'


def test_what_the_server_refuses_fails_no_report(report, monkeypatch, caplog):
    from wandb_workspaces.workspaces import internal

    def refuse(view: Any) -> Any:
        raise ValueError("permission denied\nmore")

    monkeypatch.setattr(internal, "upsert_view2", refuse)
    assert workspace.save("table4", Run(), report) is None
    assert caplog.messages == ["W&B workspace: not made: permission denied"]


def test_a_metric_of_the_users_that_may_not_be_imported_has_its_label_and_direction(report, monkeypatch):
    from wandb_workspaces.workspaces import Workspace, internal

    path = report.page.parent / "summary.json"
    summary = json.loads(path.read_text())
    summary["metrics"] = {"unknown_kinds.worst": {"label": "Worst", "greater_is_better": False, "unit": 0}}
    path.write_text(json.dumps(summary))
    sent: list[Any] = []
    answer = {"upsertView": {"view": {"name": "nw-1-v", "id": "1"}}}
    monkeypatch.setattr(internal, "upsert_view2", lambda view: sent.append(view) or answer)
    monkeypatch.setattr(Workspace, "url", "https://wandb.ai/me/emoshare?nw=1")
    assert workspace.save("table4", Run(), report)
    section = json.loads(sent[0].spec.model_dump_json(by_alias=True))["section"]
    (order,) = section["runSets"][0]["sort"]["keys"]
    assert (order["key"]["name"], order["ascending"]) == ("best/devel/unknown_kinds.worst", True)
