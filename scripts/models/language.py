# SPDX-License-Identifier: Apache-2.0
"""A transformer encoder that takes token numbers."""
import math

from onnx import TensorProto

from .graph import Graph

LAYERS, WIDTH, HEADS, INNER, VOCABULARY, POSITIONS = 12, 768, 12, 3072, 30522, 512
TOKENS = 128  # for counting only: batch and sequence are symbolic in the file


def bert_base():
    """BERT base, uncased (Devlin et al. 2018), with its pooler: 64-bit integer inputs, symbolic batch and sequence."""
    g = Graph("bert-base", opset=17)
    declared = ["batch", "sequence"]
    ids, mask, types = (g.input(n, (1, TOKENS), TensorProto.INT64, declared)
                        for n in ("input_ids", "attention_mask", "token_type_ids"))
    x = g.add(_embed(g, ids, "word", VOCABULARY), _embed(g, types, "token_type", 2))
    x = _norm(g, g.add(x, _positions(g, ids)), "embeddings.norm")
    bias = _mask_bias(g, mask)
    for layer in range(LAYERS):
        x = _layer(g, x, bias, f"layer.{layer}")
    first = g.node("Gather", [x, g.constant("first", 0)], (1, WIDTH), axis=1)
    pooled = g.node("Tanh", [g.linear(first, WIDTH, "pooler", gain=1.0)], (1, WIDTH))
    g.output(x, "last_hidden_state", declared=[*declared, WIDTH])
    g.output(pooled, "pooler_output", declared=["batch", WIDTH])
    return g


def _embed(g, ids, name, rows):
    table = g.weight(f"embeddings.{name}", (rows, WIDTH), 0.02)
    return g.node("Gather", [table, ids], (1, TOKENS, WIDTH), axis=0)


def _positions(g, ids):
    table = g.weight("embeddings.position", (POSITIONS, WIDTH), 0.02)
    shape = g.node("Shape", [ids], (2,))
    length = g.node("Gather", [shape, g.constant("axis", [1])], (1,), axis=0)
    bounds = [g.constant("zero", [0]), length, g.constant("rows", [0])]
    rows = g.node("Slice", [table, *bounds], (TOKENS, WIDTH))
    return g.node("Unsqueeze", [rows, g.constant("batch_axis", [0])], (1, TOKENS, WIDTH))


def _mask_bias(g, mask):
    """0 where the mask is 1, a large negative number where it is 0; [batch, 1, 1, sequence]."""
    x = g.node("Cast", [mask], mask.shape, to=TensorProto.FLOAT)
    x = g.node("Sub", [g.constant("one", 1.0, "float32"), x], mask.shape)
    x = g.node("Mul", [x, g.constant("far", -10000.0, "float32")], mask.shape)
    return g.node("Unsqueeze", [x, g.constant("mask_axes", [1, 2])], (1, 1, 1, TOKENS))


def _layer(g, x, bias, p):
    x = _norm(g, g.add(x, _attention(g, x, bias, f"{p}.attention")), f"{p}.attention.norm")
    y = _dense(g, _gelu(g, _dense(g, x, INNER, f"{p}.intermediate")), WIDTH, f"{p}.output")
    return _norm(g, g.add(x, y), f"{p}.norm")


def _attention(g, x, bias, p):
    size = WIDTH // HEADS
    heads = (1, HEADS, TOKENS, size)

    def split(name, order):
        y = g.reshape(_dense(g, x, WIDTH, f"{p}.{name}"), (1, TOKENS, HEADS, size), written=[0, 0, HEADS, size])
        return g.transpose(y, order)

    query, key, value = split("query", [0, 2, 1, 3]), split("key", [0, 2, 3, 1]), split("value", [0, 2, 1, 3])
    scores = g.node("MatMul", [query, key], (1, HEADS, TOKENS, TOKENS))
    scores = g.node("Div", [scores, g.constant("scale", math.sqrt(size), "float32")], scores.shape)
    context = g.node("MatMul", [g.softmax(g.add(scores, bias), axis=-1), value], heads)
    g.counts.macs += 2 * HEADS * TOKENS * TOKENS * size
    context = g.reshape(g.transpose(context, [0, 2, 1, 3]), (1, TOKENS, WIDTH), written=[0, 0, WIDTH])
    return _dense(g, context, WIDTH, f"{p}.output")


def _dense(g, x, features, name):
    """x [batch, sequence, K] times [K, features], plus a bias."""
    k = x.shape[2]
    weight, bias = g.weight(f"{name}.weight", (k, features), math.sqrt(1.0 / k)), g.weight(f"{name}.bias", (features,), 0.02)
    g.counts.macs += TOKENS * k * features
    shape = (1, TOKENS, features)
    return g.node("Add", [g.node("MatMul", [x, weight], shape), bias], shape, name)


def _gelu(g, x):
    inner = g.node("Erf", [g.node("Div", [x, g.constant("sqrt2", math.sqrt(2.0), "float32")], x.shape)], x.shape)
    inner = g.node("Add", [inner, g.constant("one", 1.0, "float32")], x.shape)
    half = g.node("Mul", [x, inner], x.shape)
    return g.node("Mul", [half, g.constant("half", 0.5, "float32")], x.shape)


def _norm(g, x, name):
    parameters = [g.filled(f"{name}.scale", (WIDTH,), 1.0), g.weight(f"{name}.shift", (WIDTH,), 0.02)]
    return g.node("LayerNormalization", [x, *parameters], x.shape, name, axis=-1, epsilon=1e-12)
