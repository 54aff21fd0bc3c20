// SPDX-License-Identifier: Apache-2.0
#include "serve/convert.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "engine/element_type.h"
#include "wire/tensor.h"

namespace outboard::serve {
namespace {

// Both sides use ONNX's numbers.
static_assert(static_cast<int>(engine::ElementType::kInt4) ==
                  static_cast<int>(wire::ElementType::kInt4) &&
              static_cast<int>(engine::ElementType::kBfloat16) ==
                  static_cast<int>(wire::ElementType::kBfloat16) &&
              static_cast<int>(engine::ElementType::kString) ==
                  static_cast<int>(wire::ElementType::kString));

// Config entries of ONNX Runtime that decide what is computed and touch nothing else.
constexpr std::array<std::string_view, 16> kTaken = {
    "session.set_denormal_as_zero",
    "session.disable_quant_qdq",
    "session.disable_double_qdq_remover",
    "session.enable_quant_qdq_cleanup",
    "session.qdqisint8allowed",
    "session.x64quantprecision",
    "session.allow_released_opsets_only",
    "session.strict_shape_type_inference",
    "session.disable_prepacking",
    "session.disable_aot_function_inlining",
    "session.disable_specified_optimizers",
    "session.disable_qdq_constant_folding",
    "optimization.enable_gelu_approximation",
    "optimization.disable_specified_optimizers",
    "optimization.enable_cast_chain_elimination",
    "mlas.enable_gemm_fastmath_arm64_bfloat16",
};

// Those that concern the program's own threads and memory, or how its model is read.
constexpr std::array<std::string_view, 17> kPassedOver = {
    "session.intra_op.allow_spinning",
    "session.inter_op.allow_spinning",
    "session.intra_op_thread_affinities",
    "session.intra_op.spin_duration_us",
    "session.inter_op.spin_duration_us",
    "session.force_spinning_stop",
    "session.dynamic_block_base",
    "session.use_env_allocators",
    "session.use_device_allocator_for_initializers",
    "session.use_ort_model_bytes_directly",
    "session.use_ort_model_bytes_for_initializers",
    "session.load_model_format",
    "session.disable_cpu_ep_fallback",
    "session.record_ep_graph_assignment_info",
    "session.save_model_format",
    "session.use_memory_mapped_ort_model",
    "memory.enable_memory_arena_shrinkage",
};

// Options of the CUDA provider that a server takes: they decide how is computed, not where.
constexpr std::array<std::string_view, 7> kCudaTaken = {
    "use_tf32",
    "cudnn_conv_algo_search",
    "cudnn_conv_use_max_workspace",
    "prefer_nhwc",
    "cudnn_conv1d_pad_to_nc1d",
    "fuse_conv_bias",
    "enable_skip_layer_norm_strict_mode",
};

// Those of the TensorRT provider, likewise: no files, no limits of memory.
constexpr std::array<std::string_view, 15> kTensorRtTaken = {
    "trt_max_partition_iterations",
    "trt_min_subgraph_size",
    "trt_fp16_enable",
    "trt_bf16_enable",
    "trt_int8_enable",
    "trt_force_sequential_engine_build",
    "trt_context_memory_sharing_enable",
    "trt_layer_norm_fp32_fallback",
    "trt_builder_optimization_level",
    "trt_auxiliary_streams",
    "trt_sparsity_enable",
    "trt_profile_min_shapes",
    "trt_profile_max_shapes",
    "trt_profile_opt_shapes",
    "trt_op_types_to_exclude",
};

template <std::size_t N>
bool contains(const std::array<std::string_view, N>& list, std::string_view key) {
  return std::find(list.begin(), list.end(), key) != list.end();
}

wire::ValueDescription to_wire(const engine::ValueInfo& value) {
  return {.name = value.name,
          .type = static_cast<wire::ElementType>(value.type),
          .has_shape = value.has_shape,
          .dims = value.dims,
          .dim_names = value.dim_names};
}

Result<std::vector<wire::ValueDescription>> to_wire(const std::vector<engine::ValueInfo>& values,
                                                    std::string_view direction) {
  std::vector<wire::ValueDescription> result;
  result.reserve(values.size());
  for (const engine::ValueInfo& value : values) {
    if (value.kind != "tensor" || value.type == engine::ElementType::kUndefined)
      return error(ErrorKind::kUnimplemented, "the {} ({}) is a {} of a type that cannot go out",
                   direction, value.name, value.kind);
    result.push_back(to_wire(value));
  }
  return result;
}

std::string shape_text(const engine::ValueInfo& value) {
  std::vector<std::string> dims;
  for (std::size_t i = 0; i < value.dims.size(); ++i) {
    const bool named = i < value.dim_names.size() && !value.dim_names[i].empty();
    dims.push_back(value.dims[i] >= 0 ? std::to_string(value.dims[i])
                                      : (named ? value.dim_names[i] : "?"));
  }
  return fmt::format("{}", fmt::join(dims, ", "));
}

// Both types have the same of what the model says of itself.
template <typename From, typename To>
void copy_metadata(const From& from, To& to) {
  to.producer = from.producer;
  to.graph_name = from.graph_name;
  to.graph_description = from.graph_description;
  to.domain = from.domain;
  to.description = from.description;
  to.version = from.version;
  to.custom_metadata = from.custom_metadata;
}

}  // namespace

Result<engine::OpenOptions> to_engine(const wire::SessionOptions& options) {
  engine::OpenOptions result{
      .graph_optimization_level = options.graph_optimization_level,
      .parallel_execution = options.parallel_execution,
      .free_dimensions_by_name = options.free_dimensions_by_name,
      .free_dimensions_by_denotation = options.free_dimensions_by_denotation};
  for (const auto& [key, value] : options.config_entries) {
    if (contains(kTaken, key)) {
      result.config_entries.emplace(key, value);
    } else if (!contains(kPassedOver, key)) {
      return error(ErrorKind::kUnimplemented,
                   "the session's config entry ({}) is not one that a server takes", key);
    }
  }
  for (const wire::ProviderChoice& choice : options.providers) {
    const bool cuda = choice.name == "CUDAExecutionProvider";
    if (!cuda && choice.name != "TensorrtExecutionProvider") continue;
    engine::Provider& provider = result.providers.emplace_back();
    provider.name = choice.name;
    for (const auto& [key, value] : choice.options)
      if (cuda ? contains(kCudaTaken, key) : contains(kTensorRtTaken, key))
        provider.options.emplace(key, value);
  }
  return result;
}

std::string options_key(const engine::OpenOptions& options) {
  // Lengths before texts, so that no two options have one key.
  std::string key =
      fmt::format("{} {}", options.graph_optimization_level, options.parallel_execution ? 1 : 0);
  const auto texts = [&](std::string_view kind, const std::map<std::string, std::string>& map) {
    for (const auto& [name, value] : map)
      key += fmt::format(" {} {}:{} {}:{}", kind, name.size(), name, value.size(), value);
  };
  for (const auto& [name, size] : options.free_dimensions_by_name)
    key += fmt::format(" n {}:{} {}", name.size(), name, size);
  for (const auto& [name, size] : options.free_dimensions_by_denotation)
    key += fmt::format(" d {}:{} {}", name.size(), name, size);
  texts("c", options.config_entries);
  for (const engine::Provider& provider : options.providers) {
    key += fmt::format(" p {}:{}", provider.name.size(), provider.name);
    texts("o", provider.options);
  }
  return key;
}

Result<wire::SessionDescription> to_wire(const engine::ModelInfo& info) {
  if (!info.overridable_initializers.empty())
    return error(ErrorKind::kUnimplemented,
                 "the model has initializers that may be overridden ({}), which cannot go out",
                 fmt::join(info.overridable_initializers, ", "));
  wire::SessionDescription result;
  OB_TRY(result.inputs, to_wire(info.inputs, "input"));
  OB_TRY(result.outputs, to_wire(info.outputs, "output"));
  copy_metadata(info, result);
  return result;
}

wire::SessionOptions to_wire(const engine::OpenOptions& options) {
  wire::SessionOptions result;
  result.graph_optimization_level = options.graph_optimization_level;
  result.parallel_execution = options.parallel_execution;
  result.free_dimensions_by_name = options.free_dimensions_by_name;
  result.free_dimensions_by_denotation = options.free_dimensions_by_denotation;
  result.config_entries = options.config_entries;
  for (const engine::Provider& provider : options.providers)
    result.providers.push_back({provider.name, provider.options});
  return result;
}

engine::ModelInfo to_engine(const wire::SessionDescription& description) {
  engine::ModelInfo info;
  const auto values = [](const std::vector<wire::ValueDescription>& from,
                         std::vector<engine::ValueInfo>& to) {
    for (const wire::ValueDescription& value : from)
      to.push_back({.name = value.name,
                    .kind = "tensor",
                    .type = static_cast<engine::ElementType>(value.type),
                    .has_shape = value.has_shape,
                    .dims = value.dims,
                    .dim_names = value.dim_names});
  };
  values(description.inputs, info.inputs);
  values(description.outputs, info.outputs);
  copy_metadata(description, info);
  return info;
}

Result<void> check_input(const engine::ValueInfo& expected, const wire::TensorHeader& given) {
  if (static_cast<engine::ElementType>(given.type) != expected.type)
    return error(ErrorKind::kInvalid, "the input ({}) has the element type {}; expected {}",
                 expected.name, wire::name_of(given.type), engine::name_of(expected.type));
  if (!expected.has_shape) return {};
  bool fits = given.dims.size() == expected.dims.size();
  for (std::size_t i = 0; fits && i < given.dims.size(); ++i)
    fits = expected.dims[i] < 0 || expected.dims[i] == given.dims[i];
  if (fits) return {};
  return error(ErrorKind::kInvalid, "the input ({}) has the shape ({}); expected ({})",
               expected.name, fmt::join(given.dims, ", "), shape_text(expected));
}

engine::InputView to_engine(const wire::TensorHeader& header, std::span<const std::byte> data,
                            std::span<const std::string_view> strings) {
  return {.type = static_cast<engine::ElementType>(header.type),
          .dims = header.dims,
          .data = data,
          .strings = strings};
}

wire::TensorHeader to_wire(const engine::OutputView& output, std::uint64_t data_bytes) {
  return {.type = static_cast<wire::ElementType>(output.type),
          .dims = output.dims,
          .data_bytes = data_bytes};
}

}  // namespace outboard::serve
