# SPDX-License-Identifier: Apache-2.0
"""Builds an ONNX graph layer by layer and counts as it goes.

A `Graph` hands out `Tensor`s (name and shape), so that an architecture reads like its publication. Weights come from a
generator seeded by the model's and the tensor's name: the same file on every machine. Batch normalisation that follows
a convolution is folded into it, as torch.onnx exports an evaluated model; `Counts.learnable` counts scale and shift all
the same, so that it can be compared with the published number of parameters.
"""
import dataclasses
import hashlib
import math

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper

IR_VERSION = 8  # the newest that Debian 12's libonnx (1.12) reads


@dataclasses.dataclass(frozen=True)
class Tensor:
    name: str
    shape: tuple


@dataclasses.dataclass
class Counts:
    stored: int = 0      # elements in the file's weights
    learnable: int = 0   # parameters as publications count them (batch norm: scale and shift)
    macs: int = 0        # multiply-accumulates of convolutions and matrix products


class Graph:
    counting_only = False  # True: weights are counted and not made, for tests of the large architectures

    def __init__(self, name, opset=13):
        self.name, self.opset = name, opset
        self.counts = Counts()
        self._nodes, self._initializers, self._inputs, self._outputs, self._used = [], [], [], [], {}

    # -- names, nodes, weights

    def unique(self, stem):
        count = self._used[stem] = self._used.get(stem, 0) + 1
        return stem if count == 1 else f"{stem}_{count}"

    def input(self, name, shape, dtype=TensorProto.FLOAT, declared=None):
        """`declared`: the shape written into the file where it has symbolic dimensions."""
        self._inputs.append(helper.make_tensor_value_info(name, dtype, declared or shape))
        return Tensor(name, tuple(shape))

    def output(self, tensor, name, dtype=TensorProto.FLOAT, declared=None):
        """Makes `tensor` an output called `name`."""
        for node in self._nodes:
            node.output[:] = [name if o == tensor.name else o for o in node.output]
            node.input[:] = [name if i == tensor.name else i for i in node.input]
        self._outputs.append(helper.make_tensor_value_info(name, dtype, declared or tensor.shape))

    def node(self, op, inputs, shape, name=None, **attributes):
        name = self.unique(name or op.lower())
        names = [i.name if isinstance(i, Tensor) else i for i in inputs]
        self._nodes.append(helper.make_node(op, names, [name], name=name, **attributes))
        return Tensor(name, tuple(shape))

    def constant(self, name, values, dtype=numpy.int64):
        array = numpy.asarray(values, dtype=dtype)
        name = self.unique(name)
        self._initializers.append(numpy_helper.from_array(array, name))
        return Tensor(name, array.shape)

    def weight(self, name, shape, deviation, learnable=True):
        """Normally distributed around zero; deviation 0 gives zeroes."""
        name = self.unique(name)
        if self.counting_only:
            return self._parameter(name, numpy.broadcast_to(numpy.float32(0), shape), learnable)
        seed = hashlib.sha256(f"{self.name}/{name}".encode()).digest()
        generator = numpy.random.Generator(numpy.random.PCG64(int.from_bytes(seed[:16], "little")))
        array = generator.standard_normal(size=shape, dtype=numpy.float32)
        array *= numpy.float32(deviation)
        return self._parameter(name, array, learnable)

    def filled(self, name, shape, value, learnable=True):
        return self._parameter(self.unique(name), numpy.full(shape, value, dtype=numpy.float32), learnable)

    def array(self, name, values):
        """A parameter with these very values."""
        return self._parameter(self.unique(name), numpy.asarray(values, dtype=numpy.float32), learnable=True)

    def _parameter(self, name, array, learnable):
        if not self.counting_only:
            self._initializers.append(numpy_helper.from_array(array, name))
        self.counts.stored += array.size
        self.counts.learnable += array.size if learnable else 0
        return Tensor(name, array.shape)

    # -- layers

    def conv(self, x, channels, kernel, stride=1, pad=0, group=1, bias=True, bn=False, name="conv", gain=2.0):
        """Convolution. bn: a folded batch normalisation follows. gain: 2 for He's initialisation before a ReLU."""
        kh, kw = _pair(kernel)
        sh, sw = _pair(stride)
        ph, pw = _pair(pad)
        _, c, h, w = x.shape
        name = self.unique(name)
        fan_in = c // group * kh * kw
        weights = [self.weight(f"{name}.weight", (channels, c // group, kh, kw), math.sqrt(gain / fan_in))]
        if bias or bn:
            weights.append(self.weight(f"{name}.bias", (channels,), 0.02))
        if bn:
            self.counts.learnable += channels  # the folded scale; the shift is the bias
        oh, ow = (h + 2 * ph - kh) // sh + 1, (w + 2 * pw - kw) // sw + 1
        self.counts.macs += channels * oh * ow * fan_in
        return self.node("Conv", [x, *weights], (1, channels, oh, ow), name, kernel_shape=[kh, kw], strides=[sh, sw],
                         pads=[ph, pw, ph, pw], group=group, dilations=[1, 1])

    def conv_transpose(self, x, channels, kernel, stride, name="conv_transpose"):
        _, c, h, w = x.shape
        name = self.unique(name)
        fan_in = c * kernel * kernel // (stride * stride)
        weight = self.weight(f"{name}.weight", (c, channels, kernel, kernel), math.sqrt(1.0 / fan_in))
        bias = self.weight(f"{name}.bias", (channels,), 0.02)
        self.counts.macs += c * channels * kernel * kernel * h * w
        return self.node("ConvTranspose", [x, weight, bias], (1, channels, h * stride, w * stride), name,
                         kernel_shape=[kernel, kernel], strides=[stride, stride])

    def batch_norm(self, x, name="batch_norm"):
        """A separate node, where the published order leaves nothing to fold it into."""
        name, c = self.unique(name), x.shape[1]
        return self.node("BatchNormalization", [
            x, self.filled(f"{name}.scale", (c,), 1.0), self.weight(f"{name}.shift", (c,), 0.02),
            self.filled(f"{name}.mean", (c,), 0.0, learnable=False),
            self.filled(f"{name}.variance", (c,), 2.0, learnable=False)], x.shape, name, epsilon=1e-5)

    def linear(self, x, features, name="fc", gain=2.0, learnable=True):
        """x [rows, K] times [features, K] transposed, plus a bias."""
        rows, k = x.shape
        name = self.unique(name)
        weight = self.weight(f"{name}.weight", (features, k), math.sqrt(gain / k), learnable)
        bias = self.weight(f"{name}.bias", (features,), 0.02, learnable)
        self.counts.macs += rows * k * features
        return self.node("Gemm", [x, weight, bias], (rows, features), name, transB=1)

    def relu(self, x):
        return self.node("Relu", [x], x.shape)

    def relu6(self, x):
        return self.node("Clip", [x, self._scalar("relu6.min", 0.0), self._scalar("relu6.max", 6.0)], x.shape)

    def silu(self, x):
        return self.node("Mul", [x, self.node("Sigmoid", [x], x.shape)], x.shape)

    def prelu(self, x, name="prelu"):
        name = self.unique(name)
        return self.node("PRelu", [x, self.filled(f"{name}.slope", (x.shape[1], 1, 1), 0.25)], x.shape, name)

    def add(self, a, b):
        return self.node("Add", [a, b], a.shape)

    def concat(self, tensors, axis=1):
        shape = list(tensors[0].shape)
        shape[axis] = sum(t.shape[axis] for t in tensors)
        return self.node("Concat", tensors, shape, axis=axis)

    def max_pool(self, x, kernel, stride, pad=0):
        return self._pool("MaxPool", x, kernel, stride, pad)

    def average_pool(self, x, kernel, stride, pad=0):
        return self._pool("AveragePool", x, kernel, stride, pad, count_include_pad=1)

    def _pool(self, op, x, kernel, stride, pad, **attributes):
        n, c, h, w = x.shape
        shape = (n, c, (h + 2 * pad - kernel) // stride + 1, (w + 2 * pad - kernel) // stride + 1)
        return self.node(op, [x], shape, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4, **attributes)

    def global_average_pool(self, x):
        return self.node("GlobalAveragePool", [x], (x.shape[0], x.shape[1], 1, 1))

    def flatten(self, x):
        return self.node("Flatten", [x], (x.shape[0], math.prod(x.shape[1:])), axis=1)

    def upsample(self, x, factor):
        n, c, h, w = x.shape
        scales = self.constant("upsample.scales", [1, 1, factor, factor], numpy.float32)
        return self.node("Resize", [x, "", scales], (n, c, h * factor, w * factor), mode="nearest",
                         coordinate_transformation_mode="asymmetric", nearest_mode="floor")

    def reshape(self, x, shape, written=None):
        return self.node("Reshape", [x, self.constant("shape", written or shape)], shape)

    def transpose(self, x, order):
        return self.node("Transpose", [x], [x.shape[i] for i in order], perm=order)

    def softmax(self, x, axis):
        return self.node("Softmax", [x], x.shape, axis=axis)

    def slice(self, x, start, end, axis):
        shape = list(x.shape)
        shape[axis] = end - start
        bounds = [self.constant("slice", [v]) for v in (start, end, axis)]
        return self.node("Slice", [x, *bounds], shape)

    def _scalar(self, name, value):
        """One initializer a name and model, shared by its users."""
        if name not in self._used:
            self.constant(name, value, numpy.float32)
        return Tensor(name, ())

    # -- the file

    def model(self):
        graph = helper.make_graph(self._nodes, self.name, self._inputs, self._outputs, self._initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)],
                                  producer_name="outboard make_models")
        model.ir_version = IR_VERSION
        return model


def shape_of(value_info):
    return [d.dim_param or d.dim_value for d in value_info.type.tensor_type.shape.dim]


def type_of(value_info):
    return onnx.TensorProto.DataType.Name(value_info.type.tensor_type.elem_type).lower()


def _pair(value):
    return value if isinstance(value, tuple) else (value, value)
