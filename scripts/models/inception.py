# SPDX-License-Identifier: Apache-2.0
"""Inception v3 (Szegedy et al. 2015) as torchvision publishes it, without the auxiliary head of training."""
from .graph import Graph


def _conv(g, x, channels, kernel, name, stride=1, pad=0):
    return g.relu(g.conv(x, channels, kernel, stride=stride, pad=pad, bn=True, name=name))


def inception_v3():
    g = Graph("inception-v3")
    x = g.input("input", (1, 3, 299, 299))
    x = _conv(g, x, 32, 3, "Conv2d_1a", stride=2)
    x = _conv(g, x, 32, 3, "Conv2d_2a")
    x = _conv(g, x, 64, 3, "Conv2d_2b", pad=1)
    x = g.max_pool(x, 3, 2)
    x = _conv(g, x, 80, 1, "Conv2d_3b")
    x = _conv(g, x, 192, 3, "Conv2d_4a")
    x = g.max_pool(x, 3, 2)
    for name, pool_features in [("5b", 32), ("5c", 64), ("5d", 64)]:
        x = _mixed_a(g, x, pool_features, f"Mixed_{name}")
    x = _mixed_b(g, x, "Mixed_6a")
    for name, width in [("6b", 128), ("6c", 160), ("6d", 160), ("6e", 192)]:
        x = _mixed_c(g, x, width, f"Mixed_{name}")
    x = _mixed_d(g, x, "Mixed_7a")
    for name in ("7b", "7c"):
        x = _mixed_e(g, x, f"Mixed_{name}")
    g.output(g.linear(g.flatten(g.global_average_pool(x)), 1000, gain=1.0), "output")
    return g


def _chain(g, x, prefix, steps):
    """steps: (channels, kernel, pad)."""
    for i, (channels, kernel, pad) in enumerate(steps, start=1):
        x = _conv(g, x, channels, kernel, f"{prefix}_{i}", pad=pad)
    return x


def _mixed_a(g, x, pool_features, p):
    return g.concat([
        _conv(g, x, 64, 1, f"{p}.branch1x1"),
        _chain(g, x, f"{p}.branch5x5", [(48, 1, 0), (64, 5, 2)]),
        _chain(g, x, f"{p}.branch3x3dbl", [(64, 1, 0), (96, 3, 1), (96, 3, 1)]),
        _conv(g, g.average_pool(x, 3, 1, 1), pool_features, 1, f"{p}.branch_pool")])


def _mixed_b(g, x, p):
    y = _chain(g, x, f"{p}.branch3x3dbl", [(64, 1, 0), (96, 3, 1)])
    return g.concat([_conv(g, x, 384, 3, f"{p}.branch3x3", stride=2),
                     _conv(g, y, 96, 3, f"{p}.branch3x3dbl_3", stride=2), g.max_pool(x, 3, 2)])


def _mixed_c(g, x, width, p):
    row, column = ((1, 7), (0, 3)), ((7, 1), (3, 0))
    return g.concat([
        _conv(g, x, 192, 1, f"{p}.branch1x1"),
        _chain(g, x, f"{p}.branch7x7", [(width, 1, 0), (width, *row), (192, *column)]),
        _chain(g, x, f"{p}.branch7x7dbl",
               [(width, 1, 0), (width, *column), (width, *row), (width, *column), (192, *row)]),
        _conv(g, g.average_pool(x, 3, 1, 1), 192, 1, f"{p}.branch_pool")])


def _mixed_d(g, x, p):
    y = _conv(g, x, 192, 1, f"{p}.branch3x3_1")
    z = _chain(g, x, f"{p}.branch7x7x3", [(192, 1, 0), (192, (1, 7), (0, 3)), (192, (7, 1), (3, 0))])
    return g.concat([_conv(g, y, 320, 3, f"{p}.branch3x3_2", stride=2),
                     _conv(g, z, 192, 3, f"{p}.branch7x7x3_4", stride=2), g.max_pool(x, 3, 2)])


def _mixed_e(g, x, p):
    def fork(y, prefix):
        return [_conv(g, y, 384, (1, 3), f"{prefix}a", pad=(0, 1)), _conv(g, y, 384, (3, 1), f"{prefix}b", pad=(1, 0))]

    return g.concat([
        _conv(g, x, 320, 1, f"{p}.branch1x1"),
        g.concat(fork(_conv(g, x, 384, 1, f"{p}.branch3x3_1"), f"{p}.branch3x3_2")),
        g.concat(fork(_chain(g, x, f"{p}.branch3x3dbl", [(448, 1, 0), (384, 3, 1)]), f"{p}.branch3x3dbl_3")),
        _conv(g, g.average_pool(x, 3, 1, 1), 192, 1, f"{p}.branch_pool")])
