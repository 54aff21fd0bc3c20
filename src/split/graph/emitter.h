// SPDX-License-Identifier: Apache-2.0
// Internal to emit.cc and emit_ops.cc: the state of one band's model while it is written.
#pragma once

#include <onnx/onnx_pb.h>

#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "split/graph/emit.h"

namespace outboard::split {

class Emitter {
 public:
  Emitter(const BandWork& work, const EmitOptions& options);

  void name_input(int tensor);
  void add_op(const Op& op);
  Result<BandModel> finish(std::span<const TensorRows> wanted);

 private:
  // Helpers that add one node (or initializer) and return its output's name.
  onnx::NodeProto& add_node(const std::string& type, const std::vector<std::string>& inputs,
                            const std::string& output);
  std::string fresh(const std::string& hint);
  std::string add_ints(std::vector<std::int64_t> values);
  std::string add_floats(std::vector<double> values, Shape dims);
  std::string add_slice(const std::string& from, std::int64_t axis, std::int64_t lo,
                        std::int64_t hi);
  std::string add_reshape(const std::string& from, const Shape& shape);
  void add_reduce(const std::string& type, const std::string& from, const Shape& axes, bool keep,
                  const std::string& to);
  std::string value(int tensor, Rows rows);
  bool has_shim(int tensor) const {
    return !options_.shims.empty() && options_.shims[static_cast<std::size_t>(tensor)] != 0;
  }
  void add_shim(const std::string& from, const std::string& to);
  std::string constant(const std::string& name);
  std::string constant_rows(const std::string& name, int axis, int outer, int rows, int extent,
                            Rows take);
  std::string add_weights(const std::string& hint, const Shape& dims, int type, std::string bytes);
  void take_back(const std::string& name);
  bool goes_outside(std::size_t size_bytes) const;
  void place_outside(onnx::TensorProto& to, WeightView weight);
  static std::string raw_values(const onnx::TensorProto& tensor);

  Rows op_needs(const Op& op, const Input& in, Rows out) const;
  const Tensor& tensor(int id) const { return graph_.tensors[static_cast<std::size_t>(id)]; }
  const onnx::NodeProto& node_of(const Op& op) const {
    return (*graph_.nodes)[static_cast<std::size_t>(op.node)];
  }
  Shape parameter_ints(const onnx::NodeProto& node, int input, const char* attribute) const;
  Shape constant_dims(const std::string& name) const;

  // The operator classes (emit_ops.cc).
  void add_plain(const Op& op, Rows out);
  std::string aligned(const Op& op, const Input& in, Rows out);
  void bind_inputs(const Op& op, Rows out, onnx::NodeProto& node);
  void set_window(const Op& op, Rows out, onnx::NodeProto& node);
  void set_transposed_window(const Op& op, Rows out, onnx::NodeProto& node);
  void take_columns(const Op& op, Rows out, onnx::NodeProto& node);
  void turn_weights(const Op& op, onnx::NodeProto& node);
  void set_slice(const Op& op, onnx::NodeProto& node);
  Rows set_pad(const Op& op, Rows rows, onnx::NodeProto& node);
  Rows set_layout(const Op& op, Rows out, onnx::NodeProto& node);
  void add_reduce_partial(const Op& op);
  void add_linear_partial(const Op& op);
  void add_statistics(const Op& op);
  void add_reduce_combine(const Op& op);
  void add_normalise(const Op& op);

  const BandWork& work_;
  const Graph& graph_;
  const EmitOptions& options_;
  onnx::ModelProto model_;
  std::map<int, std::string> names_;  // tensor -> the value that holds what the band has of it
  std::map<std::tuple<int, int, int>, std::string> slices_;
  std::set<std::string> constants_;
  std::vector<WeightView> weights_;
  std::vector<BandSlice> band_slices_;
  std::string scratch_;
  int counter_ = 0;
};

}  // namespace outboard::split
