"""The gate: whether a plan may replace the checkpoint it came from, and why, in words."""

from collections.abc import Mapping
from dataclasses import dataclass

from avexp.core.files import digest_json
from avexp.metrics.bootstrap import Interval


@dataclass(frozen=True)
class Verdict:
    """What the gate says of a plan.

    Attributes:
        passed: it may be used.
        reasons: one line a KPI.
    """

    passed: bool
    reasons: list[str]

    def as_dict(self) -> dict[str, object]:
        """For the manifest."""
        return {"passed": self.passed, "reasons": self.reasons}


def judge_losses(losses: Mapping[str, Interval], loss_max: float) -> Verdict:
    """A plan passes if no headline KPI loses more than a share of the checkpoint's.

    The estimate over all frames decides. The paired bootstrap's interval says how sure that is: it is told whether these
    frames suffice to prove it.

    Args:
        losses: relative loss by KPI, with its interval.
        loss_max: share that may be lost.
    """
    reasons = []
    passed = bool(losses)
    for name, loss in losses.items():
        fine = loss.loss <= loss_max
        passed = passed and fine
        sure = "proven" if loss.high <= loss_max else "refuted" if loss.low > loss_max else "not proven on these frames"
        reasons.append(
            f"{name}: loses {100 * loss.loss:+.2f} % (95 % interval {100 * loss.low:+.2f} to {100 * loss.high:+.2f}), "
            f"{'within' if fine else 'more than'} the {100 * loss_max:g} % allowed; {sure}"
        )
    return Verdict(passed, reasons or ["no headline KPI could be judged"])


def digest_of(verdict: Verdict) -> str:
    """Digest of a verdict."""
    return digest_json(verdict.as_dict())
