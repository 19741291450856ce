#!/usr/bin/env python3
"""Values of statistics that SciPy and NumPy compute, for tests/unit/test_core_stats.c.

Prints tests/unit/stats_reference.h (needs Debian's python3-scipy).  usage: stats.py >FILE
"""
import numpy as np
from scipy import optimize, stats

print("/* Made by tests/reference/stats.py (SciPy). */")
print("static const struct { unsigned k, n; double low, high; } wilson[] = {")
for k, n in [(0, 10), (3, 10), (10, 10), (77, 150), (1, 1), (499, 1000), (0, 1)]:
    ci = stats.binomtest(k, n).proportion_ci(0.95, "wilson")
    print(f"    {{{k}, {n}, {ci.low:.15g}, {ci.high:.15g}}},")
print("};\nstatic const struct { unsigned b, c; double p; } mcnemar[] = {")
for b, c in [(0, 0), (1, 0), (5, 0), (3, 9), (9, 3), (40, 60), (200, 150), (7, 7)]:
    p = stats.binomtest(b, b + c).pvalue if b + c else 1
    print(f"    {{{b}, {c}, {p:.15g}}},")
print("};\nstatic const struct { double q, value; } quantiles[] = {")
data = np.array([0.5, 1, 1, 2.25, 3, 7, 11])
for q in [0, 0.025, 0.25, 0.5, 0.6, 0.975, 1]:
    print(f"    {{{q}, {np.quantile(data, q):.15g}}},")
print("};")
k = np.array([1, 2, 4, 8, 16, 32.0])
cover = np.array([0.40, 0.53, 0.63, 0.71, 0.78, 0.83])
b, ln_a = np.polyfit(np.log(k), np.log(-np.log(cover)), 1)
a = -np.exp(ln_a)
rms = np.sqrt(np.mean((np.exp(a * k**b) - cover) ** 2))
print(f"static const double coverage_a = {a:.15g}, coverage_b = {b:.15g}, coverage_rms = {rms:.15g};")
n = np.array([1, 2, 4, 8, 16, 32.0])
f = np.array([0.19, 0.31, 0.48, 0.66, 0.75, 0.77])
(fm, p), _ = optimize.curve_fit(lambda x, fm, p: fm * (1 - (1 - p) ** x), n, f, (0.8, 0.2), ftol=1e-15, xtol=1e-15)
rms = np.sqrt(np.mean((fm * (1 - (1 - p) ** n) - f) ** 2))
print(f"static const double saturation_f = {fm:.15g}, saturation_p = {p:.15g}, saturation_rms = {rms:.15g};")
d = np.array([1, 0, 0, -1, 1, 0, 0.5, 0, 1, 0, 0, -0.5, 1, 0, 0, 0, 1, -1, 0, 0])
ci = stats.bootstrap((d,), np.mean, n_resamples=200000, method="percentile", random_state=1).confidence_interval
print(f"static const double bootstrap_low = {ci.low:.6g}, bootstrap_high = {ci.high:.6g}; /* +- .02 by chance */")
