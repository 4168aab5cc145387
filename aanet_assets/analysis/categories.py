"""The categories of stage 2: limits on the two elbow strengths, and who exceeds them."""

import statistics
from collections.abc import Sequence
from typing import NamedTuple

from aanet_assets.analysis.quality import Elbows
from aanet_assets.settings import SelectionSettings


class Limits(NamedTuple):
    """Strengths among the clusters that pass the filters, and what each category asks for."""

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

    Standard deviations have ddof 1. Means are exact, so that the mean of equal strengths is that
    strength and none of them lies above it.
    """
    if len(passed) < 2:
        return None
    recon = [e.recon_strength for e in passed]
    arch = [e.arch_strength for e in passed]
    recon_mean, recon_sd = statistics.mean(recon), statistics.stdev(recon)
    arch_mean, arch_sd = statistics.mean(arch), statistics.stdev(arch)
    return Limits(
        recon_mean=recon_mean,
        recon_sd=recon_sd,
        recon_max=max(recon),
        arch_mean=arch_mean,
        arch_sd=arch_sd,
        arch_max=max(arch),
        a_recon=recon_mean + settings.a_sd * recon_sd,
        a_arch=arch_mean + settings.a_sd * arch_sd,
        b_recon=recon_mean + settings.b_sd * recon_sd,
        c_arch=arch_mean + settings.c_sd * arch_sd,
        d_recon=recon_mean + settings.d_sd * recon_sd,
        d_arch=arch_mean + settings.d_sd * arch_sd,
    )


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
    if recon > limits.a_recon and arch > limits.a_arch:
        return "A", (
            f"both strengths stand out: recon {recon:.5g} > {limits.a_recon:.5g}, "
            f"archetypal {arch:.5g} > {limits.a_arch:.5g}"
        )
    if elbows.k_differential == 0 and recon > limits.d_recon and arch > limits.d_arch:
        return "D", (
            f"the elbows agree and both strengths are high: recon {recon:.5g} > "
            f"{limits.d_recon:.5g}, archetypal {arch:.5g} > {limits.d_arch:.5g}"
        )
    if recon > limits.b_recon:
        return "B", f"recon strength alone stands out: {recon:.5g} > {limits.b_recon:.5g}"
    if arch > limits.c_arch:
        return "C", f"archetypal strength alone stands out: {arch:.5g} > {limits.c_arch:.5g}"
    return None, (
        f"passes every filter, reaches no category: recon strength {recon:.5g} "
        f"(A > {limits.a_recon:.5g}, B > {limits.b_recon:.5g}, D > {limits.d_recon:.5g}), "
        f"archetypal strength {arch:.5g} (A > {limits.a_arch:.5g}, C > {limits.c_arch:.5g}, "
        f"D > {limits.d_arch:.5g}), k_differential {elbows.k_differential} (D needs 0)"
    )
