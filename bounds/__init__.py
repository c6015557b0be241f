"""LP-exact bounds for ReLU networks, each with a certificate and a proved gap."""

from bounds.attacks import fgs, pgd
from bounds.ball import Ball
from bounds.cascade import CascadeAnswer, cascade
from bounds.certificate import Certificate
from bounds.certification import Certification, certify, certify_vnnlib
from bounds.checker import Check, check
from bounds.deployment import deployment_margin
from bounds.errors import BoundsError, InvalidInputError, ModelFileError, UnsupportedLayerError
from bounds.input_sets import Box
from bounds.network import Network
from bounds.radius_schedule import RadiusSchedule
from bounds.relax import relax
from bounds.relaxation import Relaxation
from bounds.robust_loss import LossAndError, RobustLoss, robust_loss
from bounds.solution import Solution, Status
from bounds.solve import solve
from bounds.specification import Specification, margins
from bounds.triangle import ReluBounds

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
    "margins",
    "pgd",
    "relax",
    "robust_loss",
    "solve",
]
