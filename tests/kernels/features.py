#!/usr/bin/env python3
"""Makes the table of what ran where, of the consoles that `run` has left.

    tests/kernels/run all
    tests/kernels/features.py                 prints the table
    tests/kernels/features.py --update        puts it into docs/KERNELS.md

    console ──► tally op PIPE 4 0 ──► | `PIPE` | 6.16 | · | · | · | 4 | .. |

A number says how many tests that need the thing ran on that kernel; a dot, that they were refused
with "needs Linux x.y". Exit status: 0; 1 when a console has no tally.
"""

import re
import sys
from pathlib import Path

sys.dont_write_bytecode = True  # The source tree stays as it was.

# pylint: disable=wrong-import-position
import binaries
import machines
import packages

KERNELS = Path(__file__).resolve().parents[2] / "docs" / "KERNELS.md"
HEADING = "### What ran where\n"
KINDS = {
    "op": "operation",
    "register": "register call",
    "setup": "set-up flag",
    "enter": "enter flag",
    "feature": "feature",
}
LINE = re.compile(r"^tally (\w+) (\w+) (\d+) (\d+)\s*$", re.MULTILINE)


def main():
    if sys.argv[1:] not in ([], ["--update"]):
        print(__doc__, file=sys.stderr)
        return 2
    series = list(packages.read_pins(machines.X86_64))
    tallies = {version: read(version) for version in series}
    missing = [version for version, tally in tallies.items() if not tally]
    if missing:
        print(f"no tally of {', '.join(missing)}: tests/kernels/run all",
              file=sys.stderr)
        return 1
    text = table(tallies)
    if sys.argv[1:]:
        update(text)
    else:
        print(text, end="")
    return 0


def read(version):
    """{(kind, name): tests that ran}, the best of root and of an ordinary user."""
    log = binaries.TARGET_FOLDER / "logs" / f"{version}.log"
    tally = {}
    for kind, name, ran, _ in LINE.findall(log.read_text() if log.is_file() else ""):
        tally[kind, name] = max(int(ran), tally.get((kind, name), 0))
    return tally


def table(tallies):
    lines = [f"| | | {' | '.join(tallies)} |", f"|---|---|{'--:|' * len(tallies)}"]
    order = list(KINDS)
    things = sorted({thing for tally in tallies.values() for thing in tally},
                    key=lambda thing: (order.index(thing[0]), thing[1]))
    for kind, name in things:
        cells = [str(tally.get((kind, name)) or "·") for tally in tallies.values()]
        lines.append(f"| `{name}` | {KINDS[kind]} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def update(text):
    before, heading, after = KERNELS.read_text().partition(HEADING)
    if not heading:
        sys.exit(f"{KERNELS} has no line {HEADING!r}")
    # The table is the only one in its section, and the last thing there.
    prose, _, rest = after.partition("\n|")
    rest = re.split(r"\n(?!\|)", rest, maxsplit=1)
    KERNELS.write_text(before + heading + prose + "\n" + text + (rest[1] if len(rest) > 1 else ""))


if __name__ == "__main__":
    sys.exit(main())
