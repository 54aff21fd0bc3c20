// SPDX-License-Identifier: Apache-2.0
#include "intercept/onnxruntime/describe.h"

#include <memory>
#include <utility>

namespace outboard::intercept::onnxruntime {
namespace {

using OwnedType = std::unique_ptr<OrtTypeInfo, decltype(OrtApi::ReleaseTypeInfo)>;

const char* kind_name(ONNXType type) {
  switch (type) {
    case ONNX_TYPE_SEQUENCE:
      return "a sequence";
    case ONNX_TYPE_MAP:
      return "a map";
    case ONNX_TYPE_SPARSETENSOR:
      return "a sparse tensor";
    case ONNX_TYPE_OPTIONAL:
      return "optional";
    default:
      return "no tensor";
  }
}

// One of the two families of getters, inputs or outputs.
struct Family {
  const char* what;
  decltype(OrtApi::SessionGetInputCount) count;
  decltype(OrtApi::SessionGetInputName) name;
  decltype(OrtApi::SessionGetInputTypeInfo) type;
};

class Describer {
 public:
  Describer(const Runtime& runtime, const OrtSession* session)
      : runtime_(runtime), ort_(runtime.ort), session_(session) {}

  Result<wire::SessionDescription> describe() {
    OB_ORT(runtime_, ort_.GetAllocatorWithDefaultOptions(&allocator_));
    std::size_t overridable = 0;
    OB_ORT(runtime_, ort_.SessionGetOverridableInitializerCount(session_, &overridable));
    if (overridable > 0) {
      return error(ErrorKind::kRefused, "model has initializers ({}) that a Run may override",
                   overridable);
    }
    wire::SessionDescription result;
    OB_TRY(result.inputs, values({"input", ort_.SessionGetInputCount, ort_.SessionGetInputName,
                                  ort_.SessionGetInputTypeInfo}));
    OB_TRY(result.outputs, values({"output", ort_.SessionGetOutputCount, ort_.SessionGetOutputName,
                                   ort_.SessionGetOutputTypeInfo}));
    OB_CHECK_OK(metadata(result));
    return result;
  }

 private:
  std::string take(char* text) {
    std::string copy = text == nullptr ? "" : text;
    if (text != nullptr) allocator_->Free(allocator_, text);
    return copy;
  }

  Result<std::vector<wire::ValueDescription>> values(const Family& family) {
    std::size_t count = 0;
    OB_ORT(runtime_, family.count(session_, &count));
    std::vector<wire::ValueDescription> result(count);
    for (std::size_t i = 0; i < count; ++i) {
      char* name = nullptr;
      OB_ORT(runtime_, family.name(session_, i, allocator_, &name));
      result[i].name = take(name);
      OrtTypeInfo* raw = nullptr;
      OB_ORT(runtime_, family.type(session_, i, &raw));
      const OwnedType type(raw, ort_.ReleaseTypeInfo);
      OB_CHECK_OK(value_type(*type, family.what, result[i]));
    }
    return result;
  }

  Result<void> value_type(const OrtTypeInfo& type, const char* what,
                          wire::ValueDescription& value) {
    ONNXType kind = ONNX_TYPE_UNKNOWN;
    OB_ORT(runtime_, ort_.GetOnnxTypeFromTypeInfo(&type, &kind));
    const OrtTensorTypeAndShapeInfo* info = nullptr;
    if (kind == ONNX_TYPE_TENSOR) OB_ORT(runtime_, ort_.CastTypeInfoToTensorInfo(&type, &info));
    if (info == nullptr) {
      return error(ErrorKind::kRefused, "{} ({}) is {}, and only tensors travel", what, value.name,
                   kind_name(kind));
    }
    ONNXTensorElementDataType element = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
    OB_ORT(runtime_, ort_.GetTensorElementType(info, &element));
    value.type = static_cast<wire::ElementType>(element);
    std::size_t rank = 0;
    OB_ORT(runtime_, ort_.GetDimensionsCount(info, &rank));
    // The API shows a scalar and a value without any shape alike.
    value.has_shape = rank > 0;
    value.dims.resize(rank);
    OB_ORT(runtime_, ort_.GetDimensions(info, value.dims.data(), rank));
    std::vector<const char*> names(rank, nullptr);
    OB_ORT(runtime_, ort_.GetSymbolicDimensions(info, names.data(), rank));
    for (const char* name : names) value.dim_names.emplace_back(name == nullptr ? "" : name);
    return {};
  }

  Result<void> metadata(wire::SessionDescription& result) {
    OrtModelMetadata* raw = nullptr;
    OB_ORT(runtime_, ort_.SessionGetModelMetadata(session_, &raw));
    const std::unique_ptr<OrtModelMetadata, decltype(OrtApi::ReleaseModelMetadata)> meta(
        raw, ort_.ReleaseModelMetadata);
    struct Text {
      decltype(OrtApi::ModelMetadataGetProducerName) getter;
      std::string* into;
    };
    const Text texts[] = {{ort_.ModelMetadataGetProducerName, &result.producer},
                          {ort_.ModelMetadataGetGraphName, &result.graph_name},
                          {ort_.ModelMetadataGetGraphDescription, &result.graph_description},
                          {ort_.ModelMetadataGetDomain, &result.domain},
                          {ort_.ModelMetadataGetDescription, &result.description}};
    for (const auto& [getter, into] : texts) {
      char* text = nullptr;
      OB_ORT(runtime_, getter(meta.get(), allocator_, &text));
      *into = take(text);
    }
    OB_ORT(runtime_, ort_.ModelMetadataGetVersion(meta.get(), &result.version));
    char** keys = nullptr;
    std::int64_t count = 0;
    OB_ORT(runtime_,
           ort_.ModelMetadataGetCustomMetadataMapKeys(meta.get(), allocator_, &keys, &count));
    for (std::int64_t i = 0; i < count; ++i) {
      std::string key = take(keys[i]);
      char* value = nullptr;
      OB_ORT(runtime_, ort_.ModelMetadataLookupCustomMetadataMap(meta.get(), allocator_,
                                                                 key.c_str(), &value));
      result.custom_metadata.emplace(std::move(key), take(value));
    }
    if (keys != nullptr) allocator_->Free(allocator_, static_cast<void*>(keys));
    return {};
  }

  const Runtime& runtime_;
  const OrtApi& ort_;
  const OrtSession* session_;
  OrtAllocator* allocator_ = nullptr;
};

}  // namespace

Result<wire::SessionDescription> describe(const Runtime& runtime, const OrtSession* session) {
  return Describer(runtime, session).describe();
}

}  // namespace outboard::intercept::onnxruntime
