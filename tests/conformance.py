"""python -m tests.conformance [--solver COMMAND] — the VNN-LIB standard's suite against `bounds`.

Runs `vnntest` of the package vnnlib-satisfactory in a folder of its own. Passes where no test
fails, is suspect or errs, none is skipped but those of `SKIPPED`, and the command line conforms.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

#: What is not piecewise linear of what depends on the input; and isomorphic networks, of which the
#: suite has some of other types than their models, which the standard's own parser refuses.
SKIPPED = {
    *("Cast", "Div", "Equal", "Mul", "Pow", "Sigmoid", "Softmax", "Where"),
    *("POLY", "MINET"),
}
COMPLIANCE = ("opset", "vnnlib", "serialise-assignments")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    own = Path(sys.executable).with_name("bounds")
    parser.add_argument("--solver", default=str(own), help="default: %(default)s")
    parser.add_argument("--timeout", type=float, default=5.0, help="seconds a test; %(default)s")
    options = parser.parse_args()
    suite = [sys.executable, "-m", "vnntest"]
    failed = [
        name
        for name in COMPLIANCE
        if subprocess.run(
            [*suite, "compliance", name, "--solver", options.solver], check=False
        ).returncode
    ]
    with TemporaryDirectory() as folder:
        command = [*suite, "run", "--solver", options.solver, "--timeout", str(options.timeout)]
        subprocess.run(command, cwd=folder, check=False)  # the report says what failed
        path = Path(folder) / ".vnnlib-satisfactory" / "report.json"
        report = json.loads(path.read_text())
    failed += [one["test_id"] for one in report["results"] if one["outcome"] != "pass"]
    failed += [one["test_id"] for one in report["skipped"] if one["missing_op"] not in SKIPPED]
    print(f"not as they should be: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
