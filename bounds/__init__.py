"""LP-exact bounds for ReLU networks, each with a certificate and a proved gap.

`from_torch`, `from_onnx`, `from_export` and `load` read a `Network`; `Ball` and `Box` say which
inputs are allowed, `margins` and `Specification` which rows of the outputs are asked about. `relax`
makes the linear program of them, `solve` bounds its optimum from both sides, and `certify` does all
of that for a classifier. What a public name needs is imported when it is first used.
"""

import lazy_loader

__version__ = "0.2.0.dev0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
