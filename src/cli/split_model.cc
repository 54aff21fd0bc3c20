// SPDX-License-Identifier: Apache-2.0
#include "cli/split_model.h"

#include "cli/profile_inputs.h"
#include "engine/onnxruntime/engine.h"
#include "split/exec/node.h"

namespace outboard::cli {

Result<split::Graph> open_graph(const ModelArguments& arguments) {
  split::GraphOptions options;
  for (const auto& text : arguments.shapes) {
    OB_TRY(auto shape, parse_shape(text));
    options.input_shapes.insert_or_assign(std::move(shape.first), std::move(shape.second));
  }
  OB_TRY(const auto file, split::OnnxFile::open(arguments.path));
  auto graph = split::build_graph(file, options);
  if (!graph || arguments.no_engine) {
    if (!graph)
      return tl::make_unexpected(std::move(graph).error().while_doing("reading " + arguments.path));
    return graph;
  }
  auto engine = engine::load_onnxruntime({});
  if (!engine) return graph;  // the rules' own shapes then
  auto shapes = split::exec::engine_shapes(**engine, *graph);
  if (!shapes) return graph;
  options.shapes = *std::move(shapes);
  return split::build_graph(file, options);
}

}  // namespace outboard::cli
