"""python -m tests.soak [--seeds N] [--first K] [--examples N] [PYTEST'S ARGUMENTS]

Each drawn test with many examples, once for each seed. What fails is shrunk and kept in the corpus
(`tests.soak.corpus`), from which the default run fails until it is mended.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

from tests.soak import corpus

#: pytest's status where tests failed.
FAILED = 1


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tests.soak", allow_abbrev=False)
    parser.add_argument("--seeds", type=int, default=1, help="how many; %(default)s")
    parser.add_argument("--first", type=int, default=0, help="the first seed; %(default)s")
    parser.add_argument("--examples", type=int, default=1000, help="of each test; %(default)s")
    options, others = parser.parse_known_args(arguments)
    environment = os.environ | {
        "HYPOTHESIS_PROFILE": "soak",
        "SOAK_EXAMPLES": str(options.examples),
    }
    failed = []
    for seed in range(options.first, options.first + options.seeds):
        print(f"seed {seed}", flush=True)
        status = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-p", "tests.soak.plugin", "-n", "auto"),
                *(f"--hypothesis-seed={seed}", "-p", "no:cacheprovider", *others),
            ],
            env=environment,
            cwd=corpus.TESTS.parent,
        ).returncode
        if status not in (0, FAILED):
            return status
        if status == FAILED:
            failed.append(seed)
    if failed:
        print(f"failures of seeds {failed} are in {corpus.FOLDER}: mend them, and commit both")
    return FAILED if failed else 0


if __name__ == "__main__":
    sys.exit(main())
