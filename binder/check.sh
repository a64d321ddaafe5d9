#!/usr/bin/env bash
# Runs postBuild and start as Binder would, in a virtual environment of its own and with empty caches. Minutes.
#
#     binder/check.sh [FOLDER]         FOLDER is made; a temporary one otherwise
#
# The environment sees the packages of the Python that runs this (CHECK_PYTHON, python3), and the workbench is installed
# on top of them. With WORKBENCH_DEFAULT_WHEEL set the model needs no network.
set -euo pipefail
cd "$(dirname "$0")/.."
folder="${1:-$(mktemp -d)}"
python="${CHECK_PYTHON:-python3}"
mkdir -p "$folder/home"
"$python" -m venv --system-site-packages "$folder/venv"
# A venv made from within another sees the base Python's packages only: add those of the one that was named.
"$python" -c 'import site; print("\n".join(site.getsitepackages()))' \
  >"$(echo "$folder"/venv/lib/python*/site-packages)/outer.pth"
export PATH="$folder/venv/bin:$PATH" HOME="$folder/home" XDG_CACHE_HOME="$folder/home/.cache"
# What JupyterLab loads into the browser lies beside those packages.
export JUPYTER_PATH="$("$python" -c 'import sys; print(sys.prefix)')/share/jupyter"
unset WORKBENCH_CACHE NUMBA_CACHE_DIR PYTHONPATH
pip install --quiet --no-deps -e .
time binder/postBuild
binder/start bash -c 'test "$OMP_NUM_THREADS" = 1 && HF_HUB_OFFLINE=1 workbench lesson --help >/dev/null'
binder/start python - <<'END'
import workbench
lm = workbench.load(dtype="fit")
print(lm)
print(workbench.generate(workbench.compile(lm), "The capital of France is", max_new_tokens=8).text)
END
du -sh "$folder/home/.cache/sparse-workbench"/*
echo "binder/check.sh: all steps ran in $folder"
