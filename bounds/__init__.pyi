# The public names, and where they live: read by `lazy_loader` and by type checkers.

from .analysis.attribute import attribute as attribute
from .analysis.attribution import Attribution as Attribution
from .analysis.audit import Audit as Audit
from .analysis.audit import audit as audit
from .analysis.certified_radius import CertifiedRadius as CertifiedRadius
from .analysis.certified_radius import certified_radius as certified_radius
from .analysis.claims import Claims as Claims
from .analysis.claims_of_tools import claims_of_auto_lirpa as claims_of_auto_lirpa
from .analysis.claims_of_tools import (
    claims_of_convex_adversarial as claims_of_convex_adversarial,
)
from .analysis.output_bounds import OutputBounds as OutputBounds
from .analysis.output_bounds import output_bounds as output_bounds
from .certification import Answer as Answer
from .certification import Certification as Certification
from .certification import certify as certify
from .certification import certify_vnnlib as certify_vnnlib
from .certification import verify as verify
from .certification.attacks import fgs as fgs
from .certification.attacks import pgd as pgd
from .certification.minimum import Minimum as Minimum
from .certification.minimum import minimum as minimum
from .checker import Check as Check
from .checker import ProofCheck as ProofCheck
from .checker import ProvedCase as ProvedCase
from .checker import check as check
from .checker import check_proof as check_proof
from .errors import BoundsError as BoundsError
from .errors import InvalidInputError as InvalidInputError
from .errors import ModelFileError as ModelFileError
from .errors import UnsupportedLayerError as UnsupportedLayerError
from .evaluation.evaluate import evaluate as evaluate
from .evaluation.report import report as report
from .evaluation.result import Evaluation as Evaluation
from .intermediate.relax import relax as relax
from .interrupt import Interrupted as Interrupted
from .network.graph import Network as Network
from .read.export.from_export import from_export as from_export
from .read.load import load as load
from .read.onnx.from_onnx import from_onnx as from_onnx
from .read.torch.from_torch import from_torch as from_torch
from .relaxation.layers import Layer as Layer
from .relaxation.relaxation import Relaxation as Relaxation
from .relaxation.specification import Specification as Specification
from .relaxation.specification import margins as margins
from .relaxation.triangle import ReluBounds as ReluBounds
from .search.proof import ProofFile as ProofFile
from .sets.ball import Ball as Ball
from .sets.box import Box as Box
from .solution.certificate import Certificate as Certificate
from .solution.deployment import deployment_margin as deployment_margin
from .solution.solution import Solution as Solution
from .solution.status import Status as Status
from .solvers.solve import solve as solve
from .training.cascade import CascadeAnswer as CascadeAnswer
from .training.cascade import cascade as cascade
from .training.crown_ibp_loss import crown_ibp_loss as crown_ibp_loss
from .training.interval_loss import interval_loss as interval_loss
from .training.loss_module import RobustLoss as RobustLoss
from .training.mixed_loss import Surrogate as Surrogate
from .training.mixed_loss import mixed_loss as mixed_loss
from .training.mixed_loss import small_box_loss as small_box_loss
from .training.optimised_loss import optimised_loss as optimised_loss
from .training.posed import LossAndError as LossAndError
from .training.radius_schedule import RadiusSchedule as RadiusSchedule
from .training.robust_loss import robust_loss as robust_loss

__version__: str
