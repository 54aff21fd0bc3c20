// SPDX-License-Identifier: Apache-2.0
#include "serve/worker/worker_run.h"

#include <algorithm>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "serve/worker/worker_engine.h"
#include "wire/tensor.h"

namespace outboard::serve {
namespace {

// ONNX Runtime's code for an output of another shape than the caller's memory.
constexpr std::int32_t kInvalidArgument = 2;

class Control final : public engine::RunControl {
 public:
  void terminate() override { token.cancel(); }
  void reset() override { token.reset(); }
  wire::CancelToken token;
};

// What an element of a string tensor costs beside its bytes.
constexpr std::uint64_t kElementBytes = sizeof(std::string) + sizeof(std::string_view);

// Receives the outputs, and is what they live in.
class Outputs final : public engine::RunOutputs, public wire::OutputSink {
 public:
  Outputs(std::span<const engine::OutputWanted> wanted, OutputMemory memory)
      : wanted_(wanted), memory_(memory) {
    values_.resize(wanted.size());
  }

  Result<std::span<std::byte>> allocate(std::size_t index,
                                        const wire::TensorHeader& header) override {
    engine::OutputView& view = begin(index, header);
    const engine::OutputBuffer* const buffer = wanted_[index].buffer;
    if (buffer != nullptr) {
      if (buffer->type != view.type || buffer->data.size() != header.data_bytes ||
          !std::equal(view.dims.begin(), view.dims.end(), buffer->dims.begin(), buffer->dims.end()))
        return tl::make_unexpected(Error{
            ErrorKind::kEngine, "an output has another shape than its memory", kInvalidArgument});
      view.data = buffer->data;
      return buffer->data;
    }
    OB_CHECK_OK(take(header.data_bytes));
    auto& kept =
        buffers_.emplace_back(memory_.pool->take(std::max<std::uint64_t>(header.data_bytes, 1)));
    if (kept.data() == nullptr)
      return error(ErrorKind::kOverloaded, "no memory for an output ({} bytes)", header.data_bytes);
    const std::span<std::byte> data(kept.data(), header.data_bytes);
    view.data = data;
    return data;
  }

  Result<void> admit_strings(std::size_t /*index*/, const wire::TensorHeader& header) override {
    // More elements than there are lengths are refused by whoever decodes them.
    const std::uint64_t elements = std::min(wire::element_count(header.dims).value_or(0),
                                            header.data_bytes / sizeof(std::uint32_t));
    return take(header.data_bytes + kElementBytes * elements);
  }

  Result<void> strings(std::size_t index, const wire::TensorHeader& header,
                       std::span<const std::string_view> elements) override {
    engine::OutputView& view = begin(index, header);
    for (const std::string_view element : elements)
      view.strings.push_back(texts_.emplace_back(element));
    return {};
  }

  void received(std::uint64_t engine_ns) {
    wanted_ = {};  // it was borrowed for the call
    engine_ns_ = engine_ns;
  }

 private:
  engine::OutputView& begin(std::size_t index, const wire::TensorHeader& header) {
    engine::OutputView& view = values_[index];
    view.type = static_cast<engine::ElementType>(header.type);
    view.dims = header.dims;
    return view;
  }
  Result<void> take(std::uint64_t size_bytes) {
    taken_bytes_ += size_bytes;
    if (memory_.limit_bytes == 0 || taken_bytes_ <= memory_.limit_bytes) return {};
    return error(ErrorKind::kRefused,
                 "the Run's outputs ({} bytes so far) are beyond the limit ({})", taken_bytes_,
                 memory_.limit_bytes);
  }

  std::span<const engine::OutputWanted> wanted_;
  const OutputMemory memory_;
  std::uint64_t taken_bytes_ = 0;
  std::vector<BufferPool::Buffer> buffers_;
  std::deque<std::string> texts_;
};

// What has come to where it was wanted.
class PlacedOutputs final : public engine::RunOutputs {
 public:
  PlacedOutputs(std::span<const engine::OutputWanted> wanted, std::uint64_t engine_ns) {
    for (const engine::OutputWanted& one : wanted)
      values_.push_back({.type = one.buffer->type,
                         .dims = {one.buffer->dims.begin(), one.buffer->dims.end()},
                         .data = one.buffer->data});
    engine_ns_ = engine_ns;
  }
};

}  // namespace

std::unique_ptr<engine::RunControl> make_worker_run_control() {
  return std::make_unique<Control>();
}

Result<std::unique_ptr<engine::RunOutputs>> run_in_worker(
    wire::RemoteSession& session, std::span<const engine::InputView> inputs,
    std::span<const engine::OutputWanted> outputs, engine::RunControl* control,
    OutputMemory memory) {
  std::vector<wire::InputTensor> tensors;
  tensors.reserve(inputs.size());
  std::deque<std::string> texts;
  for (const engine::InputView& input : inputs) {
    std::span<const std::byte> data = input.data;
    if (input.type == engine::ElementType::kString)
      data = std::as_bytes(std::span(texts.emplace_back(wire::encode_strings(input.strings))));
    tensors.push_back({.header = {.type = static_cast<wire::ElementType>(input.type),
                                  .dims = {input.dims.begin(), input.dims.end()},
                                  .data_bytes = data.size()},
                       .data = data});
  }
  std::vector<std::uint32_t> indices;
  indices.reserve(outputs.size());
  for (const engine::OutputWanted& output : outputs) indices.push_back(output.index);
  auto received = std::make_unique<Outputs>(outputs, memory);
  wire::CancelToken* const cancel =
      control == nullptr ? nullptr : &static_cast<Control*>(control)->token;
  OB_TRY(const auto account, session.run(indices, tensors, *received, cancel, {},
                                         control == nullptr ? 0 : control->request_id));
  received->received(account.server.compute_ns);
  return std::unique_ptr<engine::RunOutputs>(std::move(received));
}

Result<std::unique_ptr<engine::RunOutputs>> run_placed(
    wire::RemoteSession& placed, const Places& places,
    std::span<const engine::OutputWanted> outputs, engine::RunControl* control,
    OutputMemory memory) {
  const auto count = static_cast<std::int64_t>(places.numbers.size());
  const engine::InputView numbers{engine::ElementType::kInt64,
                                  std::span(&count, 1),
                                  std::as_bytes(std::span(places.numbers)),
                                  {}};
  const engine::OutputWanted there{};
  OB_TRY(const auto done,
         run_in_worker(placed, std::span(&numbers, 1), std::span(&there, 1), control, memory));
  return std::unique_ptr<engine::RunOutputs>(
      std::make_unique<PlacedOutputs>(outputs, done->engine_ns()));
}

}  // namespace outboard::serve
