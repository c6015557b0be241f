"""What each method is measured with on each network, and along what it grows.

Networks are compared at a method's first
batch, with all margins, on all cores, at the network's own radius; single networks grow from there
in one direction at a time, and families of generated ones in width and depth.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from benchmarks.measure.protocol import Method
from benchmarks.measure.workloads import NETWORKS, Setting

#: A network with a setting.
Place = tuple[str, Setting]
#: The networks along which one size grows, by that size.
FAMILIES: dict[str, dict[int, str]] = {
    "width": {width: f"mlp 3×{width}" for width in (50, 100, 200, 400, 800)},
    "depth": {depth: f"mlp {depth}×100" for depth in (2, 3, 4, 6, 9)},
}
#: The directions in which single networks grow, and all directions.
SETTINGS = ("batch", "rows", "unstable")
DIRECTIONS = (*FAMILIES, *SETTINGS)
#: The network of each of these, and the sizes of the latter two: an input's rows, and times its
#: radius, which make more of its neurons unstable.
GROWING = {"batch": "mlp 3×100", "rows": "mnist_cnn_small_LPD", "unstable": "mlp 3×100"}
ROWS = (1, 3, 9, 30, 100)
RADII = (0.5, 1.0, 2.0, 4.0)
#: Measured on one core, too: small and large, dense, convolutional and residual.
ON_ONE_CORE = (
    "mlp 3×100",
    "mlp 3×800",
    "mnist_MLP_2_100_NOR",
    "mnist_cnn_small_LPD",
    "cifar10_resnet_2b",
)


def usual(network: str, method: Method) -> Setting:
    """What networks are compared at."""
    return Setting(batch=method.batches(NETWORKS[network])[0])


def line(direction: str, method: Method) -> list[Place]:
    """From small to large, what is measured of a method along one direction."""
    if direction in FAMILIES:
        return [(name, usual(name, method)) for name in FAMILIES[direction].values()]
    network = GROWING[direction]
    if direction == "batch":
        batches = sorted(method.batches(NETWORKS[network]))
        return [(network, Setting(batch=batch)) for batch in batches]
    if direction == "rows":
        # Intermediate bounds have none.
        rows = ROWS if method.task != "relax" else ()
        return [(network, Setting(batch=1, rows=number)) for number in rows]
    start = usual(network, method)
    return [(network, replace(start, radii=radii)) for radii in RADII]


def settings(network: str, method: Method) -> list[Setting]:
    """All that a method is measured with on a network: first the one that networks are compared
    at, and in each direction from small to large."""
    first, *others = method.batches(NETWORKS[network])
    found = [Setting(batch=batch) for batch in (first, *sorted(others))]
    for direction in SETTINGS:
        found += [setting for name, setting in line(direction, method) if name == network]
    if network in ON_ONE_CORE:
        found.append(Setting(batch=first, cores=1))
    return list(dict.fromkeys(found))


def easier(network: str, setting: Setting, method: Method) -> Iterator[Place]:
    """What takes less than this: a smaller network of its family, less of one size, more cores."""
    for family in FAMILIES.values():
        names = list(family.values())
        if network in names:
            yield from ((name, setting) for name in names[: names.index(network)])
    for batch in method.batches(NETWORKS[network]):
        if batch < setting.batch:
            yield network, replace(setting, batch=batch)
    for rows in ROWS:
        if setting.rows is not None and rows < setting.rows:
            yield network, replace(setting, rows=rows)
    for radii in RADII:
        if radii < setting.radii:
            yield network, replace(setting, radii=radii)
    if setting.cores is not None:
        yield network, replace(setting, cores=None)
