"""python -m tests.mutation [MODULE …] — every mutant of these modules; what survives, and why.

Each module has a copy of the tree in `.mutation/`, where mutmut mutates it, so that nothing of the
checkout changes and the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent.parent
SURVIVORS = Path(__file__).with_name("survivors.toml")
#: The tests that know each module best. Of these, mutmut runs those that reach the mutated
#: function, the fastest first, up to one that fails.
TESTS: dict[str, tuple[str, ...]] = {
    "affine": ("affine", "fixed_slope", "gradients"),
    "dual": (
        "dual",
        *("fixed_slope", "ascent", "solution", "intermediate", "soundness"),
        *("adversarial_numerics", "certify"),
    ),
    "fixed_slope": ("fixed_slope", "soundness"),
    "box": (
        *("box", "sets", "norm_balls", "relaxation", "soundness", "solution"),
        "adversarial_numerics",
    ),
    "interior_point": ("interior_point", "solution"),
    "relaxation": (
        *("relaxation", "ranges", "solution", "intermediate", "memory"),
        *("rejection", "certify"),
    ),
}
#: Lines that are left as they are: what errors say.
MESSAGES = (r'^\s*f?"', r"\braise \w+")
#: A mutant that takes this many times as long as its tests did, and seconds more, loops forever.
PATIENCE, SECONDS = 4, 10
OTHER_FOLDERS = ("lp_reference", "benchmarks", "docs", "examples")
#: mutmut's words for mutants that some test noticed.
NOTICED = ("killed", "timeout", "segfault")


@dataclass(frozen=True)
class Mutant:
    """One that no test noticed. was, now: the line before and after."""

    function: str
    was: str
    now: str


def file_of(module: str) -> Path:
    """Where a module stands, in whatever wing."""
    found = (ROOT / "bounds").rglob(f"{module}.py")
    (path,) = (path for path in found if "checker" not in path.parts)
    return path.relative_to(ROOT)


def prepare(module: str, folder: Path) -> None:
    """A copy of the checkout as it is, with mutmut's settings; its results of before stay."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    found = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, found.split("\0")):
        source, target = ROOT / name, folder / name
        if source.is_file():  # git lists what was deleted, too
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    texts = sorted(path.name for path in ROOT.iterdir() if path.suffix in (".md", ".txt", ".toml"))
    settings = {
        "source_paths": ["bounds"],
        "only_mutate": [str(file_of(module))],
        "also_copy": [*OTHER_FOLDERS, *texts, "Makefile"],
        "pytest_add_cli_args": ["-x", "-q", "-p", "no:cacheprovider"],
        "pytest_add_cli_args_test_selection": [
            str(path.relative_to(ROOT))
            for name in TESTS[module]
            for path in sorted((ROOT / "tests").rglob(f"test_{name}.py"))
        ],
        "do_not_mutate_patterns": [*MESSAGES],
        "process_isolation": ["forkserver"],  # torch has threads, which no fork may have
        "timeout_multiplier": [str(PATIENCE)],
        "timeout_constant": [str(SECONDS)],
    }
    with (folder / "setup.cfg").open("a") as stream:
        stream.write("\n[mutmut]\n")
        for key, values in settings.items():
            stream.write(
                f"{key} = " + "\n    ".join(["", *values] if values[1:] else values) + "\n"
            )


def mutmut(folder: Path, *arguments: str, quiet: bool = True) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "HYPOTHESIS_PROFILE": "mutation",
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    command = [sys.executable, "-m", "mutmut", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=quiet, text=True)


def results(folder: Path) -> tuple[Counter[str], dict[str, Mutant]]:
    """How many mutants have each status, and those that no test noticed, by mutmut's names."""
    counts: Counter[str] = Counter()
    unnoticed: dict[str, Mutant] = {}
    for line in mutmut(folder, "results", "--all", "true").stdout.splitlines():
        name, _, status = line.strip().rpartition(": ")
        counts[status] += 1
        if status not in (*NOTICED, "not checked"):
            shown = mutmut(folder, "show", name).stdout
            lines = [re.findall(rf"^[{sign}] *(.*)$", shown, re.MULTILINE) for sign in "-+"]
            was, now = (
                " ".join(part for part in side if part[:2] not in ("--", "++")) for side in lines
            )
            # bounds.dual.dual.x_value__mutmut_3, or of a class bounds.dual.dual.xǁPointǁvalue__…
            function = re.sub(r"\.x[_ǁ]", ".", re.sub(r"__mutmut_\d+$", "", name))
            unnoticed[name] = Mutant(function.replace("ǁ", "."), was, now)
    return counts, unnoticed


def explained() -> dict[Mutant, str]:
    """The survivors that are written down, with the reason."""
    entries = tomllib.loads(SURVIVORS.read_text()).get("survivor", [])
    return {Mutant(e["function"], e["was"], e["now"]): e["why"] for e in entries}


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.mutation", allow_abbrev=False)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"of {', '.join(TESTS)}")
    parser.add_argument("--children", type=int, default=2, help="processes; default %(default)s")
    parser.add_argument("--folder", type=Path, default=ROOT / ".mutation")
    options = parser.parse_args()
    if unknown := [name for name in options.modules if name not in TESTS]:
        parser.error(f"no tests are listed for {', '.join(unknown)}")
    console, reasons, failed = Console(highlight=False), explained(), False
    table = Table("module", "mutants", "noticed", "explained", "unexplained", "not checked")
    for module in options.modules or TESTS:
        folder = options.folder.resolve() / module
        prepare(module, folder)
        console.print(f"{module}: {', '.join(TESTS[module])}")
        run = ("run", "--max-children", str(options.children))
        # Whatever survived before is tried again: there may be a test for it now.
        before = [name for name, mutant in results(folder)[1].items() if mutant not in reasons]
        ended = [mutmut(folder, *run, quiet=False)]
        if before:
            ended.append(mutmut(folder, *run, *before, quiet=False))
        counts, unnoticed = results(folder)
        new = [mutant for mutant in unnoticed.values() if mutant not in reasons]
        for mutant in new:
            console.print(
                f"\nunexplained in {mutant.function}:\n  - {mutant.was}\n  + {mutant.now}"
            )
        noticed = sum(counts[status] for status in NOTICED)
        table.add_row(
            module,
            str(counts.total()),
            str(noticed),
            str(len(unnoticed) - len(new)),
            str(len(new)),
            str(counts["not checked"]),
        )
        failed |= bool(new or any(e.returncode for e in ended) or counts["not checked"])
    console.print(table)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
