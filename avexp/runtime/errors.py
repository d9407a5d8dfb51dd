"""The one error of the runtime: place, what is wrong, remedy, in one line. (The runtime imports no other room.)"""


class BundleError(Exception):
    """A bundle that cannot be used as it is, or frames that do not fit it.

    Args:
        where: file or argument.
        what: what is wrong with it.
        remedy: what to do about it.
    """

    def __init__(self, where: str, what: str, remedy: str = "") -> None:
        self.where, self.what, self.remedy = where, what, remedy
        super().__init__("{}: {}{}".format(where, what, "; " + remedy if remedy else ""))
