// SPDX-License-Identifier: Apache-2.0
// A Run: inputs as values over the caller's memory, outputs as views of the library's.
#include <utility>

#include "engine/element_type.h"
#include "engine/onnxruntime/session.h"

namespace outboard::engine {
namespace {

// A Run's values, given back together.
class Values {
 public:
  Values(const Library& library, std::size_t count) : library_(&library), values_(count, nullptr) {}
  Values(Values&& other) noexcept = default;
  Values& operator=(Values&&) = delete;
  ~Values() {
    for (OrtValue* value : values_)
      if (value != nullptr) library_->api().ReleaseValue(value);
  }
  OrtValue*& operator[](std::size_t i) { return values_[i]; }
  OrtValue** data() { return values_.data(); }
  std::size_t size() const { return values_.size(); }

 private:
  const Library* library_;
  std::vector<OrtValue*> values_;
};

class OnnxRuntimeOutputs final : public RunOutputs {
 public:
  OnnxRuntimeOutputs(std::shared_ptr<const Library> library, Values values)
      : library_(std::move(library)), outputs_(std::move(values)) {}
  Result<void> read(const ModelInfo& info, std::span<const OutputWanted> wanted);

 private:
  Result<void> read_strings(OrtValue* value, std::size_t count, OutputView& view);

  std::shared_ptr<const Library> library_;
  Values outputs_;
  std::vector<std::string> texts_;  // what the views of string outputs point into
};

Result<void> fill_strings(const Library& library, std::span<const std::string_view> strings,
                          OrtValue* value) {
  const OrtApi& api = library.api();
  if (library.api_version() >= 15) {
    for (std::size_t i = 0; i < strings.size(); ++i) {
      char* target = nullptr;
      OB_CHECK_OK(library.check(
          api.GetResizedStringTensorElementBuffer(value, i, strings[i].size(), &target)));
      strings[i].copy(target, strings[i].size());
    }
    return {};
  }
  // Older libraries take C strings: an element ends at its first NUL.
  std::vector<std::string> copies(strings.begin(), strings.end());
  std::vector<const char*> pointers;
  pointers.reserve(copies.size());
  for (const std::string& copy : copies) pointers.push_back(copy.c_str());
  return library.check(api.FillStringTensor(value, pointers.data(), pointers.size()));
}

Result<void> make_input(const Library& library, const InputView& input, OrtValue*& value) {
  const OrtApi& api = library.api();
  const auto type = static_cast<ONNXTensorElementDataType>(input.type);
  if (input.type != ElementType::kString) {
    // The API takes a mutable pointer for both directions; inputs are only read.
    auto* data = const_cast<std::byte*>(input.data.data());
    static std::byte empty;
    if (data == nullptr) data = &empty;
    return library.check(api.CreateTensorWithDataAsOrtValue(library.cpu_memory(), data,
                                                            input.data.size(), input.dims.data(),
                                                            input.dims.size(), type, &value));
  }
  if (element_count(input.dims) != input.strings.size())
    return error(ErrorKind::kInvalid, "the number of strings ({}) is not what the shape says",
                 input.strings.size());
  OB_CHECK_OK(library.check(api.CreateTensorAsOrtValue(library.allocator(), input.dims.data(),
                                                       input.dims.size(), type, &value)));
  return fill_strings(library, input.strings, value);
}

Result<void> OnnxRuntimeOutputs::read_strings(OrtValue* value, std::size_t count,
                                              OutputView& view) {
  const OrtApi& api = library_->api();
  std::size_t total = 0;
  OB_CHECK_OK(library_->check(api.GetStringTensorDataLength(value, &total)));
  std::string text(total, '\0');
  std::vector<std::size_t> offsets(count);
  OB_CHECK_OK(library_->check(
      api.GetStringTensorContent(value, text.data(), text.size(), offsets.data(), count)));
  const std::string_view all = texts_.emplace_back(std::move(text));
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t end = i + 1 < count ? offsets[i + 1] : total;
    view.strings.push_back(all.substr(offsets[i], end - offsets[i]));
  }
  return {};
}

Result<void> OnnxRuntimeOutputs::read(const ModelInfo& info, std::span<const OutputWanted> wanted) {
  const OrtApi& api = library_->api();
  values_.resize(outputs_.size());
  texts_.reserve(outputs_.size());  // views must not move
  for (std::size_t i = 0; i < outputs_.size(); ++i) {
    OutputView& view = values_[i];
    int is_tensor = 0;
    if (outputs_[i] != nullptr) OB_CHECK_OK(library_->check(api.IsTensor(outputs_[i], &is_tensor)));
    if (is_tensor == 0)
      return error(ErrorKind::kUnimplemented, "the output ({}) is not a tensor",
                   info.outputs[wanted[i].index].name);
    Owned<OrtTensorTypeAndShapeInfo> shape(api.ReleaseTensorTypeAndShapeInfo);
    OB_CHECK_OK(library_->check(api.GetTensorTypeAndShape(outputs_[i], shape.out())));
    ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
    OB_CHECK_OK(library_->check(api.GetTensorElementType(shape.get(), &type)));
    std::size_t rank = 0;
    OB_CHECK_OK(library_->check(api.GetDimensionsCount(shape.get(), &rank)));
    view.type = static_cast<ElementType>(type);
    view.dims.resize(rank);
    OB_CHECK_OK(library_->check(api.GetDimensions(shape.get(), view.dims.data(), rank)));
    const auto count = element_count(view.dims);
    if (!count || (bits_of(view.type) == 0 && view.type != ElementType::kString))
      return error(ErrorKind::kUnimplemented, "the output ({}) is of an unknown type ({})",
                   info.outputs[wanted[i].index].name, static_cast<int>(type));
    if (view.type == ElementType::kString) {
      OB_CHECK_OK(read_strings(outputs_[i], *count, view));
      continue;
    }
    void* data = nullptr;
    OB_CHECK_OK(library_->check(api.GetTensorMutableData(outputs_[i], &data)));
    view.data = {static_cast<const std::byte*>(data), size_bytes(view.type, view.dims).value_or(0)};
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<RunOutputs>> OnnxRuntimeSession::run(std::span<const InputView> inputs,
                                                            std::span<const OutputWanted> outputs,
                                                            RunControl* control) {
  const Library& library = *library_;
  const OrtApi& api = library.api();
  if (inputs.size() != info_.inputs.size())
    return error(ErrorKind::kInvalid, "the number of inputs ({}) must be the model's ({})",
                 inputs.size(), info_.inputs.size());
  Values values(library, inputs.size());
  for (std::size_t i = 0; i < inputs.size(); ++i)
    if (auto made = make_input(library, inputs[i], values[i]); !made)
      return tl::make_unexpected(
          std::move(made.error()).while_doing("taking input (" + info_.inputs[i].name + ")"));

  std::vector<const char*> names;
  names.reserve(outputs.size());
  Values results(library, outputs.size());
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    if (outputs[i].index >= info_.outputs.size())
      return error(ErrorKind::kInvalid, "the output's index ({}) must be less than the count ({})",
                   outputs[i].index, info_.outputs.size());
    names.push_back(info_.outputs[outputs[i].index].name.c_str());
    if (const OutputBuffer* buffer = outputs[i].buffer)
      OB_CHECK_OK(library.check(api.CreateTensorWithDataAsOrtValue(
          library.cpu_memory(), buffer->data.data(), buffer->data.size(), buffer->dims.data(),
          buffer->dims.size(), static_cast<ONNXTensorElementDataType>(buffer->type), &results[i])));
  }

  auto* our_control = static_cast<OnnxRuntimeRunControl*>(control);
  auto ran = library.check(api.Run(session_.get(),
                                   our_control == nullptr ? nullptr : our_control->options(),
                                   input_names_.data(), values.data(), values.size(), names.data(),
                                   names.size(), results.data()));
  if (!ran) {
    if (our_control != nullptr && our_control->is_terminated())
      ran.error().kind = ErrorKind::kCancelled;
    return tl::make_unexpected(std::move(ran).error());
  }
  auto made = std::make_unique<OnnxRuntimeOutputs>(library_, std::move(results));
  OB_CHECK_OK(made->read(info_, outputs));
  return std::unique_ptr<RunOutputs>(std::move(made));
}

}  // namespace outboard::engine
