# The two commands of the README, and what they need. Nothing but Python >= 3.11 and make is assumed.
PYTHON ?= python3
ENV := .venv
READY := $(ENV)/.ready
PEERS := $(ENV)/.peers
BESIDE := $(ENV)/beside/bin/python
DEMO := $(ENV)/demo/.ready
BOARD := $(ENV)/leaderboard
BENCHMARKS := against_torchsde against_attacks against_zarr job_overhead growth fewest_evaluations planning
SLURM := slurmctld slurmd slurm-client munge
# Snakemake's jobs and the tests call `puriflow`, `snakemake` and `ruff` by name.
export PATH := $(CURDIR)/$(ENV)/bin:$(PATH)

.PHONY: table7 report test site slurm browser test-gpu storm rehearsal bench setup clean

table7: $(READY)
	@echo "== Table 7 of the paper, on the mini track: results/table7.csv"
	snakemake results/table7.csv --quiet reason
	@python -c "import pandas as pd; t = pd.read_csv('results/table7.csv'); \
	print(t[['method', 'n', 'standard', 'robust', 'paper_standard', 'paper_robust']].to_string(index=False))"
	@echo "== results/table7.csv, its bars in results/table7.png, its images in results/sheets/table7.png"

report: $(READY)
	@echo "== everything of config/, hours on two cores: every table, figure and page, and the report"
	snakemake all --quiet reason
	snakemake all --report results/report.html --quiet
	@echo "== results/report.html, and the paper beside our results in results/summary.md"

test: $(READY) $(BESIDE) $(DEMO)
	@echo "== tests, as many side by side as there are cores"
	OMP_NUM_THREADS=1 python -m pytest --numprocesses auto

site: $(READY) $(BESIDE)
	@echo "== the documentation's site: site/index.html"
	@board="$$LEADERBOARD"; \
	if [ -n "$$board" ]; then echo "== with the leaderboard of $$board"; \
	elif ! ls results/*.csv > /dev/null 2>&1; then \
	echo "== without a leaderboard: no table is built in results/ (make table7)"; \
	elif rm -rf $(BOARD) && puriflow site $(BOARD); then board=$(BOARD); \
	else echo "== without a leaderboard, for the reason above"; fi; \
	LEADERBOARD="$$board" NO_MKDOCS_2_WARNING=1 $(dir $(BESIDE))mkdocs build --strict

# A Slurm for tests/cluster, which are skipped without. It installs packages of the system, so nothing calls it
# but CI and whoever wants it.
slurm:
	@command -v slurmctld > /dev/null || { echo "== installing Slurm for its tests, by apt" \
	&& export DEBIAN_FRONTEND=noninteractive && timeout 120 apt-get update -qq \
	&& timeout 120 apt-get install -qq --download-only --no-install-recommends $(SLURM) \
	&& apt-get install -qq --no-install-recommends $(SLURM); }

# A browser for tests/site and tests/demo, in the same way.
browser:
	@command -v chromium > /dev/null || { echo "== installing Chromium for the tests of pages, by apt" \
	&& export DEBIAN_FRONTEND=noninteractive && timeout 120 apt-get update -qq \
	&& timeout 240 apt-get install -qq --download-only --no-install-recommends chromium \
	&& apt-get install -qq --no-install-recommends chromium; }

test-gpu: $(READY)
	@echo "== tests of what only a GPU can tell, minutes"
	python -m pytest -m gpu tests/gpu

storm: $(READY)
	@echo "== hours: ten times the random cases, kills and flipped bits of the tests, drawn anew"
	python -m pytest --storm

rehearsal: $(READY)
	@echo "== ten minutes: all of the paper's tables and figures from tiny stand-ins of the official files"
	python -m pytest --rehearsal tests/rehearsal

bench: $(PEERS)
	@echo "== ten CPU minutes: ratios beside other libraries; benchmarks/measured/*.json"
	@set -e; for name in $(BENCHMARKS); do \
	echo "== $$name"; OMP_NUM_THREADS=1 python benchmarks/$$name.py; done

setup: $(READY)

$(READY): pyproject.toml
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" \
	|| { echo "PuriFlow needs Python 3.11 or newer; choose one: make PYTHON=python3.11 ..."; exit 1; }
	@echo "== setting up $(ENV): a virtual environment with PuriFlow and its libraries (minutes, once)"
	$(PYTHON) -m venv $(ENV)
	python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

# In an environment of their own: they need newer requests than torchattacks takes.
$(BESIDE): tests/beside.txt docs/site/requirements.txt | $(READY)
	@echo "== adding to $(ENV) what runs beside: a server of S3, a validator of RO-Crates, mkdocs, linters"
	$(PYTHON) -m venv --clear $(ENV)/beside
	$@ -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

# Gradio, over the libraries of $(ENV), of which it takes an older Pillow.
$(DEMO): pyproject.toml | $(READY)
	@echo "== adding to $(ENV) what the tests of the demo run beside themselves"
	$(PYTHON) -m venv --clear $(ENV)/demo
	python -c "import sysconfig; print(sysconfig.get_path('purelib'))" \
	> "$$($(ENV)/demo/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/libraries.pth"
	$(ENV)/demo/bin/python -m pip install --quiet --disable-pip-version-check 'gradio>=6,<7'
	@touch $@

# adv-lib without its dependencies: visdom, which draws, has no wheel and does not build any more.
$(PEERS): $(READY) pyproject.toml
	@echo "== adding to $(ENV) what the benchmarks compare with"
	python -m pip install --quiet --disable-pip-version-check --editable '.[dev,bench]'
	python -m pip install --quiet --disable-pip-version-check --no-deps 'adv-lib>=0.2.8,<1'
	@touch $@

clean:
	rm -rf $(ENV) results logs .snakemake
