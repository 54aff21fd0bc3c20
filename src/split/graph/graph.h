// SPDX-License-Identifier: Apache-2.0
// The graph that is cut: tensors with a row axis, operators with their row dependence, and units,
// the steps between which rows may have to be exchanged. Built once for a model and an input size;
// then immutable, so any thread may read it. FLOPs count a multiply-add as two.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "split/graph/onnx_file.h"
#include "split/graph/rows.h"

namespace onnx {
class NodeProto;
}

namespace outboard::split {

using Shape = std::vector<std::int64_t>;
// Shapes of tensors by name, as the engine that will run the model infers them.
using ShapeMap = std::map<std::string, Shape>;

enum class TensorKind : std::uint8_t {
  kRows,   // divisible along `axis`
  kSlots,  // one row for every node that takes part: partial sums
  kWhole,  // not divisible: every node that needs it has all of it
};

struct Tensor {
  std::string name;
  Shape shape;           // of a kSlots tensor: of one slot, with a leading 1
  int element_type = 0;  // onnx::TensorProto::DataType
  TensorKind kind = TensorKind::kWhole;
  // shape[axis] = outer * rows * extent, the rows in the middle: outer and extent are 1 except
  // where a reshape merged the row axis with its neighbours (Flatten: outer = C, extent = W).
  int axis = -1;
  int outer = 1;
  int extent = 1;
  int rows = 1;                // 1 where there is no axis
  std::int64_t row_bytes = 0;  // of one row; of a whole tensor: all of it
  int producer = -1;           // op; -1 for an input of the graph
  std::vector<int> consumers;  // ops, each once
  bool host_owned = false;     // made on the host: an input, or the output of a host operator
  bool is_output = false;

  std::int64_t bytes(Rows r) const { return row_bytes * r.count(); }
  // The shape of some rows of it.
  Shape band(Rows r) const;
};

enum class OpKind : std::uint8_t {
  kRows,        // each node computes the rows it owns
  kPartial,     // each node reduces its own input rows into its slot
  kReplicated,  // on tensors without rows: computed by every node that needs the result
  kHost,        // gathered and run on the host
};

enum class Phase : std::uint8_t {
  kAll,      // the ONNX node itself
  kPartial,  // its partial result over a band of input rows
  kCombine,  // the result from all partial ones
};

struct Input {
  int tensor = -1;
  RowMap map;  // of a partial operator: from its input rows, identity
};

// The window of a convolution, pooling or pad along the row axis.
struct Window {
  int pad_top = 0;
  int pad_bottom = 0;
  int stride = 1;
  int reach = 0;   // dilation * (kernel - 1)
  int factor = 1;  // of an upsampling operator
};

struct Op {
  int node = -1;  // index into Graph::nodes
  std::string name;
  std::string type;
  OpKind kind = OpKind::kRows;
  Phase phase = Phase::kAll;
  std::vector<Input> inputs;  // activations only; constants are the node's own affair
  std::vector<int> outputs;
  Window window;
  double flops_per_row = 0;     // of the rows it runs over: output rows, or input rows when partial
  double bytes_per_row = 0;     // memory traffic
  double fixed_bytes = 0;       // weights read by any call
  double fixed_flops = 0;       // of an operator without rows
  double weight_bytes = 0;      // kept in memory by a node that runs it (all rows)
  bool weights_by_row = false;  // the weights divide like the rows (a fully connected layer)
  bool fused = false;           // runs inside its producer's kernel: free
  int unit = 0;
  std::string reason;     // of a host operator: why
  bool own_unit = false;  // starts a unit although no rows are exchanged before it
};

struct Unit {
  int first_op = 0;
  int end_op = 0;
  std::string name;  // of its heaviest operator
  int heaviest_op = 0;
  bool hard_border = false;  // may not be fused with the unit before it
};

// Values that are known before the run, by name: small folded ones. Large ones stay in the file.
struct ConstValue;

struct Graph {
  std::shared_ptr<const OnnxFile> file;
  // The model's nodes in topological order with explicit pads; folded ones are left out.
  std::shared_ptr<const std::vector<onnx::NodeProto>> nodes;
  std::shared_ptr<const std::map<std::string, ConstValue>> constants;
  std::vector<Tensor> tensors;
  std::vector<Op> ops;  // by unit
  std::vector<Unit> units;
  std::vector<int> inputs;  // tensors
  std::vector<int> outputs;
  std::int64_t opset = 0;

  double flops() const;
  double weight_bytes() const;
  int find(const std::string& tensor) const;  // -1 when there is none
  const Tensor& main_output(const Unit& unit) const;
  std::span<const Op> ops_of(int first_unit, int end_unit) const;  // of units [first, end)
};

struct GraphOptions {
  // Shapes of the model's inputs where they are not fixed in the file, or should be others.
  ShapeMap input_shapes;
  // Intermediate shapes from the engine; what it does not name is inferred here.
  ShapeMap shapes;
};

// Errors: kInvalid for a model without a fixed input shape, a cycle, an operator used wrongly, or a
// tensor beyond limits::kTensorBytes.
Result<Graph> build_graph(std::shared_ptr<const OnnxFile> file, const GraphOptions& options = {});

}  // namespace outboard::split
