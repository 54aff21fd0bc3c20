// SPDX-License-Identifier: Apache-2.0
#include "intercept/onnxruntime/values.h"

#include <cstring>

namespace outboard::intercept::onnxruntime {

Result<std::vector<std::int64_t>> dims_of(const Runtime& runtime, const OrtValue* value) {
  OrtTensorTypeAndShapeInfo* info = nullptr;
  OB_ORT(runtime, runtime.ort.GetTensorTypeAndShape(value, &info));
  std::size_t rank = 0;
  std::vector<std::int64_t> dims;
  OrtStatus* status = runtime.ort.GetDimensionsCount(info, &rank);
  if (status == nullptr) {
    dims.resize(rank);
    status = runtime.ort.GetDimensions(info, dims.data(), rank);
  }
  runtime.ort.ReleaseTensorTypeAndShapeInfo(info);
  OB_ORT(runtime, status);
  return dims;
}

// The strings of a tensor, as views into `storage`.
Result<std::vector<std::string_view>> strings_of(const Runtime& runtime, const OrtValue* value,
                                                 std::size_t count, std::string& storage) {
  std::size_t total = 0;
  OB_ORT(runtime, runtime.ort.GetStringTensorDataLength(value, &total));
  storage.resize(total);
  std::vector<std::size_t> offsets(count);
  if (count > 0) {
    OB_ORT(runtime,
           runtime.ort.GetStringTensorContent(value, storage.data(), total, offsets.data(), count));
  }
  std::vector<std::string_view> strings;
  strings.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t end = i + 1 < count ? offsets[i + 1] : total;
    strings.push_back(std::string_view(storage).substr(offsets[i], end - offsets[i]));
  }
  return strings;
}

Result<void> give_output(const Runtime& runtime, OrtValue& value, wire::ElementType type,
                         std::size_t index, wire::OutputSink& sink) {
  wire::TensorHeader header;
  header.type = type;
  OB_TRY(header.dims, dims_of(runtime, &value));
  if (type == wire::ElementType::kString) {
    std::string storage;
    const auto count = wire::element_count(header.dims).value_or(0);
    OB_TRY(const auto strings, strings_of(runtime, &value, count, storage));
    return sink.strings(index, header, strings);
  }
  OB_TRY(header.data_bytes, wire::size_bytes(type, header.dims));
  OB_TRY(const std::span<std::byte> memory, sink.allocate(index, header));
  void* data = nullptr;
  OB_ORT(runtime, runtime.ort.GetTensorMutableData(&value, &data));
  if (!memory.empty()) std::memcpy(memory.data(), data, memory.size());
  return {};
}

Result<Owned<OrtValue>> value_of(const Runtime& runtime, const wire::InputTensor& input) {
  const OrtApi& ort = runtime.ort;
  const wire::TensorHeader& header = input.header;
  OrtValue* made = nullptr;
  const auto type = static_cast<ONNXTensorElementDataType>(header.type);
  if (header.type != wire::ElementType::kString) {
    OrtMemoryInfo* memory = nullptr;
    OB_ORT(runtime, ort.CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, &memory));
    const Owned<OrtMemoryInfo> owned(memory, ort.ReleaseMemoryInfo);
    OB_ORT(runtime, ort.CreateTensorWithDataAsOrtValue(
                        memory, const_cast<std::byte*>(input.data.data()), input.data.size(),
                        header.dims.data(), header.dims.size(), type, &made));
    return Owned<OrtValue>(made, ort.ReleaseValue);
  }
  OrtAllocator* allocator = nullptr;
  OB_ORT(runtime, ort.GetAllocatorWithDefaultOptions(&allocator));
  OB_ORT(runtime, ort.CreateTensorAsOrtValue(allocator, header.dims.data(), header.dims.size(),
                                             type, &made));
  Owned<OrtValue> value(made, ort.ReleaseValue);
  OB_TRY(const auto elements,
         wire::decode_strings(input.data, wire::element_count(header.dims).value_or(0)));
  const std::vector<std::string> strings(elements.begin(), elements.end());
  std::vector<const char*> pointers;
  pointers.reserve(strings.size());
  for (const std::string& text : strings) pointers.push_back(text.c_str());
  OB_ORT(runtime, ort.FillStringTensor(made, pointers.data(), pointers.size()));
  return value;
}

}  // namespace outboard::intercept::onnxruntime
