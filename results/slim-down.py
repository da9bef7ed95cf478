#!/usr/bin/env python3
"""Rewrites stored results as `otelbench` writes them today: without the histograms that no analysis reads, one record a line.

    results/slim-down.py results/*.json

Every other key and every digit stays as it is. `--keep-histograms` changes the layout alone.
"""

import argparse
import json
import pathlib


class Number(str):
    """A number as it is written."""


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("files", nargs="+", type=pathlib.Path)
    parser.add_argument("--keep-histograms", action="store_true")
    args = parser.parse_args()
    for path in args.files:
        document = json.loads(path.read_text(), parse_float=Number, parse_int=Number)
        if not args.keep_histograms:
            leave_out_histograms(document.get("scenario", {}), document.get("records", []))
            for trial in document.get("evidence", {}).get("trials", {}).values():
                leave_out_histograms(trial["header"]["scenario"], trial["slices"])
        path.write_text(layout(document) + "\n")


def leave_out_histograms(scenario, records):
    """But those of response times where a round has several slices of an arm, of which no quantiles are stored."""
    keep = ["response_ns"] if "slo" not in scenario and int(scenario.get("slices", 1)) > 1 else []
    for record in records:
        kept = {key: record.get("hdr", {})[key] for key in keep}
        record["hdr"] = kept
        if not kept:
            del record["hdr"]


def layout(value, indent=""):
    """A line for each key, and for each element of an array."""
    inner = indent + "  "
    if isinstance(value, dict) and value:
        lines = (f"{inner}{compact(key)}: {layout(part, inner)}" for key, part in value.items())
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(value, list) and value:
        return "[\n" + ",\n".join(inner + compact(element) for element in value) + f"\n{indent}]"
    return compact(value)


def compact(value):
    if isinstance(value, Number):
        return value
    if isinstance(value, dict):
        return "{" + ",".join(f"{compact(key)}:{compact(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(compact, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    main()
