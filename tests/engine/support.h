// SPDX-License-Identifier: Apache-2.0
// What tests of the engine share: the small models and one loaded engine.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <string>

#include "engine/onnxruntime/engine.h"

namespace outboard::engine {

inline std::string model_path(const std::string& name) {
  return std::string(std::getenv("OUTBOARD_BINARY_DIR")) + "/tests/models/" + name;
}

inline std::unique_ptr<Engine> engine_or_die(const OnnxRuntimeOptions& options = {}) {
  auto engine = load_onnxruntime(options);
  if (!engine) {
    ADD_FAILURE() << engine.error().message;
    std::abort();
  }
  return std::move(*engine);
}

template <typename T>
InputView input_of(ElementType type, const std::vector<std::int64_t>& dims,
                   const std::vector<T>& elements) {
  return {.type = type, .dims = dims, .data = std::as_bytes(std::span(elements)), .strings = {}};
}

template <typename T>
std::vector<T> elements_of(const OutputView& view) {
  const auto* data = reinterpret_cast<const T*>(view.data.data());
  return {data, data + view.data.size() / sizeof(T)};
}

}  // namespace outboard::engine
