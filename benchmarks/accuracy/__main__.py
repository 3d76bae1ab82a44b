"""ResNet-20 quantized by edgeqwt and by its peers: same images, same evaluation, one table."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from accuracy import environments, jobs
from accuracy.inputs import prepare
from accuracy.plan import METHODS, chosen
from accuracy.table import markdown, rows


def main() -> None:
    """Runs what has not run yet, then writes the table."""
    options = parse()
    try:
        methods = chosen(METHODS, options.only, options.long)
    except ValueError as unknown:
        sys.exit(f"error: {unknown}")
    inputs = prepare(environments.cache() / "inputs")
    for number, method in enumerate(() if options.table else methods, 1):
        print(f"[{number}/{len(methods)}] {method.label}", file=sys.stderr, flush=True)
        record = jobs.measured(method, inputs, options.limit * 60, options.retry)
        if record.failure:
            print(f"    {record.failure}", file=sys.stderr, flush=True)
    found = ((method, jobs.known(method, inputs)) for method in METHODS)
    records = {method.label: record for method, record in found if record is not None}
    text = markdown(rows(METHODS, records))
    print(text, end="")
    if options.output is not None:
        options.output.write_text(text)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m accuracy", description=__doc__)
    parser.add_argument(
        "only", nargs="*", metavar="PEER[/METHOD]", help="only these, such as aimet or sony_mct/PTQ; all by default"
    )
    parser.add_argument("--long", action="store_true", help="also the methods that take more than some minutes")
    parser.add_argument("--limit", type=float, default=120, metavar="MIN", help="minutes for one method (%(default)s)")
    parser.add_argument("--retry", action="store_true", help="run again what failed before")
    parser.add_argument("--table", action="store_true", help="run nothing: only the table of what has been measured")
    parser.add_argument("--output", type=Path, metavar="FILE.md", help="write the table there too")
    return parser.parse_args()


if __name__ == "__main__":
    main()
