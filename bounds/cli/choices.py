"""What several commands let one choose from."""

from __future__ import annotations

import argparse
from typing import Any, TypeAlias

#: What a parser adds commands to.
Commands: TypeAlias = "argparse._SubParsersAction[Any]"

#: The models that come with the package.
SHIPPED = ("digits_robust", "digits_standard")
#: What `certify(method=)` takes.
METHODS = ("auto", "no_split", "input_split", "relu_split")
