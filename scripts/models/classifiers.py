# SPDX-License-Identifier: Apache-2.0
"""Image classifiers as torchvision publishes them (ImageNet, 1,000 classes)."""
from .graph import Graph


def vgg16():
    """Simonyan and Zisserman 2014, configuration D."""
    g = Graph("vgg-16")
    x = g.input("input", (1, 3, 224, 224))
    for stage, (channels, count) in enumerate([(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)], start=1):
        for i in range(1, count + 1):
            x = g.relu(g.conv(x, channels, 3, pad=1, name=f"conv{stage}_{i}"))
        x = g.max_pool(x, 2, 2)
    x = g.flatten(x)
    x = g.relu(g.linear(x, 4096, "fc6"))
    x = g.relu(g.linear(x, 4096, "fc7"))
    g.output(g.linear(x, 1000, "fc8", gain=1.0), "output")
    return g


def resnet50():
    """He et al. 2015, with the stride in the 3x3 convolution (torchvision's v1.5)."""
    g = Graph("resnet-50")
    x = g.input("input", (1, 3, 224, 224))
    x = g.relu(g.conv(x, 64, 7, stride=2, pad=3, bn=True, name="conv1"))
    x = g.max_pool(x, 3, 2, pad=1)
    for stage, (width, blocks, first_stride) in enumerate([(64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)], start=1):
        for block in range(blocks):
            stride, prefix = (first_stride if block == 0 else 1), f"layer{stage}.{block}"
            y = g.relu(g.conv(x, width, 1, bn=True, name=f"{prefix}.conv1"))
            y = g.relu(g.conv(y, width, 3, stride=stride, pad=1, bn=True, name=f"{prefix}.conv2"))
            # A small last convolution keeps the sum from growing block by block.
            y = g.conv(y, width * 4, 1, bn=True, name=f"{prefix}.conv3", gain=0.1)
            if block == 0:
                x = g.conv(x, width * 4, 1, stride=stride, bn=True, name=f"{prefix}.downsample", gain=1.0)
            x = g.relu(g.add(y, x))
    g.output(g.linear(g.flatten(g.global_average_pool(x)), 1000, gain=1.0), "output")
    return g


def mobilenet_v2():
    """Sandler et al. 2018, width 1.0."""
    g = Graph("mobilenet-v2")
    x = g.input("input", (1, 3, 224, 224))
    x = g.relu6(g.conv(x, 32, 3, stride=2, pad=1, bn=True, name="features.0"))
    index = 1
    for expansion, channels, blocks, first_stride in [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2),
                                                      (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]:
        for block in range(blocks):
            x = _inverted_residual(g, x, expansion, channels, first_stride if block == 0 else 1, f"features.{index}")
            index += 1
    x = g.relu6(g.conv(x, 1280, 1, bn=True, name=f"features.{index}"))
    g.output(g.linear(g.flatten(g.global_average_pool(x)), 1000, name="classifier", gain=1.0), "output")
    return g


def _inverted_residual(g, x, expansion, channels, stride, prefix):
    hidden, y = x.shape[1] * expansion, x
    if expansion != 1:
        y = g.relu6(g.conv(y, hidden, 1, bn=True, name=f"{prefix}.expand"))
    y = g.relu6(g.conv(y, hidden, 3, stride=stride, pad=1, group=hidden, bn=True, name=f"{prefix}.depthwise"))
    y = g.conv(y, channels, 1, bn=True, name=f"{prefix}.project", gain=1.0)
    return g.add(x, y) if stride == 1 and x.shape[1] == channels else y


def densenet121():
    """Huang et al. 2016, growth 32. Its batch norms come before the convolution: those that follow no convolution
    stay separate nodes, the others are folded."""
    g = Graph("densenet-121")
    growth = 32
    x = g.input("input", (1, 3, 224, 224))
    x = g.relu(g.conv(x, 64, 7, stride=2, pad=3, bn=True, name="conv0"))
    x = g.max_pool(x, 3, 2, pad=1)
    for block, layers in enumerate([6, 12, 24, 16], start=1):
        for layer in range(1, layers + 1):
            prefix = f"denseblock{block}.{layer}"
            y = g.relu(g.batch_norm(x, f"{prefix}.norm1"))
            y = g.relu(g.conv(y, 4 * growth, 1, bn=True, name=f"{prefix}.conv1"))
            y = g.conv(y, growth, 3, pad=1, bias=False, name=f"{prefix}.conv2")
            x = g.concat([x, y])
        if block < 4:
            x = g.relu(g.batch_norm(x, f"transition{block}.norm"))
            x = g.conv(x, x.shape[1] // 2, 1, bias=False, name=f"transition{block}.conv")
            x = g.average_pool(x, 2, 2)
    x = g.global_average_pool(g.relu(g.batch_norm(x, "norm5")))
    g.output(g.linear(g.flatten(x), 1000, name="classifier", gain=1.0), "output")
    return g
