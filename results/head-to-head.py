#!/usr/bin/env python3
"""Applies the rules by which other tools call a difference to the short runs of a self-test, of which the truth is known.

    otelbench selftest --aa 100 --out results/selftest.json
    results/head-to-head.py results/selftest.json

Of each run every rule is given the same figures: the CPU time per request that each round measured of the baseline and of another
arm. A difference that is called against the placebo is a false alarm; one called against an injected cost is found.

- benchstat: Mann and Whitney's U test, two-sided, p < 0.05 (golang.org/x/perf/benchmath, AssumeNothing and DefaultThresholds).
- criterion: 100 000 resamples of both samples mixed, of which Welch's t is as extreme as the one seen with p < 0.05; and both ends
  of the 95 % percentile interval of the relative change of the mean, from 317 resamples of each sample and all their pairs,
  beyond the noise threshold of 1 % (bheisler.github.io/criterion.rs/book/analysis.html, "Comparison"; as done by criterion 0.8.2
  in src/analysis/compare.rs, src/stats/univariate and src/report.rs, with its default settings).
- github-action-benchmark: the figure is more than alert-threshold of the one before, 200 % unless set; only what is worse alerts
  (github.com/benchmark-action/github-action-benchmark, "alert-threshold"). The figure is the mean of the rounds.
- otelbench: `resolved` as stored: paired t on the log-ratios and on the differences, cross-checked by the sign-flip test.

In `interleaved` all rules are given what they do not ask for: both arms relaunched in every round, in random order. In `one after the
other` the baseline is of one run and the other arm of the next, as where one build is benchmarked after another; what pairs
rounds has nothing to say there. Intervals are Clopper and Pearson's, 95 %.
"""

import argparse
import json
import math
import platform

import numpy
import scipy
from scipy import stats

RESAMPLES = 100_000
ALPHA = 0.05


def benchstat(base, other):
    return stats.mannwhitneyu(base, other, alternative="two-sided").pvalue < ALPHA


def welch_t(a, b):
    variance = a.var(axis=-1, ddof=1) / a.shape[-1] + b.var(axis=-1, ddof=1) / b.shape[-1]
    with numpy.errstate(divide="ignore", invalid="ignore"):
        return (a.mean(axis=-1) - b.mean(axis=-1)) / numpy.sqrt(variance)


def criterion(base, other, rng, noise=0.01):
    n = len(other)
    mixed = rng.choice(numpy.concatenate([other, base]), (RESAMPLES, n + len(base)))
    t = welch_t(mixed[:, :n], mixed[:, n:])
    # A resample of one value over and over has no t, and criterion leaves it out.
    t = t[numpy.isfinite(t)]
    below = numpy.count_nonzero(t < welch_t(other, base))
    if 2 * min(below, len(t) - below) / len(t) >= ALPHA:
        return False
    each = math.ceil(math.sqrt(RESAMPLES))
    means = [rng.choice(side, (each, len(side))).mean(axis=1) for side in (other, base)]
    low, high = numpy.quantile(numpy.divide.outer(*means) - 1, [ALPHA / 2, 1 - ALPHA / 2])
    return low > noise or high < -noise


def alert(base, other, threshold):
    return other.mean() / base.mean() > threshold


def rules(rng):
    return {
        "benchstat": benchstat,
        "criterion": lambda base, other: criterion(base, other, rng),
        "github-action-benchmark, 105 %": lambda base, other: alert(base, other, 1.05),
        "github-action-benchmark, 110 %": lambda base, other: alert(base, other, 1.10),
        "github-action-benchmark, 200 %": lambda base, other: alert(base, other, 2.00),
    }


def arm(run, name):
    return next(arm for arm in run["arms"] if arm["name"] == name)


def values(run, name):
    return numpy.array(arm(run, name)["cpu_us_per_request"])


def share(calls):
    if not calls:
        return "–"
    interval = stats.binomtest(sum(calls), len(calls)).proportion_ci(0.95, "exact")
    return f"{sum(calls)} of {len(calls)} ({interval.low * 100:.0f}–{interval.high * 100:.0f} %)"


def line(*cells):
    print(f"| {' | '.join(cells)} |")


parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
parser.add_argument("result", help="what `otelbench selftest --aa N` has stored")
parser.add_argument("--injected", nargs="+", default=["+3%"], help="the arms whose cost is to be found")
parser.add_argument("--seed", type=int, default=1, help="of the bootstraps")
args = parser.parse_args()

with open(args.result) as file:
    document = json.load(file)
runs = [run for run in document.get("selftest", {}).get("repeats", []) if "invalid" not in run]
if not runs:
    parser.error(f"{args.result} holds no valid short run; make some with otelbench selftest --aa 100")
names = [arm["name"] for arm in runs[0]["arms"]]
for name in args.injected:
    if name not in names[1:]:
        parser.error(f"--injected {name}: there is no such arm; there are {', '.join(names[1:])}")
base, columns = names[0], ["placebo", *args.injected]
rng = numpy.random.default_rng(args.seed)

print(f"{len(runs)} runs of {len(values(runs[0], base))} rounds, otelbench {document['tool']['version']}")
print(f"Python {platform.python_version()}, numpy {numpy.__version__}, scipy {scipy.__version__}, seed {args.seed}\n")
line("rule", "order", "false alarms (A/A)", *(f"{name} found" for name in args.injected))
line("---", "---", *("---:" for _ in columns))
stored = {name: [arm(run, name)["delta"]["resolved"] for run in runs] for name in columns}
line("otelbench", "interleaved", *(share(stored[name]) for name in columns))
orders = {
    "interleaved": [(run, run) for run in runs],
    "one after the other": list(zip(runs[::2], runs[1::2])),
}
for order, pairs in orders.items():
    for rule, differs in rules(rng).items():
        called = {name: [bool(differs(values(a, base), values(b, name))) for a, b in pairs] for name in columns}
        line(rule, order, *(share(called[name]) for name in columns))
