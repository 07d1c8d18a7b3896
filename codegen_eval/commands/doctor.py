"""`codealign doctor`: what this machine allows the sandbox, tried by doing."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence


def main(argv: Sequence[str]) -> int:
    """Print the report.

    Returns:
        0 when strict isolation (`full`) works, else 1.
    """
    parser = argparse.ArgumentParser(prog="codealign doctor", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    options = parser.parse_args(list(argv))

    from sandbox import SandboxError, doctor

    try:
        found = doctor.report()
    except SandboxError as error:
        print(f"codealign doctor: {error}", file=sys.stderr)
        return 1
    print(json.dumps(found.to_json(), indent=2, sort_keys=True) if options.json else doctor.render(found))
    return 0 if found.level == "full" else 1
