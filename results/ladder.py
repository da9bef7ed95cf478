#!/usr/bin/env python3
"""The ladder from `full` to `tuned`, as a Markdown table, from a result document.

    results/ladder.py results/ladder.json

One row per arm, in the order of the scenario: what it adds to the baseline, what it saves against the row above, and its
overhead as a share of the first treatment's. Every interval is of 95 % over the rounds, paired: differences by Student's t,
the share by Fieller's theorem (Fieller 1954), as it is a ratio of two differences to one baseline.
"""

import json
import math
import re
import statistics
import sys

from scipy.stats import t as student


def per_round(document):
    """CPU per request of each arm in each valid round, as the program computes it: exporters' periodic work at its own rate."""
    void = set(document["rounds"]["void"])
    number, unit = re.fullmatch(r"([0-9]+)(ms|s|m)", document["scenario"]["slice"]).groups()
    slice_us = int(number) * {"ms": 1e3, "s": 1e6, "m": 6e7}[unit]
    sums = {}
    for record in document["records"]:
        if record["round"] in void:
            continue
        answered = record["load"]["completed"] + record.get("mix", {}).get("refused_as_asked", 0)
        cpu = record["cpu_us"]["request"] + record["cpu_us"]["exporter"]
        periodic = record["periodic"]
        if periodic and periodic["exports"]:
            cpu -= periodic["cpu_us"] * (1 - slice_us / periodic["interval_us"] / periodic["exports"])
        spent, requests = sums.setdefault(record["arm"], {}).get(record["round"], (0.0, 0))
        sums[record["arm"]][record["round"]] = (spent + cpu, requests + answered)
    return {arm: [spent / requests for _, (spent, requests) in sorted(rounds.items())] for arm, rounds in sums.items()}


def interval(values):
    half = student.ppf(0.975, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    mean = statistics.mean(values)
    return mean, mean - half, mean + half


def fieller(above, below):
    """The ratio of two paired means and its interval; None where the denominator may be nothing."""
    n = len(above)
    a, b = statistics.mean(above), statistics.mean(below)
    t2 = student.ppf(0.975, n - 1) ** 2
    vaa, vbb = statistics.variance(above) / n, statistics.variance(below) / n
    vab = statistics.covariance(above, below) / n
    g = t2 * vbb / b**2
    if g >= 1:
        return None
    centre = a / b - g * vab / vbb
    half = math.sqrt(t2) / b * math.sqrt(vaa - 2 * a / b * vab + (a / b) ** 2 * vbb - g * (vaa - vab**2 / vbb))
    return a / b, (centre - half) / (1 - g), (centre + half) / (1 - g)


def main():
    document = json.load(open(sys.argv[1]))
    arms = [arm for arm in document["scenario"]["arms"] if arm["role"] == "treatment"]
    summaries = {arm["name"]: arm for arm in document["arms"]}
    cpu = per_round(document)
    base = cpu[document["scenario"]["arms"][0]["name"]]
    over = {name: [value - zero for value, zero in zip(values, base)] for name, values in cpu.items()}
    # The program's own figures, which this must agree with.
    for delta in document["deltas"]:
        if delta["metric"] == "cpu_us_per_request":
            assert abs(interval(over[delta["arm"]])[0] - delta["absolute"]["estimate"]) < 1e-6, delta["arm"]
    first = arms[0]["name"]
    print("| step | adds, µs/req | saves against the row above | share of the first | allocs/req | bytes/req | spans lost |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    before = None
    for arm in arms:
        name = arm["name"]
        adds = "{:.1f} ({:.1f}–{:.1f})".format(*interval(over[name]))
        saves = "–"
        if before:
            saves = "{:.1f} ({:.1f} … {:.1f})".format(*interval([b - n for b, n in zip(over[before], over[name])]))
        share = fieller(over[name], over[first])
        share = "1" if name == first else "{:.2f} ({:.2f}–{:.2f})".format(*share) if share else "–"
        telemetry = summaries[name]["telemetry"]
        spans, metrics = telemetry["spans"], telemetry["metrics"]
        orders = metrics["requests_completed"] if metrics else summaries[name]["requests"]
        size = telemetry["wire_bytes"] / orders if telemetry["wire_bytes"] else 0
        allocations = summaries[name]["allocations_per_request"]
        lost = spans["ended"] - spans["received"]
        print(f"| `{name}` | {adds} | {saves} | {share} | {allocations:.1f} | {size:.0f} | {lost} of {spans['ended']} |")
        before = name


main()
