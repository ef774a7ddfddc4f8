"""Results: what is built of the stores, one kind a file.

Tables, sweeps, times, certified curves, draws of gradients and figures are files of config/ (see
`base.Result`); claims.py judges the paper's claims about them, and summary.py writes the paper
beside them.
"""

from puriflow.results.base import Result
from puriflow.results.finding import (
    RESULT,
    class_of,
    find,
    find_judged,
    judged_results,
    load_result,
    misnamed,
    names,
    paper_results,
    results_folder,
)

__all__ = [
    "RESULT",
    "Result",
    "class_of",
    "find",
    "find_judged",
    "judged_results",
    "load_result",
    "misnamed",
    "names",
    "paper_results",
    "results_folder",
]
