// SPDX-License-Identifier: Apache-2.0
#include "tests/split/random_model.h"

#include <cmath>

#include "split/graph/attributes.h"

namespace outboard::split::testing {

ModelWriter::ModelWriter(std::uint64_t seed, int opset) : random_(seed) {
  model_.set_ir_version(8);
  model_.add_opset_import()->set_version(opset);
  model_.mutable_graph()->set_name("test");
}

int ModelWriter::pick(int lo, int hi) {
  return lo + static_cast<int>(random_() % static_cast<std::uint64_t>(hi - lo + 1));
}

std::string ModelWriter::input(const std::string& name, const Shape& shape, int type) {
  auto& in = *model_.mutable_graph()->add_input();
  in.set_name(name);
  auto& tensor = *in.mutable_type()->mutable_tensor_type();
  tensor.set_elem_type(type);
  tensor.mutable_shape();
  for (auto d : shape) tensor.mutable_shape()->add_dim()->set_dim_value(d);
  return name;
}

std::string ModelWriter::weights(const Shape& shape, double scale) {
  auto& t = *model_.mutable_graph()->add_initializer();
  t.set_name("w" + std::to_string(++counter_));
  t.set_data_type(onnx::TensorProto::FLOAT);
  for (auto d : shape) t.add_dims(d);
  const auto n = element_count(shape);
  if (scale == 0) scale = 1.5 / std::sqrt(static_cast<double>(n) / static_cast<double>(shape[0]));
  std::vector<float> values(static_cast<std::size_t>(n));
  for (auto& v : values) v = static_cast<float>((pick(-1000, 1000) / 1000.0) * scale);
  t.set_raw_data(values.data(), values.size() * sizeof(float));
  return t.name();
}

std::string ModelWriter::ints(const std::vector<std::int64_t>& values) {
  auto& t = *model_.mutable_graph()->add_initializer();
  t.set_name("i" + std::to_string(++counter_));
  t.set_data_type(onnx::TensorProto::INT64);
  t.add_dims(static_cast<std::int64_t>(values.size()));
  for (auto v : values) t.add_int64_data(v);
  return t.name();
}

std::string ModelWriter::floats(const std::vector<double>& values, const Shape& dims) {
  auto& t = *model_.mutable_graph()->add_initializer();
  t.set_name("f" + std::to_string(++counter_));
  t.set_data_type(onnx::TensorProto::FLOAT);
  for (auto d : dims) t.add_dims(d);
  for (auto v : values) t.add_float_data(static_cast<float>(v));
  return t.name();
}

std::string ModelWriter::node(const std::string& type, const std::vector<std::string>& inputs,
                              int outputs) {
  auto& n = *model_.mutable_graph()->add_node();
  n.set_op_type(type);
  n.set_name(type + std::to_string(++counter_));
  for (const auto& in : inputs) n.add_input(in);
  for (int i = 0; i < outputs; ++i) n.add_output("t" + std::to_string(++counter_));
  return n.output(0);
}

void ModelWriter::output(const std::string& name, int type) {
  auto& out = *model_.mutable_graph()->add_output();
  out.set_name(name);
  out.mutable_type()->mutable_tensor_type()->set_elem_type(type);
}

Values ModelWriter::random_inputs() {
  Values values;
  for (const auto& in : model_.graph().input()) {
    Value v;
    const auto& tensor = in.type().tensor_type();
    for (const auto& d : tensor.shape().dim()) v.shape.push_back(d.dim_value());
    const auto n = static_cast<std::size_t>(element_count(v.shape));
    for (std::size_t i = 0; i < n; ++i) {
      if (tensor.elem_type() == onnx::TensorProto::INT64)
        v.ints.push_back(pick(0, 15));
      else
        v.floats.push_back(static_cast<float>(pick(-1000, 1000) / 500.0));
    }
    values[in.name()] = std::move(v);
  }
  return values;
}

namespace {

struct Image {
  std::string name;
  std::int64_t c, h, w;
};

// Draws one image operator after another.
class ImageNet {
 public:
  ImageNet(std::uint64_t seed, int block)
      : m_(seed, seed % 3 == 0   ? 18
                 : seed % 3 == 1 ? 13
                                 : 17),
        block_(block) {}

  RandomModel build(std::uint64_t seed) {
    Image x{m_.input("image", {1, m_.pick(1, 4), 0, 0}), 0, m_.pick(6, 26), m_.pick(3, 7)};
    auto& dims =
        *m_.model().mutable_graph()->mutable_input(0)->mutable_type()->mutable_tensor_type();
    dims.mutable_shape()->mutable_dim(2)->set_dim_value(x.h);
    dims.mutable_shape()->mutable_dim(3)->set_dim_value(x.w);
    x.c = dims.shape().dim(1).dim_value();
    std::vector<Image> seen;
    const int steps = m_.pick(2, 8);
    for (int i = 0; i < steps; ++i) {
      x = step(x, seen);
      seen.push_back(x);
    }
    head(x);
    return {m_.bytes(), m_.random_inputs(), "image model of seed " + std::to_string(seed)};
  }

 private:
  Image conv(Image x) {
    int k = m_.pick(1, 5);
    const int s = m_.pick(1, 3) == 1 ? 2 : 1, d = m_.chance(20) ? 2 : 1;
    if (d * (k - 1) + 1 > x.h || d * (k - 1) + 1 > x.w + 2) k = 1;
    const int reach = d * (k - 1) + 1;
    const int group = m_.chance(25) ? static_cast<int>(x.c) : 1;
    const std::int64_t out = group > 1 ? x.c * m_.pick(1, 2) : m_.pick(1, 6) * block_;
    const std::string w = m_.weights({out, x.c / group, k, k});
    std::vector<std::string> in = {x.name, w};
    if (m_.chance(50)) in.push_back(m_.weights({out}, 0.3));
    Image y{m_.node("Conv", in), out, 0, 0};
    auto& n = m_.last();
    set_attribute(n, "strides", std::vector<std::int64_t>{s, s});
    set_attribute(n, "dilations", std::vector<std::int64_t>{d, d});
    set_attribute(n, "group", std::int64_t{group});
    if (d == 1 && m_.chance(20)) {
      set_attribute(n, "auto_pad",
                    m_.chance(50) ? std::string("SAME_UPPER") : std::string("SAME_LOWER"));
      y.h = (x.h + s - 1) / s;
      y.w = (x.w + s - 1) / s;
      return y;
    }
    const int top = m_.pick(0, reach - 1), bottom = m_.pick(0, reach - 1);
    const int side = (reach - 1 + 1) / 2;
    set_attribute(n, "pads", std::vector<std::int64_t>{top, side, bottom, side});
    y.h = (x.h + top + bottom - reach) / s + 1;
    y.w = (x.w + 2 * side - reach) / s + 1;
    return y;
  }

  Image pool(Image x) {
    const bool max = m_.chance(50);
    const int k = m_.pick(2, 3), s = m_.pick(1, 3);
    if (x.h < k || x.w < k) return x;
    const int p = m_.pick(0, k - 1), q = m_.pick(0, k - 1);
    // Before opset 22 the runtime infers one row more than it makes where the last window would
    // begin in the bottom pad; the models here keep away from that.
    const auto sane = [&](std::int64_t in, int before, int after) {
      return (in + before + after - k) % s == 0 ||
             ((in + before + after - k) / s + 1) * s < in + before;
    };
    const bool ceil = m_.chance(50) && sane(x.h, p, q) && sane(x.w, 1, 1);
    Image y{m_.node(max ? "MaxPool" : "AveragePool", {x.name}), x.c, 0, 0};
    auto& n = m_.last();
    set_attribute(n, "kernel_shape", std::vector<std::int64_t>{k, k});
    set_attribute(n, "strides", std::vector<std::int64_t>{s, s});
    set_attribute(n, "pads", std::vector<std::int64_t>{p, 1, q, 1});
    set_attribute(n, "ceil_mode", std::int64_t{ceil});
    if (!max) set_attribute(n, "count_include_pad", std::int64_t{m_.pick(0, 1)});
    const auto count = [&](std::int64_t in, int before, int after) {
      std::int64_t c = (in + before + after - k) / s + 1;
      if (ceil && (in + before + after - k) % s != 0 && c * s < in + before) ++c;
      return c;
    };
    y.h = count(x.h, p, q);
    y.w = count(x.w, 1, 1);
    return y;
  }

  Image transposed(Image x) {
    const int s = m_.pick(1, 2), k = m_.pick(s, 4), p = m_.pick(0, (k - 1) / 2);
    const int extra = s > 1 ? m_.pick(0, s - 1) : 0;
    const std::int64_t out = m_.pick(1, 4);
    Image y{m_.node("ConvTranspose", {x.name, m_.weights({x.c, out, k, k})}), out,
            (x.h - 1) * s + k - 2 * p + extra, (x.w - 1) * s + k - 2 * p + extra};
    if (y.h < 2 || y.w < 1 || y.h > 60) {
      m_.model().mutable_graph()->mutable_node()->RemoveLast();
      return x;
    }
    set_attribute(m_.last(), "strides", std::vector<std::int64_t>{s, s});
    set_attribute(m_.last(), "pads", std::vector<std::int64_t>{p, p, p, p});
    set_attribute(m_.last(), "output_padding", std::vector<std::int64_t>{extra, extra});
    return y;
  }

  Image resize(Image x) {
    const int f = m_.pick(2, 3);
    if (x.h * f > 60) return x;
    const bool sizes = m_.chance(40), linear = m_.chance(50);
    std::vector<std::string> in = {x.name, ""};
    if (sizes) {
      in.insert(in.end(), {"", m_.ints({1, x.c, x.h * f, x.w * 2})});
    } else {
      in.push_back(m_.floats({1, 1, static_cast<double>(f), 2}, {4}));
    }
    Image y{m_.node("Resize", in), x.c, x.h * f, x.w * 2};
    auto& n = m_.last();
    const bool half = m_.chance(50);
    set_attribute(n, "mode", linear ? std::string("linear") : std::string("nearest"));
    set_attribute(n, "coordinate_transformation_mode",
                  half ? std::string("half_pixel") : std::string("asymmetric"));
    if (!linear)
      set_attribute(n, "nearest_mode",
                    half ? std::string("round_prefer_floor") : std::string("floor"));
    return y;
  }

  Image normalise(Image x) {
    const int kind = m_.pick(0, 3);
    if (kind == 0) {
      x.name =
          m_.node("InstanceNormalization", {x.name, m_.weights({x.c}, 1), m_.weights({x.c}, 1)});
    } else if (kind == 1) {
      x.name = m_.node("BatchNormalization",
                       {x.name, m_.weights({x.c}, 1), m_.weights({x.c}, 1), m_.weights({x.c}, 0.2),
                        m_.floats(std::vector<double>(static_cast<std::size_t>(x.c), 0.8), {x.c})});
    } else if (kind == 2 && m_.model().opset_import(0).version() >= 17) {
      x.name = m_.node("LayerNormalization",
                       {x.name, m_.weights({x.c, x.h, x.w}, 1), m_.weights({x.c, x.h, x.w}, 1)});
      set_attribute(m_.last(), "axis", std::int64_t{1});
    } else if (kind == 3 && m_.model().opset_import(0).version() >= 18 && x.c % 2 == 0) {
      x.name = m_.node("GroupNormalization", {x.name, m_.weights({2}, 1), m_.weights({2}, 1)});
      set_attribute(m_.last(), "num_groups", std::int64_t{2});
    }
    return x;
  }

  Image squeeze_excite(Image x) {
    const std::string mean = m_.node("GlobalAveragePool", {x.name});
    const std::string a = m_.node("Conv", {mean, m_.weights({2, x.c, 1, 1})});
    const std::string b = m_.node("Conv", {m_.node("Relu", {a}), m_.weights({x.c, 2, 1, 1})});
    x.name = m_.node("Mul", {x.name, m_.node("Sigmoid", {b})});
    return x;
  }

  Image branches(Image x) {
    std::vector<std::string> parts;
    std::int64_t c = 0;
    for (int i = m_.pick(2, 3); i > 0; --i) {
      Image y = x;
      for (int j = m_.pick(0, 2); j > 0; --j) {
        const int k = m_.chance(60) ? 3 : 1;
        const std::int64_t out = m_.pick(1, 3) * block_;
        y = {m_.node("Conv", {y.name, m_.weights({out, y.c, k, k})}), out, y.h, y.w};
        set_attribute(m_.last(), "pads", std::vector<std::int64_t>(4, k / 2));
      }
      parts.push_back(y.name);
      c += y.c;
    }
    Image y{m_.node("Concat", parts), c, x.h, x.w};
    set_attribute(m_.last(), "axis", std::int64_t{1});
    return y;
  }

  Image rearrange(Image x) {
    switch (m_.pick(0, 4)) {
      case 0: {
        if (x.c < 2) return x;
        const std::string first = m_.node("Split", {x.name, m_.ints({1, x.c - 1})}, 2);
        set_attribute(m_.last(), "axis", std::int64_t{1});
        const std::string second = m_.last().output(1);
        x.name = m_.node("Concat", {second, first});
        set_attribute(m_.last(), "axis", std::int64_t{1});
        return x;
      }
      case 1: {
        if (x.h % 2 != 0 || x.w % 2 != 0) return x;
        x.name = m_.node("SpaceToDepth", {x.name});
        set_attribute(m_.last(), "blocksize", std::int64_t{2});
        return {x.name, x.c * 4, x.h / 2, x.w / 2};
      }
      case 2: {
        if (x.c % 4 != 0) return x;
        x.name = m_.node("DepthToSpace", {x.name});
        set_attribute(m_.last(), "blocksize", std::int64_t{2});
        return {x.name, x.c / 4, x.h * 2, x.w * 2};
      }
      case 3: {
        if (x.h < 6) return x;
        const std::int64_t step = m_.pick(1, 2), start = m_.pick(0, 2);
        x.name = m_.node("Slice",
                         {x.name, m_.ints({start}), m_.ints({x.h}), m_.ints({2}), m_.ints({step})});
        x.h = (x.h - start + step - 1) / step;
        return x;
      }
      default: {
        const std::int64_t top = m_.pick(0, 2), bottom = m_.pick(0, 2);
        x.name = m_.node("Pad", {x.name, m_.ints({0, 0, top, 1, 0, 0, bottom, 0})});
        return {x.name, x.c, x.h + top + bottom, x.w + 1};
      }
    }
  }

  Image pointwise(Image x) {
    const std::vector<const char*> unary = {"Relu", "Sigmoid", "Tanh", "LeakyRelu", "HardSigmoid"};
    switch (m_.pick(0, 3)) {
      case 0:
        x.name = m_.node("Clip", {x.name, m_.floats({-1}, {}), m_.floats({1}, {})});
        break;
      case 1:
        x.name = m_.node("PRelu", {x.name, m_.weights({x.c, 1, 1}, 0.5)});
        break;
      case 2:
        x.name = m_.node("Add", {x.name, m_.weights({x.h, 1}, 0.5)});
        break;  // differs by row
      default:
        x.name = m_.node(unary[static_cast<std::size_t>(m_.pick(0, 4))], {x.name});
        break;
    }
    if (m_.chance(20)) {
      x.name = m_.node("Softmax", {x.name});
      set_attribute(m_.last(), "axis", std::int64_t{m_.chance(80) ? 1 : 3});
    }
    return x;
  }

  Image step(Image x, const std::vector<Image>& seen) {
    const int kind = m_.pick(0, 99);
    if (kind < 34) return conv(x);
    if (kind < 48) return pool(x);
    if (kind < 55) return transposed(x);
    if (kind < 62) return resize(x);
    if (kind < 70) return normalise(x);
    if (kind < 75) return squeeze_excite(x);
    if (kind < 82) return branches(x);
    if (kind < 88) return rearrange(x);
    for (const auto& y : seen)  // a residual, if one fits
      if (kind < 94 && y.c == x.c && y.h == x.h && y.w == x.w && y.name != x.name) {
        x.name = m_.node("Add", {x.name, y.name});
        return x;
      }
    return pointwise(x);
  }

  void head(Image x) {
    const int kind = m_.pick(0, 5);
    if (kind == 0) {
      std::string y = m_.node("Flatten", {x.name});
      if (m_.chance(50)) y = m_.node("Relu", {y});
      const std::int64_t k = x.c * x.h * x.w;
      y = m_.node("Gemm", {y, m_.weights({8, k}), m_.weights({8}, 0.5)});
      set_attribute(m_.last(), "transB", std::int64_t{1});
      m_.output(
          m_.node("Softmax", {m_.node("MatMul", {m_.node("Relu", {y}), m_.weights({8, 5})})}));
    } else if (kind == 1) {
      std::string y = m_.node("ReduceMean", {x.name});
      if (m_.model().opset_import(0).version() >= 18) {
        m_.last().add_input(m_.ints({2, 3}));
      } else {
        set_attribute(m_.last(), "axes", std::vector<std::int64_t>{2, 3});
      }
      set_attribute(m_.last(), "keepdims", std::int64_t{0});
      y = m_.node("Gemm", {y, m_.weights({x.c, 4})});
      m_.output(y);
    } else if (kind == 2) {
      m_.output(m_.node("GlobalMaxPool", {x.name}));
      m_.output(x.name);
    } else if (kind == 3) {  // as a detector: [1, C, H, W] -> [1, H*W, C]
      std::string y = m_.node("Reshape", {x.name, m_.ints({1, x.c, -1})});
      y = m_.node("Transpose", {y});
      set_attribute(m_.last(), "perm", std::vector<std::int64_t>{0, 2, 1});
      m_.output(m_.node("Sigmoid", {y}));
    } else {
      m_.output(x.name);
    }
  }

  ModelWriter m_;
  const int block_;
};

}  // namespace

RandomModel random_image_model(std::uint64_t seed, int block) {
  return ImageNet(seed, block).build(seed);
}

RandomModel random_token_model(std::uint64_t seed) {
  ModelWriter m(seed, 17);
  const std::int64_t t = m.pick(4, 14), heads = m.pick(1, 3), each = m.pick(2, 4), d = heads * each;
  std::string x = m.input("ids", {1, t}, onnx::TensorProto::INT64);
  x = m.node("Gather", {m.weights({16, d}, 1), x});
  if (m.chance(50)) {  // a position for every token, as a constant or cut out of a larger table
    x = m.node("Add", {x, m.weights({1, t, d}, 0.5)});
  } else {
    const std::string table = m.weights({64, std::max<std::int64_t>(d, 72)}, 0.5);
    x = m.node("Add",
               {x, m.node("Slice", {table, m.ints({0, 0}), m.ints({t, d}), m.ints({0, 1})})});
  }
  const auto linear = [&](const std::string& in, std::int64_t from, std::int64_t to) {
    return m.node("Add",
                  {m.node("MatMul", {in, m.weights({from, to}, 0.6)}), m.weights({to}, 0.3)});
  };
  const auto norm = [&](const std::string& in) {
    return m.node("LayerNormalization", {in, m.weights({d}, 1), m.weights({d}, 1)});
  };
  const auto split_heads = [&](const std::string& in, const std::vector<std::int64_t>& perm) {
    const std::string y = m.node("Reshape", {in, m.ints({0, 0, heads, each})});
    const std::string z = m.node("Transpose", {y});
    set_attribute(m.last(), "perm", perm);
    return z;
  };
  for (int layer = m.pick(1, 2); layer > 0; --layer) {
    const std::string n = norm(x);
    const std::string q = split_heads(linear(n, d, d), {0, 2, 1, 3});
    const std::string k = split_heads(linear(n, d, d), {0, 2, 3, 1});
    const std::string v = split_heads(linear(n, d, d), {0, 2, 1, 3});
    std::string scores = m.node("Mul", {m.node("MatMul", {q, k}), m.floats({0.5}, {})});
    scores = m.node("Softmax", {scores});
    set_attribute(m.last(), "axis", std::int64_t{-1});
    std::string y = m.node("Transpose", {m.node("MatMul", {scores, v})});
    set_attribute(m.last(), "perm", std::vector<std::int64_t>{0, 2, 1, 3});
    y = linear(m.node("Reshape", {y, m.ints({0, 0, d})}), d, d);
    x = m.node("Add", {x, y});
    y = m.node("Mul", {m.node("Erf", {linear(norm(x), d, 2 * d)}), m.floats({0.5}, {})});
    x = m.node("Add", {x, linear(y, 2 * d, d)});
  }
  x = norm(x);
  if (m.chance(50)) {  // the class token
    x = m.node("Gather", {x, m.floats({0}, {})});
    auto& index = *m.model().mutable_graph()->mutable_initializer()->rbegin();
    index.set_data_type(onnx::TensorProto::INT64);
    index.clear_float_data();
    index.add_int64_data(m.pick(0, 1));
    set_attribute(m.last(), "axis", std::int64_t{1});
    x = m.node("Tanh", {m.node("Gemm", {x, m.weights({d, d})})});
  }
  m.output(x);
  return {m.bytes(), m.random_inputs(), "token model of seed " + std::to_string(seed)};
}

}  // namespace outboard::split::testing
