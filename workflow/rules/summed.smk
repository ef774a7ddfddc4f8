# What the rules of verdicts and pages look up, beside rules/common.smk.
from puriflow.results.claims import load_claims

CLAIMS = "config/claims.yaml"
FOLDERS = {"tables": table_names, "timings": timing_names, "figures": figure_names}
MEASURED = "|".join([r"figure[a-z0-9-]*", *timing_names()])


def result_names():
    """All tables, timings and figures."""
    return [name for names in FOLDERS.values() for name in names()]


def paper_results():
    """Those that are the paper's own."""
    return [*paper_tables(), *timing_names(), *figure_names()]


def result_file(name):
    """The file that says what is in a table, a timing or a figure."""
    folders = (folder for folder, names in FOLDERS.items() if name in names())
    folder = next(folders, None)
    if folder is None:
        raise unknown("result", name, result_names())
    return f"config/{folder}/{name}.yaml"


@orderly
def file_of_result(wildcards):
    """The same, of a rule's result."""
    return result_file(wildcards.result)


def category_of_result(wildcards):
    """Where the report shows a result: with the paper's, or with our own evaluation."""
    name = wildcards[0]
    if name in figure_names():
        return "figures"
    return "tables" if name in paper_results() else "our own tables"


@orderly
def claims_file(wildcards):
    """The claims, of which each is about something that is there."""
    load_claims(CLAIMS, result_names())
    return CLAIMS
