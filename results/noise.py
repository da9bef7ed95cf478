#!/usr/bin/env python3
"""What other ways to spend the time would say of the two equal arms of an A/A run: results/noise.py results/aa.json

The run launches both arms in every round and plays their slices in an order drawn anew. Its slices are taken here

- as the program takes them: a value per round and arm, paired;
- as those of a fixed order: in each pass of each round what was played first against what was played second, whichever arm it
  was. That is what a run reports that always plays A before B, with A and B the same;
- as those of one launch per arm: the slices of the two launches of one round, each slice a value, as many as fit in the time of
  the whole run. By its own reckoning the interval is that of as many slices of this spread; whether it excludes zero is asked
  of the launches of each round;
- one after the other: the baseline of the first half of the rounds against the placebo of the second, not paired.
"""

import json
import math
import sys

import numpy
from scipy import stats

with open(sys.argv[1]) as file:
    run = json.load(file)
arms = [arm["name"] for arm in run["scenario"]["arms"]]
assert len(arms) == 2, "an A/A run has a baseline and its placebo"
rounds, slices = run["plan"]["rounds"], run["plan"]["slices"]

played = [dict() for _ in range(rounds)]
order = [[] for _ in range(rounds)]
for record in run["records"]:
    cost = math.log((record["cpu_us"]["request"] + record["cpu_us"]["exporter"]) / record["load"]["completed"])
    played[record["round"]].setdefault(record["arm"], []).append(cost)
    order[record["round"]].append(cost)


def interval(differences):
    n = len(differences)
    reach = stats.t.ppf(0.975, n - 1) * numpy.std(differences, ddof=1) / math.sqrt(n)
    return numpy.mean(differences), reach


def percent(log):
    return f"{math.expm1(log) * 100:+.2f} %"


def row(name, mean, reach, alarms):
    print(f"| {name} | {percent(mean)} | ±{math.expm1(reach) * 100:.2f} % | {alarms} |")


def found(mean, reach):
    return "none" if abs(mean) <= reach else "**a difference**"


print(f"{rounds} rounds of {slices} × {run['scenario']['slice']} per arm\n")
print("| the same slices taken as | difference | 95 % interval | which finds |")
print("| --- | ---: | ---: | --- |")

means = [{arm: numpy.mean([math.exp(cost) for cost in of[arm]]) for arm in arms} for of in played]
paired = [math.log(of[arms[1]] / of[arms[0]]) for of in means]
row("rounds, paired (otelbench)", *interval(paired), found(*interval(paired)))

passes = [cost[first] - cost[first + 1] for cost in order for first in range(0, len(cost), 2)]
row("a fixed order", *interval(passes), found(*interval(passes)))

half = rounds // 2
first = [math.log(of[arms[0]]) for of in means[:half]]
second = [math.log(of[arms[1]]) for of in means[half:]]
test = stats.ttest_ind(second, first, equal_var=False)
low, high = test.confidence_interval(0.95)
row("one after the other", (low + high) / 2, (high - low) / 2, found((low + high) / 2, (high - low) / 2))

# Spread of slices within a launch, and of launches.
within = numpy.mean([numpy.var(of[arm], ddof=1) for of in played for arm in arms])
many = rounds * slices
reach = stats.t.ppf(0.975, 2 * many - 2) * math.sqrt(2 * within / many)
alarms = sum(abs(difference) > reach for difference in paired)
row("one launch per arm", numpy.std(paired, ddof=1), reach, f"a difference between the launches of {alarms} rounds of {rounds}")
print("\nThe difference of one launch per arm is the standard deviation of that between the two launches of a round.")
