# The public names, and where they live: read by `lazy_loader` and by type checkers.

from .certification import Answer as Answer
from .certification import Certification as Certification
from .certification import certify as certify
from .certification import certify_vnnlib as certify_vnnlib
from .certification import verify as verify
from .certification.attacks import fgs as fgs
from .certification.attacks import pgd as pgd
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
from .training.radius_schedule import RadiusSchedule as RadiusSchedule
from .training.robust_loss import LossAndError as LossAndError
from .training.robust_loss import RobustLoss as RobustLoss
from .training.robust_loss import robust_loss as robust_loss

__version__: str
