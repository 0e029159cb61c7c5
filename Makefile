# Der einzige Einstieg; `make help` erklärt ihn. CI ruft dieselben Ziele auf.
# Aufrufen statt suchen: hinter einem Namen kann eine leere Weiche von pyenv stecken.
ifndef PYTHON
PYTHON := $(shell for name in python3.13 python3.12 python3.11 python3; do \
	$$name -c "" 2>/dev/null && echo $$name && break; done)
endif
BIN := .venv/bin
MODEL := examples/price_model/artifacts/metadata.json
WHEELS := $(patsubst %/serving.txt,%/wheels/.complete,$(wildcard examples/docker_image/serving.txt \
	examples/compose_stack/registry/serving.txt))
KERAS := examples/tensorflow_savedmodel/artifacts/metadata.json
# Der Klassenserver: Proxy und Pakete seines Images.
CLASSROOM := $(patsubst examples/%/package-lock.json,.environments/%/node_modules/.package-lock.json,\
	$(wildcard examples/*/package-lock.json)) \
	$(patsubst %/image.txt,%/wheels/.complete,$(wildcard examples/*/image.txt))
PORT ?= 8000
PYTHON_IN_ROOM ?= 3.13
FOLDER ?= notebooks
NOTEBOOKS ?= $(wildcard notebooks/*.ipynb)
# Kapitel mit eigenem Lock bekommen eine eigene Umgebung.
ENVIRONMENTS := $(patsubst examples/%/requirements.txt,.environments/%/.ready,$(wildcard examples/*/requirements.txt))

# Alle Notebooks laufen mit dem Profil des Projekts: knappe Fehler, ruhiger Kernel.
export IPYTHONDIR := $(CURDIR)/.ipython
export JUPYTER_PATH := $(CURDIR)/.environments/share/jupyter
export GRADIO_ANALYTICS_ENABLED := False
# Ist eine Rechnung fertig, dreht sich `OpenBLAS` sonst noch eine Weile im Kreis und wartet auf die nächste.
export OPENBLAS_THREAD_TIMEOUT := 4
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help serve book slides classroom classroom-image classroom-hub classroom-bench lab model keras-model student course \
	wheels setup test lint unit rules notebooks site save-notebooks bench museum figures lighthouse lock latest epub pdf \
	soak shuffle audit sbom clean

help: ## Diese Übersicht
	@echo "Modelle in Betrieb – Ziele:"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

serve: book ## Das Buch bauen und unter http://127.0.0.1:8000 zeigen (anderer Port: PORT=8001)
	@$(BIN)/python tools/site_server.py --port $(PORT)

book: .venv/.book node_modules/onnxruntime-web ## Das Buch nach _build/html bauen
	@# Sphinx merkt sich auch Seiten mit Warnung als fertig; der nächste Aufruf wäre sonst grün.
	@# Die Datei `unfinished` überlebt auch einen Abbruch von Hand.
	@[ ! -e _build/.doctrees/unfinished ] || rm -f _build/.doctrees/environment.pickle
	@mkdir -p _build/.doctrees && touch _build/.doctrees/unfinished
	@$(BIN)/jupyter-book build . -W -n --keep-going --quiet
	@rm _build/.doctrees/unfinished

slides: .venv/.book node_modules/reveal.js ## Aus jedem Notebook einen Foliensatz bauen, nach _build/slides
	@PYTHONPATH=book/_ext $(BIN)/python tools/slides.py

lab: .venv/.all model $(ENVIRONMENTS) $(KERAS) $(WHEELS) ## JupyterLab mit den Notebooks öffnen
	@$(BIN)/jupyter lab --notebook-dir=$(FOLDER)

student: .venv/.all model ## Die Fassung ohne Lösungen nach _build/student schreiben
	@$(BIN)/python -m tools.student student

course: .venv/.grading ## Einen Kurs für nbgrader nach _build/course schreiben
	@$(BIN)/python -m tools.student course

classroom: .venv/.all model slides book student ## Ein Archiv für den Raum ohne Netz bauen und ausprobieren (PYTHON_IN_ROOM=3.12)
	@$(BIN)/python tools/classroom.py --python $(PYTHON_IN_ROOM)

model: $(MODEL) ## Das Preismodell trainieren

$(MODEL): .venv/.all $(wildcard examples/price_model/*.py) requirements.txt
	@$(BIN)/python -m examples.price_model.train

keras-model: $(KERAS) ## Das Keras-Modell trainieren (richtet TensorFlow ein, gut 2 GB)

$(KERAS): .environments/tensorflow_savedmodel/.ready $(MODEL) \
		examples/tensorflow_savedmodel/train.py
	@.environments/tensorflow_savedmodel/bin/python -m examples.tensorflow_savedmodel.train

wheels: $(WHEELS) ## Die Pakete der Container-Images herunterladen; danach fehlt nur noch ihre Basis

examples/docker_image/wheels/.complete: examples/docker_image/sklearn.txt \
		examples/docker_image/wheels.py .venv/.book
	@$(BIN)/python -m examples.docker_image.wheels && touch $@

examples/compose_stack/registry/wheels/.complete: examples/compose_stack/registry/serving.txt \
		examples/docker_image/wheels.py .venv/.book
	@$(BIN)/python -m examples.compose_stack.registry download && touch $@

examples/classroom_hub/wheels/.complete: examples/classroom_hub/image.txt \
		examples/docker_image/wheels.py .venv/.book
	@$(BIN)/python -m examples.classroom_hub.build download && touch $@

# Ohne npm bleibt der Proxy aus; die Tests sagen dann, was fehlt.
.environments/%/node_modules/.package-lock.json: examples/%/package-lock.json .environments/%/.ready
	@if command -v npm >/dev/null; then cp examples/$*/package.json $< .environments/$*/ && \
	  $(NPM_CI) --prefix .environments/$* --fetch-retries=0 && touch $@ || true; fi

classroom-image: .venv/.all model $(CLASSROOM) ## Das Image der Klasse bauen
	@$(BIN)/python -m examples.classroom_hub.build

classroom-hub: classroom-image ## Den Hub einer Klasse starten (book/anhang/klassenserver.md)
	@.environments/classroom_hub/bin/python -m jupyterhub -f examples/classroom_hub/jupyterhub_config.py

classroom-bench: .venv/.checks classroom-image ## Eine Klasse von 30 nachspielen und messen
	@PYTHONPATH=notebooks:tools $(BIN)/python -m tests.benchmarks.classroom_hub

# Notebooks mit Docker und Cluster warten meist und laufen mit Vorrang neben dem, was rechnet; nie
# neben den Tests der Beispiele, denn die benutzen dieselben Namen. Am Ende dieser Reihe kommt, was
# misst. Gruppiert der Kernel nach Sitzungen, so gilt `nice` nur in einer, und Dienste haben eigene:
# Dann misst es allein.
test: .venv/.checks ## Alles prüfen, was auch CI prüft
	@then=,; if grep -qs 1 /proc/sys/kernel/sched_autogroup_enabled; then then=' '; fi; \
	  $(BIN)/python tools/run_gates.py lint setup unit \
	  notebooks:inside,book,site,rules+notebooks:outside$${then}notebooks:alone

setup: .venv/.checks node_modules/onnxruntime-web model $(ENVIRONMENTS) $(KERAS) $(WHEELS) $(CLASSROOM) ## Alle Umgebungen einrichten und die Modelle trainieren

lint: .venv/.checks ## Stil von Code und Notebooks
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

# Was Zeiten misst, gehört hierher: Die Regeln laufen mit weniger Vorrang.
UNIT := $(addprefix tests/,examples test_contract.py test_process.py test_soak.py)

# Drei Prozesse auch bei zwei Kernen: Ein Sechstel der Zeit warten die Tests auf Dienste.
unit: setup ## Tests der Beispiele und des Vertrags
	@OMP_WAIT_POLICY=passive $(BIN)/python tools/run_tests.py -n 3 --dist loadfile $(UNIT)

rules: setup ## Regeln für Texte und Notebooks, Tests der Programme und der Prüfungen selbst
	@OMP_WAIT_POLICY=passive $(BIN)/python tools/run_tests.py -n 2 --dist loadfile \
	  $(addprefix --ignore ,tests/site tests/benchmarks $(UNIT)) tests

notebooks: .venv/.checks model $(ENVIRONMENTS) $(KERAS) $(WHEELS) ## Alle Notebooks ausführen und mit ihren Ausgaben vergleichen
	@$(BIN)/python tools/run_nbval.py $(addprefix --only ,$(PART))

site: .venv/.checks model ## Die gebaute Seite im Browser prüfen
	@$(BIN)/python tools/run_tests.py -n 2 --dist worksteal -p no:schemathesis tests/site tests/test_isolation.py

save-notebooks: .venv/.checks model $(ENVIRONMENTS) $(KERAS) $(WHEELS) ## Notebooks ausführen und speichern (NOTEBOOKS="notebooks/x.ipynb")
	@$(BIN)/python tools/save_notebooks.py $(NOTEBOOKS)

bench: .venv/.checks model $(ENVIRONMENTS) $(KERAS) ## Geschwindigkeit der Dienste messen; die Zahlen stehen dann auf den Seiten
	@PYTHONPATH=notebooks:tools $(BIN)/python -m tests.benchmarks.fastapi_service
	@PYTHONPATH=notebooks:tools $(BIN)/python -m tests.benchmarks.web_apps
	@PYTHONPATH=notebooks:tools $(BIN)/python -m tests.benchmarks.persistence

museum: model .environments/tensorflow_savedmodel/.ready ## Modelle von heute in jedem Format ins Museum legen
	@$(BIN)/python -m examples.pickle_model.museum add tests/artefacts/$$(date +%Y-%m)

figures: model ## Zahlen, Modell und Schema des Preisrechners für die Seiten übernehmen
	@$(BIN)/python tools/figures.py

NPM_CI := npm ci --ignore-scripts --no-audit --no-fund --silent

# Das Rechenwerk des Preisrechners. Ohne npm oder Netz baut das Buch trotzdem, und die Seite
# sagt, was ihr fehlt; nur in CI bricht der Bau dann ab (book/_ext/price_form.py).
node_modules/onnxruntime-web: package-lock.json
	@if command -v npm >/dev/null; then $(NPM_CI) --omit=dev --fetch-retries=0 && touch $@ node_modules/reveal.js || true; fi

node_modules/reveal.js: package-lock.json
	@command -v npm >/dev/null || { echo "npm fehlt. Abhilfe: sudo apt install npm"; exit 1; }
	@$(NPM_CI) --omit=dev && touch $@ node_modules/onnxruntime-web

node_modules/lighthouse: package-lock.json
	@command -v npm >/dev/null || { echo "npm fehlt. Abhilfe: sudo apt install npm"; exit 1; }
	@$(NPM_CI) && touch $@ node_modules/onnxruntime-web node_modules/reveal.js

lighthouse: .venv/.checks book node_modules/lighthouse ## Alle Seiten mit Lighthouse messen, gut 20 Minuten (wenige: PAGES="book/index search")
	@$(BIN)/python tools/lighthouse.py $(PAGES)

latest: .venv/.all $(WHEELS) ## Alle Kapitel mit den neuesten Versionen prüfen (eines: NOTEBOOKS="notebooks/x.ipynb")
	@$(BIN)/python tools/latest.py $(NOTEBOOKS)

epub: .venv/.checks ## Das ganze Buch als EPUB nach _build/forms, geprüft mit epubcheck
	@rm -rf _build/forms/_build
	@$(BIN)/jupyter-book build . --path-output _build/forms --builder custom --custom-builder epub \
		-W -n --keep-going --quiet
	@$(BIN)/python tools/print_book.py epub

pdf: epub ## Das ganze Buch als PDF nach _build/forms, gesetzt aus den Seiten des EPUB
	@$(BIN)/python tools/print_book.py pdf

soak: .venv/.checks model $(ENVIRONMENTS) $(KERAS) $(WHEELS) ## Jeden Dienst zehn Minuten mit gemischten und kaputten Fragen belasten (SOAK_SECONDS=600, SERVICES="flask_service")
	@OMP_WAIT_POLICY=passive PYTHONPATH=.:tests:notebooks:tools $(BIN)/python tests/soak.py $(SERVICES)

shuffle: .venv/.checks book model $(ENVIRONMENTS) $(KERAS) $(WHEELS) $(CLASSROOM) ## Tests und Notebooks dreimal in zufälliger Reihenfolge ausführen
	@OMP_WAIT_POLICY=passive $(BIN)/python tools/shuffle.py

audit: .venv/.checks ## Locks mit bekannten Lücken abgleichen, die Geschichte nach Secrets durchsuchen
	@$(BIN)/python tools/find_secrets.py --history
	@$(BIN)/python tools/audit.py

sbom: .venv/.checks model $(WHEELS) $(CLASSROOM) ## Stücklisten je Lock und, mit Docker, je Image nach _build/sbom schreiben
	@if docker info >/dev/null 2>&1; then \
	  for module in docker_image.build compose_stack.registry classroom_hub.build; do \
	    $(BIN)/python -m examples.$$module >/dev/null || true; done; fi
	@$(BIN)/python tools/sbom.py

lock: .venv/.book ## Die Locks aus den *.in auflösen; was passt, bleibt (alles neu: UPGRADE=--upgrade)
	@for layer in "" -book -grading -checks; do \
	  $(BIN)/uv pip compile $(UPGRADE) --quiet --universal --python-version 3.11.5 --no-header --no-annotate \
	    --override tools/overrides.txt $$([ -z "$$layer" ] || echo -c requirements.txt) \
	    -o requirements$$layer.txt requirements$$layer.in || exit 1; done
# Was ein Kapitel nicht im Stand des gemeinsamen Locks haben kann, nennt es nach „# Eigene Stände:“.
	@for folder in $(dir $(wildcard examples/*/requirements.in)); do \
	  own=$$(sed -n 's/^# Eigene Stände: //p' $$folder/requirements.in | tr ' ' '|'); \
	  grep -vE "^($${own:--})" requirements.txt > .venv/constraints.txt; \
	  $(BIN)/uv pip compile $(UPGRADE) --quiet --universal --python-version 3.11.5 --no-header --no-annotate \
	    -c .venv/constraints.txt -o $$folder/requirements.txt $$folder/requirements.in || exit 1; done
	@cd examples/docker_image && for name in serving sklearn; do \
	  "$(CURDIR)/$(BIN)/uv" pip compile $(UPGRADE) --quiet --python-version 3.11 --python-platform linux \
	    --no-header --no-annotate --generate-hashes \
	    -c ../../requirements.txt -o $$name.txt $$name.in || exit 1; done
	@cd examples/classroom_hub && "$(CURDIR)/$(BIN)/uv" pip compile $(UPGRADE) --quiet --python-version 3.11.5 \
	  --python-platform linux --no-header --no-annotate --generate-hashes \
	  -c ../../requirements.txt -c requirements.txt -o image.txt image.in
	@cd examples/compose_stack/registry && "$(CURDIR)/$(BIN)/uv" pip compile $(UPGRADE) --quiet --python-version 3.11 \
	  --python-platform linux --no-header --no-annotate --generate-hashes --override overrides.txt \
	  -c ../../../requirements.txt -o serving.txt serving.in

clean: ## Alles Erzeugte löschen
	@rm -rf .venv .environments _build node_modules .ruff_cache .pytest_cache .hypothesis \
	  examples/*/artifacts $(addsuffix *.whl,$(wildcard examples/*/wheels/ examples/*/*/wheels/)) \
	  examples/*/wheels/.complete examples/*/*/wheels/.complete

# Eine Stufe gilt als eingerichtet, solange ihr Lock nicht jünger ist.
.venv/.book: requirements-book.txt tools/setup.py
	@[ -n "$(PYTHON)" ] || { echo "Python fehlt. Abhilfe: sudo apt install python3 python3-venv"; exit 1; }
	@$(PYTHON) tools/setup.py book && touch $@

.venv/.all: requirements.txt .venv/.book
	@$(PYTHON) tools/setup.py all && touch $@

.venv/.grading: requirements-grading.txt .venv/.all
	@$(PYTHON) tools/setup.py grading && touch $@

.venv/.checks: requirements-checks.txt requirements-grading.txt .venv/.all
	@$(PYTHON) tools/setup.py checks && touch $@

.environments/%/.ready: examples/%/requirements.txt | .venv/.book
	@$(PYTHON) tools/setup.py $* && touch $@
