"""The layers that a network may have, by family; `builder.NetworkBuilder` has them all.

Whatever a layer is called, it becomes affine operations, sums and ReLUs, exactly.
"""
