"""The paper track from stand-ins of the official files, as far as it is cheap; all of it if asked.

`pytest --rehearsal` (`make rehearsal`) builds all of the paper's tables and figures.
"""

import pandas as pd
import torch
from stand_ins import network_of

from puriflow.results import find, load_result, paper_results
from puriflow.zoo.catalogue import Zoo
from puriflow.zoo.fetching import fetch

TRACK = ("--configfile", "config/rehearsal.yaml")
CHEAP = ("table8-left", "table9-bottom")
UNUSED = "num_batches_tracked"  # which eight norms have eight of


def test_every_official_container_is_read_as_the_network_in_it(project, tiny_zoo):
    zoo = Zoo(entries=str(project.folder / "weights" / "zoo.yaml"))
    for name, entry in tiny_zoo.items():
        expected = network_of(name, entry).state_dict()
        found = network_of(name, entry, fetch(zoo, name)).state_dict()
        assert found.keys() == expected.keys(), name
        halved = str(entry.convert).startswith("ncnn:")  # of which convolutions have half precision
        for key, value in expected.items():
            same = torch.equal(found[key], value)
            same |= halved and torch.equal(found[key], value.half().float())
            assert key.endswith(UNUSED) or same, (name, key)


def test_all_of_the_paper_s_tables_and_figures_are_planned(project):
    jobs = project.planned("results/summary.md", *TRACK)
    # tables 1 to 8 (8 in halves) and 10; times of table 8, and of 9 in halves; figures and geometry
    assert (jobs["build_table"], jobs["measure_times"], jobs["build_figure"]) == (10, 3, 7)
    assert jobs["write_summary"] == 1


def test_tables_and_figures_are_built(project, pytestconfig):
    names = CHEAP
    if pytestconfig.getoption("rehearsal"):
        names = paper_results(project.folder / "config")
    targets = [f"results/{name}.csv" for name in names]
    targets += ["results/summary.md"] if names != CHEAP else []
    project.snakemake(*targets, *TRACK)
    for name in names:
        result = load_result(find(name, project.folder / "config"))
        lines = pd.read_csv(project.folder / "results" / f"{name}.csv")
        assert len(lines) >= len(result.items()), name
        if result.folder == "tables":
            run = lines[~lines.note.astype(str).str.startswith("quoted by the paper")]
            assert (run.n == 2).all(), run
            assert run[["standard", "robust"]].notna().all(axis=None), run
    assert project.planned(*targets, *TRACK) == {}
