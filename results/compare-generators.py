#!/usr/bin/env python3
"""Plays HTTP load generators in turns against one server, with the server's own arrival stamps as judge.

    results/compare-generators.py --max --out results/generators.json

What a generator says of itself cannot tell whether it sent on time, so examples/judge.rs stamps every arrival. Each
round starts a fresh judge and plays every generator once, in an order drawn from the seed; a generator's CPU time is
what the system accounts to its process, start-up included. Only of otelbench-awake it is what otelbench says of its
generator's threads: the threads that keep its cores awake run where no other wants to. Every number goes to --out, medians
as Markdown to stdout. Run it from a clone, with the generators on PATH. Where they and the judge run is left to the
scheduler. The tool `bare` is examples/bare_loop.rs: the least that waiting for each arrival costs.
"""

import argparse
import collections
import contextlib
import json
import os
import pathlib
import platform
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import urllib.parse
import urllib.request

BODY = '{"user":"u-1","items":["book"],"quantity":1,"amount":9.5}'
TYPE = "application/json"
# wrk and wrk2 take a method and a body from a script only.
SCRIPT = f"wrk.method = 'POST'\nwrk.body = '{BODY}'\nwrk.headers['content-type'] = '{TYPE}'\n"
HOW_TO_GET = {
    "wrk": "the package wrk of Debian and others",
    "wrk2": "build it from its sources, https://github.com/giltene/wrk2, and put its `wrk` on PATH as `wrk2`",
    "oha": "cargo install oha --locked",
}
WAYS = {
    "timer": ["--pacing", "timer"],
    "coarse": ["--pacing", "coarse"],
    "spin": ["--pacing", "spin"],
    "awake": ["--pacing", "timer", "--idle-cores", "awake"],
}
TOOLS = ["wrk", "wrk2", "oha", "bare", *(f"otelbench-{way}" for way in WAYS)]
MAX_CONNECTIONS = 32
# It distrusts its own numbers; they are still what it says.
OTELBENCH_INVALID = 4


def main():
    args = arguments()
    paced = [tool for tool in args.tools if tool != "wrk"]  # wrk knows no rate.
    # wrk2 needs a rate, and so does the bare loop.
    full_speed = sorted({program_of(tool) for tool in args.tools} - {"wrk2", "bare"}) if args.max else []
    wanted = {program_of(tool) for tool in paced + full_speed}
    if missing := [tool for tool in HOW_TO_GET if tool in wanted and not shutil.which(tool)]:
        fail("\n".join(f"{tool} is not on PATH: {HOW_TO_GET[tool]}; or leave it out of --tools" for tool in missing))
    programs = build() | {tool: shutil.which(tool) for tool in wanted & HOW_TO_GET.keys()}
    tables = {
        f"{args.rate} requests/s, {args.connections} connections": (paced, args.rate, args.connections),
        f"full speed, {MAX_CONNECTIONS} connections": (full_speed, None, MAX_CONNECTIONS),
    }
    turns = [
        (table, tool, rate, connections)
        for table, (tools, rate, connections) in tables.items()
        for tool in tools
    ]
    if not turns:
        fail("nothing to play: wrk needs --max, all others run at --rate")

    order = random.Random(args.seed)
    plays = []
    for number in range(1, args.rounds + 1):
        order.shuffle(turns)
        with judge(programs["judge"]) as url:
            for table, tool, rate, connections in turns:
                print(f"round {number} of {args.rounds}: {tool}, {table}", file=sys.stderr)
                played = play(programs, tool, url, rate, args.seconds, connections)
                plays.append({"table": table, "round": number, "tool": tool, **played})

    document = {
        "options": {name: value for name, value in vars(args).items() if name != "out"},
        "machine": machine(),
        "versions": {tool: version(programs[tool]) for tool in sorted(wanted - {"bare"})},
        "plays": plays,
    }
    pathlib.Path(args.out).write_text(json.dumps(document, indent=1) + "\n")
    for table, (_, rate, _) in tables.items():
        print_table(table, rate, [played for played in plays if played["table"] == table])


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rate", type=int, default=10_000, help="requests per second")
    parser.add_argument("--seconds", type=int, default=8, help="of each play; the judge lets the first one pass")
    parser.add_argument("--connections", type=int, default=16, help="when playing at --rate")
    parser.add_argument("--tools", type=lambda names: names.split(","), default=TOOLS, help=",".join(TOOLS))
    parser.add_argument("--max", action="store_true", help=f"also at full speed, over {MAX_CONNECTIONS} connections")
    parser.add_argument("--seed", type=int, default=1, help="of the order of play")
    parser.add_argument("--out", default="results/generators.json")
    args = parser.parse_args()
    if unknown := set(args.tools) - set(TOOLS):
        parser.error(f"--tools: there is no {', '.join(sorted(unknown))}; there are {', '.join(TOOLS)}")
    if args.seconds < 2 or min(args.rounds, args.rate, args.connections) < 1:
        parser.error("--seconds must be 2 or more; --rounds, --rate and --connections 1 or more")
    return args


def program_of(tool):
    return tool.partition("-")[0]


def fail(message):
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def quiet(*command):
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)


def build():
    """Builds what is ours; where it is, by name."""
    command = ["cargo", "build", "--release", "--locked", "--bin", "otelbench", "--example", "judge"]
    command += ["--example", "bare_loop"]
    command += ["--message-format", "json-render-diagnostics"]
    built = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    artifacts = map(json.loads, built.stdout.splitlines())
    executables = {a["target"]["name"]: a["executable"] for a in artifacts if a.get("executable")}
    return executables | {"bare": executables["bare_loop"]}


@contextlib.contextmanager
def judge(program):
    """A judge of its own for each round: launches of one program differ, and so the spread tells by how much."""
    with subprocess.Popen([program, "--addr", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True) as server:
        try:
            yield f"http://{server.stdout.readline().strip()}"
        finally:
            server.kill()


def play(programs, tool, url, rate, seconds, connections):
    """Plays one generator; what it, the system and the judge say of it."""
    name, _, way = tool.partition("-")
    command = COMMANDS[name](f"{url}/order", rate, seconds, connections, way)
    with tempfile.TemporaryDirectory() as work, open(f"{work}/out", "w+") as out, open(f"{work}/err", "w+") as err:
        pathlib.Path(work, "order.lua").write_text(SCRIPT)
        urllib.request.urlopen(f"{url}/reset", data=b"").close()
        child = subprocess.Popen([programs[name], *command], stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=work)
        overdue = threading.Timer(3 * seconds + 30, child.kill)
        overdue.start()
        _, status, usage = os.wait4(child.pid, 0)
        overdue.cancel()
        child.returncode = os.waitstatus_to_exitcode(status)  # Or Popen would wait for it once more.
        with urllib.request.urlopen(f"{url}/stats" + (f"?rate={rate}" if rate else "")) as answer:
            judged = json.load(answer)
        out.seek(0), err.seek(0)
        said, complaint = out.read(), err.read()
    if child.returncode not in ([0, OTELBENCH_INVALID] if name == "otelbench" else [0]):
        fail(f"{tool} ended with {child.returncode}: {complaint or said}")
    if not judged["count"]:
        fail(f"{tool} sent nothing that arrived: {complaint or said}")
    own = REPORTS[name](said)
    if abs(own["completed"] - judged["count"]) > connections:
        print(f"warning: {tool} completed {own['completed']} requests, {judged['count']} arrived", file=sys.stderr)
    process_cpu_us = (usage.ru_utime + usage.ru_stime) * 1e6
    generator_cpu_us = own["generator_cpu_us"] if tool == "otelbench-awake" else process_cpu_us
    return {
        "command": [name, *command],
        "exit": child.returncode,
        "generator_cpu_us_per_request": generator_cpu_us / judged["count"],
        "process_cpu_us_per_request": process_cpu_us / judged["count"],
        "judge": judged,
        "own": own,
    }


def wrk_command(url, rate, seconds, connections, _way):
    pace = [f"-R{rate}"] if rate else []
    return ["-t1", f"-c{connections}", f"-d{seconds}s", *pace, "--latency", "-s", "order.lua", url]


def oha_command(url, rate, seconds, connections, _way):
    pace = ["-q", str(rate), "--latency-correction"] if rate else []
    request = ["-m", "POST", "-T", TYPE, "-d", BODY, url]
    return ["--no-tui", "--output-format", "json", "-z", f"{seconds}s", "-c", str(connections), *pace, *request]


def bare_command(url, rate, seconds, connections, _way):
    addr = urllib.parse.urlsplit(url).netloc
    return [addr, "--rps", str(rate), "--seconds", str(seconds), "--connections", str(connections)]


def otelbench_command(url, rate, seconds, connections, way):
    load = ["load", url, "--rps", str(rate or "max"), "--duration", f"{seconds}s", "--connections", str(connections)]
    request = ["--method", "POST", "--header", f"content-type: {TYPE}", "--body", BODY]
    return [*load, *WAYS.get(way, []), *request, "--format", "json"]


def wrk_report(said):
    """wrk rounds to three digits or so, in whatever unit fits; wrk2's percentiles are those of the corrected times."""
    us = {"us": 1, "ms": 1e3, "s": 1e6, "m": 6e7}
    found = re.findall(r"^ +(50|99)(?:\.000)?% +([\d.]+)(us|ms|s|m)$", said, re.MULTILINE)
    return {
        "completed": int(re.search(r"(\d+) requests in", said)[1]),
        "response_us": {f"p{percent}": float(value) * us[unit] for percent, value, unit in found},
    }


def oha_report(said):
    report = json.loads(said)
    return {
        "completed": sum(report["statusCodeDistribution"].values()),
        "response_us": {name: report["latencyPercentiles"][name] * 1e6 for name in ("p50", "p99")},
    }


def otelbench_report(said):
    report = json.loads(said)
    kept = ("response_us", "lateness_us", "rate", "generator_cpu_us")
    return {"completed": report["load"]["completed"], **{key: report[key] for key in kept}}


COMMANDS = {
    "wrk": wrk_command,
    "wrk2": wrk_command,
    "oha": oha_command,
    "bare": bare_command,
    "otelbench": otelbench_command,
}
REPORTS = {
    "wrk": wrk_report,
    "wrk2": wrk_report,
    "oha": oha_report,
    "bare": otelbench_report,
    "otelbench": otelbench_report,
}


def version(program):
    """Its first line when asked; wrk answers to -v only, with its usage behind."""
    asked = quiet(program, "--version")
    asked = asked if asked.returncode == 0 else quiet(program, "-v")
    return (asked.stdout + asked.stderr).split("\n", 1)[0]


def machine():
    cpu = re.search(r"^model name\s*: (.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    cores = len(os.sched_getaffinity(0))
    return {"cpu_model": cpu and cpu[1], "cores": cores, "kernel": f"{platform.system()} {platform.release()}"}


def print_table(title, rate, plays):
    """Medians over the rounds, least and most in brackets; nothing where nothing was played."""
    if not plays:
        return
    columns = {
        "requests/s": lambda p: p["judge"]["per_second"],
        "generator CPU, µs/req": lambda p: p["generator_cpu_us_per_request"],
        "server CPU, µs/req": lambda p: p["judge"]["cpu_us_per_request"],
        "arrivals late p50, µs": lambda p: p["judge"]["lateness_us"]["p50"],
        "arrivals late p99, µs": lambda p: p["judge"]["lateness_us"]["p99"],
        "gaps under 20 µs, %": lambda p: p["judge"]["gaps_below"]["20_us"] * 100,
        "own lateness p99, µs": lambda p: p["own"].get("lateness_us", {}).get("p99"),
        "own response p50, µs": lambda p: p["own"]["response_us"]["p50"],
        "own response p99, µs": lambda p: p["own"]["response_us"]["p99"],
    }
    if rate is None:
        columns = {name: of for name, of in columns.items() if "late" not in name and "gaps" not in name}
    by_tool = collections.defaultdict(list)
    for played in plays:
        by_tool[played["tool"]].append(played)
    print(f"\n{title}:\n")
    print(f"| generator | {' | '.join(columns)} |")
    print(f"| --- |{' ---: |' * len(columns)}")
    for tool in sorted(by_tool):
        cells = (cell([of(played) for played in by_tool[tool]]) for of in columns.values())
        print(f"| {tool} | {' | '.join(cells)} |")


def cell(values):
    if None in values:
        return "–"
    of_rounds = statistics.median(values), min(values), max(values)
    median, least, most = (f"{value:.0f}" if value >= 100 else f"{value:.1f}" for value in of_rounds)
    return f"{median} ({least}–{most})"


if __name__ == "__main__":
    main()
