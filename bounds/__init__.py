"""LP-exact bounds for ReLU networks, each with a certificate and a proved gap."""

from importlib.metadata import version

from bounds.certification import Certification, certify, certify_vnnlib
from bounds.certification.attacks import fgs, pgd
from bounds.checker import Check, check
from bounds.errors import BoundsError, InvalidInputError, ModelFileError, UnsupportedLayerError
from bounds.intermediate.relax import relax
from bounds.network.graph import Network
from bounds.read.export.from_export import from_export
from bounds.read.load import load
from bounds.read.onnx.from_onnx import from_onnx
from bounds.read.torch.from_torch import from_torch
from bounds.relaxation.relaxation import Relaxation
from bounds.relaxation.specification import Specification, margins
from bounds.relaxation.triangle import ReluBounds
from bounds.sets.ball import Ball
from bounds.sets.box import Box
from bounds.solution.certificate import Certificate
from bounds.solution.deployment import deployment_margin
from bounds.solution.solution import Solution, Status
from bounds.solvers.solve import solve
from bounds.training.cascade import CascadeAnswer, cascade
from bounds.training.radius_schedule import RadiusSchedule
from bounds.training.robust_loss import LossAndError, RobustLoss, robust_loss

__version__ = version("relu-bounds")

__all__ = [
    "Ball",
    "BoundsError",
    "Box",
    "CascadeAnswer",
    "Certificate",
    "Certification",
    "Check",
    "InvalidInputError",
    "LossAndError",
    "ModelFileError",
    "Network",
    "RadiusSchedule",
    "Relaxation",
    "ReluBounds",
    "RobustLoss",
    "Solution",
    "Specification",
    "Status",
    "UnsupportedLayerError",
    "cascade",
    "certify",
    "certify_vnnlib",
    "check",
    "deployment_margin",
    "fgs",
    "from_export",
    "from_onnx",
    "from_torch",
    "load",
    "margins",
    "pgd",
    "relax",
    "robust_loss",
    "solve",
]
