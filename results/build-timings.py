#!/usr/bin/env python3
"""How long each part of the last build in a target directory took, longest first.

    results/build-timings.py target/release

Cargo leaves the time at which it started each compiler and the time at which that was done, so this needs no build of its own
and no --timings. Parts that were built at the same time share the cores.
"""

import sys
from pathlib import Path

parts = []
for folder in Path(sys.argv[1], ".fingerprint").iterdir():
    started = folder / "invoked.timestamp"
    done = [file for file in folder.iterdir() if not file.suffix and not file.name.startswith(("dep-", "output-"))]
    if started.exists() and done:
        began, ended = started.stat().st_mtime, max(file.stat().st_mtime for file in done)
        # Such as `bin-otelbench`, `lib-tokio` or `test-integration-test-counts`.
        parts.append((began, ended, done[0].name))

start = min(began for began, _, _ in parts)
print(f"{'part':<36} {'from':>7} {'to':>7} {'seconds':>8}")
for began, ended, part in sorted(parts, key=lambda part: part[0] - part[1]):
    if ended - began >= 2.0:
        print(f"{part:<36} {began - start:7.1f} {ended - start:7.1f} {ended - began:8.1f}")
