// SPDX-License-Identifier: Apache-2.0
// Outputs of a Run in memory of our own: of a second try, which must not touch the program's memory
// while the first may, and of a Run that is done only to compare. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "wire/client.h"

namespace outboard::intercept {

class KeptOutputs final : public wire::OutputSink {
 public:
  struct Output {
    wire::TensorHeader header;
    std::vector<std::byte> data;       // of fixed-size elements
    std::vector<std::string> strings;  // of string tensors
  };

  Result<std::span<std::byte>> allocate(std::size_t index,
                                        const wire::TensorHeader& header) override {
    Output& output = at(index, header);
    output.data.resize(header.data_bytes);
    return std::span<std::byte>(output.data);
  }
  Result<void> strings(std::size_t index, const wire::TensorHeader& header,
                       std::span<const std::string_view> elements) override {
    at(index, header).strings.assign(elements.begin(), elements.end());
    return {};
  }

  const std::vector<Output>& all() const { return outputs_; }

  // Gives all of them to another sink, as a Run would.
  Result<void> deliver(wire::OutputSink& to) const {
    for (std::size_t i = 0; i < outputs_.size(); ++i) {
      const Output& output = outputs_[i];
      if (output.header.type == wire::ElementType::kString) {
        const std::vector<std::string_view> views(output.strings.begin(), output.strings.end());
        OB_CHECK_OK(to.strings(i, output.header, views));
        continue;
      }
      OB_TRY(const std::span<std::byte> memory, to.allocate(i, output.header));
      if (!memory.empty()) std::memcpy(memory.data(), output.data.data(), memory.size());
    }
    return {};
  }

 private:
  Output& at(std::size_t index, const wire::TensorHeader& header) {
    if (outputs_.size() <= index) outputs_.resize(index + 1);
    outputs_[index].header = header;
    return outputs_[index];
  }
  std::vector<Output> outputs_;
};

}  // namespace outboard::intercept
