#!/usr/bin/env python3
"""Holds the memory that `otelbench load` needs for a long stretch against what it needs for a short one.

    results/memory.py --out results/memory.json

The peak resident memory is the system's own account of each process (`ru_maxrss`). Run it from a clone.
"""

import argparse
import contextlib
import json
import os
import pathlib
import subprocess

parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
parser.add_argument("--requests", type=int, nargs="+", default=[200_000, 2_000_000, 20_000_000])
parser.add_argument("--out", default="results/memory.json")
args = parser.parse_args()

build = ["cargo", "build", "--release", "--locked", "--bin", "otelbench", "--message-format=json"]
built = subprocess.run(build, stdout=subprocess.PIPE, check=True).stdout.splitlines()
program = next(a["executable"] for a in map(json.loads, built) if a.get("executable"))


@contextlib.contextmanager
def service():
    command = [program, "serve", "--mode", "bare", "--addr", "127.0.0.1:0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            yield server.stderr.readline().split("http://")[1].split(";")[0].split()[0]
        finally:
            server.kill()


def load(addr, seconds):
    duration = f"{round(seconds * 1000)}ms"
    command = ["load", f"http://{addr}/healthz", "--rps", "max", "--duration", duration, "--format", "json"]
    with subprocess.Popen([program, *command], stdout=subprocess.PIPE) as child:
        said = child.stdout.read()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    played = json.loads(said)["load"]
    return {"command": ["otelbench", *command], "exit": child.returncode, "load": played, "peak_rss_kib": usage.ru_maxrss}


with service() as addr:
    per_second = load(addr, 2)["load"]["completed"] / 2
    runs = [load(addr, requests / per_second * 1.05) for requests in args.requests]
pathlib.Path(args.out).write_text(json.dumps({"runs": runs}, indent=1) + "\n")
print("| requests | peak RSS, KiB | more than the first, KiB |\n| ---: | ---: | ---: |")
for run in runs:
    more = run["peak_rss_kib"] - runs[0]["peak_rss_kib"]
    print(f"| {run['load']['completed']} | {run['peak_rss_kib']} | {more} |")
