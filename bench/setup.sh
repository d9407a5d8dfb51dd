#!/bin/sh
# A venv for the peers of bench/loader.py: sh bench/setup.sh FOLDER [PYTHON]; then python bench/loader.py --peers FOLDER.
# TORCH is what pip is told to install as torch. A peer that cannot be installed is told, and becomes a row that says so.
set -eu
here=$(dirname "$0")
venv=$1
python=${2:-python3}
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
pip="$venv/bin/pip install --quiet --disable-pip-version-check"
$pip ${TORCH:-torch==2.13.0}
$pip -r "$here/peers.txt"
grep -v '^#' "$here/peers-no-deps.txt" | while read -r peer; do
    $pip --no-deps "$peer" || echo "bench: $peer cannot be installed here" >&2
done
