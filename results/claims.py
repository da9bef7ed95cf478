#!/usr/bin/env python3
"""The verdicts of a claims result, a row each, as Markdown:

    otelbench report results/claims.json --format json | results/claims.py
"""

import json
import sys

claims = json.load(sys.stdin)["claims"]
print("| | claim | verdict | because |")
print("| --- | --- | --- | --- |")
for claim in claims:
    print(f"| `{claim['id']}` | {claim['statement']} | **{claim['verdict']}** | {claim['reason']} |")
