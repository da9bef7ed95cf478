"""Turns what a terminal showed into a picture: ANSI text on stdin, SVG on stdout.

    pip install rich==15.0.0
    script -qec 'otelbench report results/full.json' /dev/null | python3 results/terminal.py > results/full.svg
"""

import io
import re
import sys

from rich.console import Console
from rich.text import Text

text = Text.from_ansi(sys.stdin.read().replace("\r\n", "\n").rstrip("\n"))
console = Console(width=102, record=True, file=io.StringIO(), force_terminal=True)
console.print(text)
svg = console.export_svg(title="otelbench run --rps 10000 --mode full")
# A picture loads nothing from elsewhere: whatever monospaced font is at hand will do.
print(re.sub(r"@font-face \{.*?\}\n", "", svg, flags=re.DOTALL))
