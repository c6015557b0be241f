"""Properties of networks in VNN-LIB, the language of the verification competition VNN-COMP."""

from bounds.read.vnnlib.property import Case, Property
from bounds.read.vnnlib.reader import parse_vnnlib, read_vnnlib

__all__ = ["Case", "Property", "parse_vnnlib", "read_vnnlib"]
