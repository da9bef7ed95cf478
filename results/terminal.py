"""Turns what a terminal showed into a picture: ANSI text on stdin, SVG on stdout.

    pip install rich==14.1.0
    script -qec 'otelbench report results/full.json' /dev/null | python3 results/terminal.py > results/full.svg
"""

import io
import sys

from rich.console import Console
from rich.text import Text

text = Text.from_ansi(sys.stdin.read().replace("\r\n", "\n").rstrip("\n"))
console = Console(width=102, record=True, file=io.StringIO(), force_terminal=True)
console.print(text)
print(console.export_svg(title="otelbench run --rps 10000 --mode full"))
