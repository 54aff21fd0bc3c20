# SPDX-License-Identifier: Apache-2.0
"""Models that measure the way to the server and not the server: next to no compute."""
from .graph import Graph


def tiny():
    """One 16x16 Gemm and a ReLU: what a Run costs when it costs nothing."""
    g = Graph("tiny")
    x = g.input("input", (1, 16))
    g.output(g.relu(g.linear(x, 16)), "output")
    return g


def bytes_16mb():
    """16 MiB in, 16 MiB out, one negation."""
    g = Graph("bytes-16mb")
    x = g.input("input", (1, 4 << 20))
    g.output(g.node("Neg", [x], x.shape), "output")
    return g
