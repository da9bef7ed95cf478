#!/usr/bin/env python3
"""The verdicts of a claims result, a row each, as Markdown: results/claims.py results/claims.json"""

import json
import sys

with open(sys.argv[1]) as file:
    claims = json.load(file)["claims"]
print("| | claim | verdict | because |")
print("| --- | --- | --- | --- |")
for claim in claims:
    print(f"| `{claim['id']}` | {claim['statement']} | **{claim['verdict']}** | {claim['reason']} |")
