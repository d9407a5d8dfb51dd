#!/bin/sh
# What avexp needs of Debian or Ubuntu, beyond Python >= 3.11 and make: venv support. Run with sudo.
set -eu
apt-get update
apt-get install --yes --no-install-recommends python3-venv python3-pip git
