"""A table whose attacks are audited, by the rules."""

import pandas as pd
import yaml

from puriflow.auditing.audit import QUICK
from puriflow.auditing.verdicts import Audit

WHOLE = {"attack": "pgd-eot-linf8", "victim": "defence"}
TABLE = {
    "title": "audited",
    "source": "tests",
    "dataset": "cifar10-adaptive",
    "classifier": "wrn-28-10",
    "attack": "pgd-linf8",
    "audit": 2,
    "picture": "cost",
    "rows": [
        {"method": "undefended", "type": "none"},
        {"method": "SR, blind", "type": "SR", "restorer": "bicubic-x2"},
        {
            "method": "SR",
            "type": "SR",
            "restorer": "bicubic-x2",
            "attack": ["pgd-linf8", {**WHOLE, "attack": "pgd-eot-linf8-identity"}, WHOLE],
        },
        {"method": "DeiT-S", "type": "none", "classifier": "bai2021-deit-s"},
    ],
}


def few_steps(config):
    """Attacks of two steps, on four images."""
    config["datasets"]["cifar10-adaptive"]["subset"] = 4
    for name in ("pgd-linf8", "pgd-eot-linf8", "pgd-eot-linf8-identity"):
        config["attacks"][name]["n_iter"] = 2


def test_a_table_has_an_audit_of_each_row_and_runs_it_again_for_another_attack(empty, repository):
    (empty.folder / "resources").symlink_to(repository / "resources")
    empty.edit(few_steps)
    file = empty.folder / "config" / "tables" / "audited.yaml"
    file.write_text(yaml.safe_dump(TABLE))
    empty.snakemake("results/audited.csv")
    table = pd.read_csv(empty.folder / "results" / "audited.csv").set_index("method")
    audits = empty.folder / "results" / "audits" / "cifar10-adaptive"
    blind, whole = "pgd-linf8/wrn-28-10/2.json", "pgd-eot-linf8/bicubic-x2.none.wrn-28-10/2.json"
    found = sorted(str(one.relative_to(audits)) for one in audits.rglob("*.json"))
    assert found == sorted([blind, whole])
    for row, path in [("undefended", blind), ("SR, blind", blind), ("SR", whole)]:
        audit = Audit.from_json((audits / path).read_text())
        assert [check.name for check in audit.checks] == list(QUICK)  # nothing is random in it
        assert table.checks_failed[row] == len(audit.failed)
        assert table.attack_asr[row] == audit.cells()["attack_asr"]
        assert all(check.name in table.note[row] for check in audit.failed)
    assert table.note.str.contains("audit of pgd-linf8 on 2 images: .*pattern.* failed").iloc[0]
    assert table.evaluations[["undefended", "SR"]].tolist() == [0, 0]
    assert table.loc["DeiT-S", ["attack_asr", "checks_failed"]].isna().all()

    assert empty.planned("results/audited.csv") == {}
    empty.edit(lambda config: config["attacks"]["pgd-eot-linf8"].update(eot_iter=1))
    planned = empty.planned("results/audited.csv")
    assert planned["audit_attack"] == planned["attack_images"] == 1


CRASHING = """
from puriflow.attacks.pgd import build as pgd


def build():
    attack = pgd(eps=8 / 255, step_size=2 / 255, n_iter=2)
    attack.begin = None
    return attack
"""


def test_an_audit_that_crashes_is_no_audit_in_which_a_check_failed(empty, repository):
    """Both have exit status 1, but only one has written what it found."""
    (empty.folder / "resources").symlink_to(repository / "resources")
    (empty.folder / "mine").mkdir()
    (empty.folder / "mine" / "crashing.py").write_text(CRASHING)
    empty.edit(lambda config: config["attacks"].update(crash={"kind": "mine.crashing"}))
    audit = "results/audits/cifar10-adaptive/crash/wrn-28-10/2.json"
    said = empty.snakemake(audit, check=False)
    assert "'NoneType' object is not callable" in said  # of the log, which Snakemake shows
    assert "MissingOutputException" not in said
    assert not (empty.folder / audit).exists()
