// SPDX-License-Identifier: Apache-2.0
// One Run of a stub session: the inputs are taken where they lie, sent, and the wanted outputs are
// received into the memory that the runtime allocates for them. One round trip. When the server
// cannot answer, the original model is run here with the same values.
#include <cstring>
#include <memory>

#include "base/cursor.h"
#include "intercept/common/run.h"
#include "intercept/onnxruntime/model_session.h"
#include "intercept/onnxruntime/run_frame.h"
#include "intercept/onnxruntime/stub_session.h"
#include "intercept/onnxruntime/values.h"

namespace outboard::intercept::onnxruntime {
namespace {

// The runtime's own words and code for a Run that was ended by its run options.
constexpr const char* kTerminated = "Exiting due to terminate flag being set to true.";

struct Inputs {
  std::vector<const OrtValue*> values;
  std::vector<wire::InputTensor> tensors;
  std::vector<std::string> encoded;  // of string tensors
};

Result<void> take_input(const StubSession& stub, OrtKernelContext* context, std::size_t index,
                        Inputs& inputs) {
  const Runtime& runtime = stub.runtime;
  const OrtValue* value = nullptr;
  OB_ORT(runtime, runtime.ort.KernelContext_GetInput(context, index, &value));
  inputs.values.push_back(value);
  wire::InputTensor tensor;
  tensor.header.type = stub.signature.inputs[index];
  OB_TRY(tensor.header.dims, dims_of(runtime, value));
  if (tensor.header.type == wire::ElementType::kString) {
    std::string storage;
    const auto count = wire::element_count(tensor.header.dims).value_or(0);
    OB_TRY(const auto strings, strings_of(runtime, value, count, storage));
    inputs.encoded.push_back(wire::encode_strings(strings));
    tensor.data = as_byte_span(inputs.encoded.back());
    tensor.header.data_bytes = tensor.data.size();
  } else {
    OB_TRY(tensor.header.data_bytes, wire::size_bytes(tensor.header.type, tensor.header.dims));
    void* data = nullptr;
    OB_ORT(runtime, runtime.ort.GetTensorMutableData(const_cast<OrtValue*>(value), &data));
    tensor.data = {static_cast<const std::byte*>(data), tensor.header.data_bytes};
  }
  inputs.tensors.push_back(std::move(tensor));
  return {};
}

Result<Inputs> take_inputs(const StubSession& stub, OrtKernelContext* context) {
  Inputs inputs;
  const std::size_t count = stub.signature.inputs.size();
  inputs.values.reserve(count);
  inputs.tensors.reserve(count);
  inputs.encoded.reserve(count);  // views into its elements are handed out
  for (std::size_t i = 0; i < count; ++i) OB_CHECK_OK(take_input(stub, context, i, inputs));
  return inputs;
}

// Positions among the model's outputs that this Run is asked for, without those that are inputs.
std::vector<std::uint32_t> wanted_outputs(const StubSession& stub, const RunFrame* frame) {
  const StubSignature& signature = stub.signature;
  std::vector<std::uint32_t> wanted;
  if (frame != nullptr && frame->output_indices) {
    for (const std::uint32_t i : *frame->output_indices) {
      if (i < signature.node_output.size() && signature.node_output[i] >= 0) wanted.push_back(i);
    }
    return wanted;
  }
  if (frame == nullptr || frame->output_names.empty() ||
      frame->output_names.size() == stub.output_names.size()) {
    return stub.all_outputs;
  }
  for (const std::uint32_t i : stub.all_outputs) {
    for (const char* name : frame->output_names) {
      if (std::strcmp(name, stub.output_names[i]) == 0) {
        wanted.push_back(i);
        break;
      }
    }
  }
  return wanted;
}

// Allocates outputs where the runtime wants them.
class KernelSink final : public wire::OutputSink {
 public:
  KernelSink(const StubSession& stub, OrtKernelContext* context,
             std::span<const std::uint32_t> wanted)
      : stub_(stub), context_(context), wanted_(wanted) {}

  Result<std::span<std::byte>> allocate(std::size_t index,
                                        const wire::TensorHeader& header) override {
    OB_TRY(const std::uint64_t size, wire::size_bytes(header.type, header.dims));
    if (size != header.data_bytes) {
      return error(ErrorKind::kInvalid, "server sent {} bytes for an output of {} bytes",
                   header.data_bytes, size);
    }
    OB_TRY(OrtValue * value, output(index, header));
    void* data = nullptr;
    OB_ORT(stub_.runtime, stub_.runtime.ort.GetTensorMutableData(value, &data));
    return std::span<std::byte>(static_cast<std::byte*>(data), size);
  }

  Result<void> strings(std::size_t index, const wire::TensorHeader& header,
                       std::span<const std::string_view> elements) override {
    OB_TRY(OrtValue * value, output(index, header));
    std::vector<std::string> owned(elements.begin(), elements.end());
    std::vector<const char*> pointers;
    pointers.reserve(owned.size());
    for (const std::string& text : owned) pointers.push_back(text.c_str());
    OB_ORT(stub_.runtime,
           stub_.runtime.ort.FillStringTensor(value, pointers.data(), pointers.size()));
    return {};
  }

 private:
  Result<OrtValue*> output(std::size_t index, const wire::TensorHeader& header) {
    const std::uint32_t position = wanted_[index];
    const auto& expected = stub_.description.outputs[position];
    if (header.type != expected.type) {
      return error(ErrorKind::kInvalid, "server sent output ({}) as {}, expected {}", expected.name,
                   wire::name_of(header.type), wire::name_of(expected.type));
    }
    OrtValue* value = nullptr;
    const auto node_output = static_cast<std::size_t>(stub_.signature.node_output[position]);
    OB_ORT(stub_.runtime,
           stub_.runtime.ort.KernelContext_GetOutput(context_, node_output, header.dims.data(),
                                                     header.dims.size(), &value));
    return value;
  }

  const StubSession& stub_;
  OrtKernelContext* const context_;
  const std::span<const std::uint32_t> wanted_;
};

class KernelRun final : public ProgramRun {
 public:
  KernelRun(const StubSession& stub, OrtKernelContext* context, const RunFrame* frame,
            const Inputs& inputs, std::span<const std::uint32_t> wanted)
      : stub_(stub),
        frame_(frame),
        inputs_(inputs),
        wanted_(wanted),
        sink_(stub, context, wanted) {}

  std::span<const std::uint32_t> wanted() const override { return wanted_; }
  std::span<const wire::InputTensor> inputs() const override { return inputs_.tensors; }
  wire::OutputSink& outputs() override { return sink_; }
  wire::CancelToken* cancel() const override {
    return frame_ == nullptr ? nullptr : frame_->cancel;
  }

  Result<void> run_here(LocalModel& model) override {
    const OrtApi& ort = stub_.runtime.ort;
    OrtSession* session = static_cast<ModelSession&>(model).get();
    if (session == nullptr) {
      return tl::make_unexpected(Error{
          ErrorKind::kUnimplemented, "the program's side answers this Run", kAnsweredByTheProgram});
    }
    std::vector<const char*> names;
    names.reserve(wanted_.size());
    for (const std::uint32_t i : wanted_) names.push_back(stub_.output_names[i]);
    std::vector<OrtValue*> values(wanted_.size(), nullptr);
    // Without the program's own options (Python's cannot be seen) others take the cancel.
    OrtRunOptions* made = nullptr;
    const OrtRunOptions* options = frame_ == nullptr ? nullptr : frame_->options;
    if (options == nullptr && cancel() != nullptr) {
      OB_ORT(stub_.runtime, ort.CreateRunOptions(&made));
      options = made;
    }
    const std::unique_ptr<OrtRunOptions, decltype(OrtApi::ReleaseRunOptions)> owned(
        made, ort.ReleaseRunOptions);
    const wire::CancelWatch watch(made == nullptr ? nullptr : cancel(), [&ort, made](bool) {
      if (OrtStatus* failed = ort.RunOptionsSetTerminate(made)) ort.ReleaseStatus(failed);
    });
    OrtStatus* status = ort.Run(session, options, stub_.input_names.data(), inputs_.values.data(),
                                inputs_.values.size(), names.data(), names.size(), values.data());
    Result<void> done;
    if (status != nullptr) done = tl::make_unexpected(to_error(stub_.runtime, status));
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (done) {
        done = give_output(stub_.runtime, *values[i], stub_.description.outputs[wanted_[i]].type, i,
                           sink_);
      }
      if (values[i] != nullptr) ort.ReleaseValue(values[i]);
    }
    return done;
  }

 private:
  const StubSession& stub_;
  const RunFrame* const frame_;
  const Inputs& inputs_;
  const std::span<const std::uint32_t> wanted_;
  KernelSink sink_;
};

}  // namespace

Result<void> answer_run(const StubSession& stub, OrtKernelContext* context) {
  const RunFrame* frame = RunFrame::innermost();
  const std::vector<std::uint32_t> wanted = wanted_outputs(stub, frame);
  if (wanted.empty()) return {};  // asked for nothing but its own inputs: the runtime has them
  OB_TRY(const Inputs inputs, take_inputs(stub, context));
  KernelRun run(stub, context, frame, inputs, wanted);
  auto done = answer(*stub.session, run);
  if (!done && done.error().kind == ErrorKind::kCancelled)
    return tl::make_unexpected(Error{ErrorKind::kEngine, kTerminated, ORT_FAIL});
  return done;
}

}  // namespace outboard::intercept::onnxruntime
