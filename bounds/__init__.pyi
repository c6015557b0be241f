# The public names, and where they live: read by `lazy_loader` and by type checkers.

from .certification import Certification as Certification
from .certification import certify as certify
from .certification import certify_vnnlib as certify_vnnlib
from .certification.attacks import fgs as fgs
from .certification.attacks import pgd as pgd
from .certification.minimum import Minimum as Minimum
from .certification.minimum import minimum as minimum
from .checker import Check as Check
from .checker import check as check
from .errors import BoundsError as BoundsError
from .errors import InvalidInputError as InvalidInputError
from .errors import ModelFileError as ModelFileError
from .errors import UnsupportedLayerError as UnsupportedLayerError
from .intermediate.relax import relax as relax
from .network.graph import Network as Network
from .read.export.from_export import from_export as from_export
from .read.load import load as load
from .read.onnx.from_onnx import from_onnx as from_onnx
from .read.torch.from_torch import from_torch as from_torch
from .relaxation.relaxation import Relaxation as Relaxation
from .relaxation.specification import Specification as Specification
from .relaxation.specification import margins as margins
from .relaxation.triangle import ReluBounds as ReluBounds
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
from .training.posed import LossAndError as LossAndError
from .training.radius_schedule import RadiusSchedule as RadiusSchedule
from .training.robust_loss import robust_loss as robust_loss

__version__: str
