"""The readers of files that come from elsewhere, each with valid files and ways to damage them."""

from __future__ import annotations

from tests.fuzzing.certificates import Certificates
from tests.fuzzing.claims import ClaimArchives, ClaimObjects
from tests.fuzzing.driver import Target
from tests.fuzzing.inputs import Inputs
from tests.fuzzing.models import Archives, OnnxFiles
from tests.fuzzing.properties import Properties
from tests.fuzzing.queries import Queries

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        OnnxFiles(),
        Archives(),
        Properties(),
        Queries(),
        Certificates(),
        Inputs(),
        ClaimArchives(),
        ClaimObjects(),
    )
}
