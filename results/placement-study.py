#!/usr/bin/env python3
"""Measures what the way of waiting and the placement of threads do to the answer.

    results/placement-study.py --out results/placement-study.json

Every combination of pacing, pinning, service threads and idle cores is one `otelbench run` of none, its placebo and full;
the combinations are played in an order drawn from the seed. What tells them apart is how wide the interval between two
equal arms is, what the service itself costs per request, and what full adds to it. Of every run --out keeps the resolved
scenario, the arms and the differences, and of every slice the CPU time by role; the table goes to stdout as Markdown.
Run it from a clone.
"""

import argparse
import itertools
import json
import pathlib
import random
import subprocess
import sys
import tempfile

FACTORS = {
    "pacing": ["timer", "spin", "coarse"],
    "pinning": ["none", "apart"],
    "service-threads": ["1", "2"],
    "idle-cores": ["sleep", "awake"],
}
# A run that distrusts itself still says what it measured.
OTELBENCH_INVALID = 4


def main():
    args = arguments()
    build = ["cargo", "build", "--release", "--locked", "--bin", "otelbench", "--message-format=json"]
    built = subprocess.run(build, stdout=subprocess.PIPE, check=True).stdout.splitlines()
    program = next(a["executable"] for a in map(json.loads, built) if a.get("executable"))

    combinations = [dict(zip(FACTORS, levels)) for levels in itertools.product(*FACTORS.values())]
    random.Random(args.seed).shuffle(combinations)
    runs = []
    for number, combination in enumerate(combinations, 1):
        print(f"{number} of {len(combinations)}: {' '.join(combination.values())}", file=sys.stderr)
        runs.append({**combination, **play(program, combination, args)})
        options = {name: value for name, value in vars(args).items() if name != "out"}
        pathlib.Path(args.out).write_text(document(options, runs))
    print_table(runs)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rps", default="10000")
    parser.add_argument("--rounds", default="8", help="of each run")
    parser.add_argument("--slice", default="500ms", help="two of them per round and arm")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", default="results/placement-study.json")
    return parser.parse_args()


def play(program, combination, args):
    command = ["run", "--mode", "full", "--rps", args.rps, "--rounds", args.rounds, "--slices", "2"]
    command += ["--slice", args.slice, "--warmup", "300ms", "--seed", str(args.seed), "--quiet", "--format", "json"]
    command += [word for factor, level in combination.items() for word in (f"--{factor}", level)]
    with tempfile.TemporaryDirectory() as folder:
        played = subprocess.run([program, *command, "--out", f"{folder}/run.json"], capture_output=True, text=True)
        if played.returncode not in (0, OTELBENCH_INVALID):
            sys.exit(f"otelbench ended with {played.returncode}: {played.stderr}")
    document = json.loads(played.stdout)
    slices = [
        {key: record[key] for key in ("round", "slice", "arm", "cpu_us", "lateness_us", "validity")}
        | {"completed": record["load"]["completed"]}
        for record in document["records"]
    ]
    kept = {key: document[key] for key in ("tool", "machine", "scenario", "rounds", "validity", "arms", "deltas")}
    return {"command": command, **kept, "slices": slices}


def document(options, runs):
    """As JSON, a run a line."""
    lines = ",\n".join(json.dumps(run, separators=(",", ":")) for run in runs)
    return f'{{"options":{json.dumps(options)},"runs":[\n{lines}\n]}}\n'


def print_table(runs):
    columns = ["A/A half-width, %", "none, µs/req", "full − none, µs/req", "p50, µs", "p99, µs", "late p99, µs", "void"]
    print(f"| {' | '.join([*FACTORS, *columns])} |")
    print(f"|{' --- |' * len(FACTORS)}{' ---: |' * len(columns)}")
    for run in sorted(runs, key=half_width):
        print(f"| {' | '.join([*(run[factor] for factor in FACTORS), *cells(run)])} |")


def half_width(run):
    """Of the 95 % interval of the ratio of two equal arms; without an answer, the widest."""
    relative = delta(run, "placebo").get("relative")
    return (relative["high"] - relative["low"]) / 2 if relative else float("inf")


def delta(run, arm):
    found = (d for d in run["deltas"] if d["arm"] == arm and d["metric"] == "cpu_us_per_request")
    return next(found, {})


def cells(run):
    none = next(arm for arm in run["arms"] if arm["role"] == "baseline")
    full = delta(run, "full").get("absolute")
    late = sorted(s["lateness_us"]["p99"] for s in run["slices"] if s["lateness_us"]["p99"] is not None)
    return [
        f"{half_width(run) * 100:.1f}",
        number(none["cpu_us_per_request"]["total"]),
        f"{full['estimate']:.1f} ({full['low']:.1f}–{full['high']:.1f})" if full else "–",
        number(none["response_us"]["p50"]),
        number(none["response_us"]["p99"]),
        number(late[len(late) // 2] if late else None),
        f"{len(run['rounds']['void'])} of {run['rounds']['planned']}",
    ]


def number(value):
    return "–" if value is None else f"{value:.1f}" if value < 100 else f"{value:.0f}"


if __name__ == "__main__":
    main()
