"""The search."""

from avexp.jobs.ledger import Ledger


class Search:
    """Later."""

    def __init__(self, ledger: Ledger) -> None:
        raise NotImplementedError
