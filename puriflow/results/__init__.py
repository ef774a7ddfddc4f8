"""What is made of the stores: tables, times, sweeps, certified curves, verdicts on claims.

Each is data of config/ (tables.py, timing.py, sweeps.py, radii.py, claims.py); measuring.py and
evidence.py read the stores; summary.py and pages.py write what is read. Figures are in
puriflow.results.figures, which draws.
"""
