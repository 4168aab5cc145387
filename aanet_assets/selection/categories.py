"""The categories of stage 2: limits on the two elbow strengths, and who exceeds them."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from aanet_assets.selection.quality import Elbows
from aanet_assets.selection.wording import compared, said
from aanet_assets.study.settings import SelectionSettings


class Limits(NamedTuple):
    """Strengths among the clusters that pass the filters, and what each category asks for.

    NaN for a loss of which fewer than two strengths count.
    """

    recon_mean: float
    recon_sd: float
    recon_max: float
    arch_mean: float
    arch_sd: float
    arch_max: float
    a_recon: float
    a_arch: float
    b_recon: float
    c_arch: float
    d_recon: float
    d_arch: float


def limits_of(passed: Sequence[Elbows], settings: SelectionSettings) -> Limits | None:
    """Limits from the clusters that pass the filters; None for fewer than two of them.

    Strengths that do not count are NaN, as `quality.counted` leaves them, and are passed over.
    Standard deviations have ddof 1. Means are exact, so that the mean of equal strengths is that
    strength and none of them lies above it.
    """
    if len(passed) < 2:
        return None
    recon_mean, recon_sd, recon_max = _moments([e.recon_strength for e in passed])
    arch_mean, arch_sd, arch_max = _moments([e.arch_strength for e in passed])
    return Limits(
        recon_mean=recon_mean,
        recon_sd=recon_sd,
        recon_max=recon_max,
        arch_mean=arch_mean,
        arch_sd=arch_sd,
        arch_max=arch_max,
        a_recon=recon_mean + settings.a_sd * recon_sd,
        a_arch=arch_mean + settings.a_sd * arch_sd,
        b_recon=recon_mean + settings.b_sd * recon_sd,
        c_arch=arch_mean + settings.c_sd * arch_sd,
        d_recon=recon_mean + settings.d_sd * recon_sd,
        d_arch=arch_mean + settings.d_sd * arch_sd,
    )


def _moments(strengths: Sequence[float]) -> tuple[float, float, float]:
    """Mean, standard deviation and largest of the strengths that count; NaN below two of them."""
    counting = [s for s in strengths if not math.isnan(s)]
    if len(counting) < 2:
        return math.nan, math.nan, math.nan
    return statistics.mean(counting), statistics.stdev(counting), max(counting)


def categorise(elbows: Elbows, limits: Limits | None) -> tuple[str | None, str]:
    """Category of a cluster that passes the filters, or None, and the reason in words.

    The first that holds of: A, both strengths above their limit; D, both above theirs and equal
    elbows; B, the reconstruction strength above its limit; C, the archetypal strength.
    """
    if limits is None:
        return None, (
            "passes every filter, but no other cluster does: categories need a standard deviation, "
            "and so 2 clusters"
        )
    recon, arch = elbows.recon_strength, elbows.arch_strength

    def above(strength: float, limit: float) -> str:
        return " > ".join(compared(strength, limit))

    if recon > limits.a_recon and arch > limits.a_arch:
        return "A", (
            f"both strengths stand out: recon {above(recon, limits.a_recon)}, "
            f"archetypal {above(arch, limits.a_arch)}"
        )
    if elbows.k_differential == 0 and recon > limits.d_recon and arch > limits.d_arch:
        return "D", (
            f"the elbows agree and both strengths are high: recon {above(recon, limits.d_recon)}, "
            f"archetypal {above(arch, limits.d_arch)}"
        )
    if recon > limits.b_recon:
        return "B", f"recon strength alone stands out: {above(recon, limits.b_recon)}"
    if arch > limits.c_arch:
        return "C", f"archetypal strength alone stands out: {above(arch, limits.c_arch)}"
    return None, (
        f"passes every filter, reaches no category: recon strength {said(recon)} "
        f"(A > {said(limits.a_recon)}, B > {said(limits.b_recon)}, D > {said(limits.d_recon)}), "
        f"archetypal strength {said(arch)} (A > {said(limits.a_arch)}, C > {said(limits.c_arch)}, "
        f"D > {said(limits.d_arch)}), k_differential {elbows.k_differential} (D needs 0)"
    )
