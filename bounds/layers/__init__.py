"""The layers that a network may have, by family; `bounds.builder.NetworkBuilder` has them all.

Whatever a layer is called, it becomes affine operations, sums and ReLUs, exactly.
"""
