"""What a device must reach for an evaluation to pass."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from numbers import Real

from squeezeedge.errors import GateError, UsageError, check_type
from squeezeedge.evaluation.reports import DeviceReport

__all__ = ["Gates"]


@dataclass(frozen=True)
class Gates:
    """What a device must reach; ``None`` or ``False``: not asked for.

    Attributes:
        max_drop: most points of top-1 accuracy below fp32, 0 to 100.
        min_agreement: least percentage of images with fp32's class, 0 to 100.
        require_bit_exact: every class sum equals the oracle's.

    Raises:
        UsageError: a limit is not a number from 0 to 100, so that it is always or never met.
    """

    max_drop: float | None = None
    min_agreement: float | None = None
    require_bit_exact: bool = False

    def __post_init__(self) -> None:
        for option, value in (("`max_drop`", self.max_drop), ("`min_agreement`", self.min_agreement)):
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, Real):
                raise UsageError(f"{option} is {value!r}; it must be a number, or None")
            if not 0 <= value <= 100:  # as nan is not
                raise UsageError(f"{option} {value:g}: must be a number from 0 to 100")
        check_type("require_bit_exact", self.require_bit_exact, bool, "True or False")

    def check_judgeable(self, name: str, labelled: bool, fp32: bool) -> None:
        """Refuse gates that could not be judged, before any work.

        Args:
            name: of the images, for the message.
            labelled: whether these have labels.
            fp32: whether the float network is known.

        Raises:
            UsageError: a gate needs what is not known; names its option.
        """
        for option, value in (("`max_drop`", self.max_drop), ("`min_agreement`", self.min_agreement)):
            if value is not None and not fp32:
                raise UsageError(
                    f"{option}: fp32 is not known here; give the weights that this was made of (`weights`)"
                )
        if self.max_drop is not None and not labelled:
            raise UsageError(f"`max_drop`: {name} has no labels (class = subfolder) to measure accuracy with")

    def check(self, reports: Iterable[DeviceReport]) -> None:
        """Raise if a report misses a gate.

        Raises:
            GateError: names every device, figure and gate that failed, or could not be judged.
        """
        failed = [text for report in reports for text in self._failures(report)]
        if failed:
            raise GateError("; ".join(failed))

    def _failures(self, report: DeviceReport) -> Iterator[str]:
        if self.require_bit_exact and not report.bit_exact:
            yield f"{report.device}: {report.differing_sums} class sums differ from the oracle"
        if self.min_agreement is not None:
            if report.agreement is None:
                yield f"{report.device}: agreement unknown without a float network"
            elif not math.isfinite(report.agreement):
                yield f"{report.device}: agreement is {report.agreement}, not a number that could be judged"
            elif report.agreement < self.min_agreement:
                yield f"{report.device}: agreement {report.agreement:.2f} % < {self.min_agreement:g} %"
        if self.max_drop is not None:
            if report.top1 is None or report.fp32_top1 is None:
                yield f"{report.device}: accuracy drop unknown without labels and a float network"
            elif not math.isfinite(report.fp32_top1 - report.top1):
                yield f"{report.device}: top-1 is {report.top1}, fp32's {report.fp32_top1}: not to be judged"
            elif report.fp32_top1 - report.top1 > self.max_drop:
                drop = report.fp32_top1 - report.top1
                yield f"{report.device}: top-1 is {drop:.2f} points below fp32, {self.max_drop:g} allowed"
