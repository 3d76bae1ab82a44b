"""The program: `edgeqwt`, or `python -m edgeqwt`. Ctrl-C ends it quietly while its modules are imported, too."""

from __future__ import annotations

import sys


def main() -> None:
    """The console script."""
    try:
        from edgeqwt import cli
    except KeyboardInterrupt:
        print("edgeqwt: interrupted; nothing was written", file=sys.stderr)
        sys.exit(130)
    cli.main()


if __name__ == "__main__":
    main()
