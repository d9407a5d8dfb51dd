"""``python -m avexp.cli``."""

from avexp.cli import main

main()
