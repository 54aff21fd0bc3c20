// SPDX-License-Identifier: Apache-2.0
#include "engine/onnxruntime/session.h"

#include <utility>

#include "engine/element_type.h"

namespace outboard::engine {
namespace {

// The table's getters of values come in families: inputs, outputs, overridable initializers.
struct ValueGetters {
  decltype(OrtApi::SessionGetInputCount) count;
  decltype(OrtApi::SessionGetInputName) name;
  decltype(OrtApi::SessionGetInputTypeInfo) type;
};

std::string kind_name(ONNXType type) {
  switch (type) {
    case ONNX_TYPE_TENSOR:
      return "tensor";
    case ONNX_TYPE_SEQUENCE:
      return "sequence";
    case ONNX_TYPE_MAP:
      return "map";
    case ONNX_TYPE_OPAQUE:
      return "opaque";
    case ONNX_TYPE_SPARSETENSOR:
      return "sparse tensor";
    case ONNX_TYPE_OPTIONAL:
      return "optional";
    default:
      return "unknown";
  }
}

// Takes a string that the library allocated.
std::string take_string(const Library& library, char* text) {
  std::string copy = text == nullptr ? "" : text;
  if (text != nullptr) library.allocator()->Free(library.allocator(), text);
  return copy;
}

Result<void> read_shape(const Library& library, const OrtTensorTypeAndShapeInfo* info,
                        ValueInfo& value) {
  const OrtApi& api = library.api();
  ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
  OB_CHECK_OK(library.check(api.GetTensorElementType(info, &type)));
  value.type = static_cast<ElementType>(type);
  if (name_of(value.type) == "undefined") value.type = ElementType::kUndefined;  // newer than ours
  std::size_t rank = 0;
  OB_CHECK_OK(library.check(api.GetDimensionsCount(info, &rank)));
  // The API shows a scalar and a value without any shape alike, and checks neither at Run.
  value.has_shape = rank > 0;
  value.dims.resize(rank);
  OB_CHECK_OK(library.check(api.GetDimensions(info, value.dims.data(), rank)));
  std::vector<const char*> names(rank, nullptr);
  OB_CHECK_OK(library.check(api.GetSymbolicDimensions(info, names.data(), rank)));
  for (const char* name : names) value.dim_names.emplace_back(name == nullptr ? "" : name);
  return {};
}

Result<ValueInfo> read_value(const Library& library, const OrtSession* session,
                             const ValueGetters& getters, std::size_t index) {
  const OrtApi& api = library.api();
  ValueInfo value;
  char* name = nullptr;
  OB_CHECK_OK(library.check(getters.name(session, index, library.allocator(), &name)));
  value.name = take_string(library, name);
  Owned<OrtTypeInfo> type(api.ReleaseTypeInfo);
  OB_CHECK_OK(library.check(getters.type(session, index, type.out())));
  ONNXType kind = ONNX_TYPE_UNKNOWN;
  OB_CHECK_OK(library.check(api.GetOnnxTypeFromTypeInfo(type.get(), &kind)));
  value.kind = kind_name(kind);
  if (kind != ONNX_TYPE_TENSOR) return value;
  const OrtTensorTypeAndShapeInfo* shape = nullptr;
  OB_CHECK_OK(library.check(api.CastTypeInfoToTensorInfo(type.get(), &shape)));
  if (shape == nullptr) return value;
  OB_CHECK_OK(read_shape(library, shape, value));
  return value;
}

Result<std::vector<ValueInfo>> read_family(const Library& library, const OrtSession* session,
                                           const ValueGetters& getters) {
  std::size_t count = 0;
  OB_CHECK_OK(library.check(getters.count(session, &count)));
  std::vector<ValueInfo> values;
  values.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    OB_TRY(auto value, read_value(library, session, getters, i));
    values.push_back(std::move(value));
  }
  return values;
}

}  // namespace

OnnxRuntimeSession::OnnxRuntimeSession(std::shared_ptr<const Library> library,
                                       Owned<OrtSession> session,
                                       std::vector<Owned<OrtValue>> shared)
    : library_(std::move(library)), shared_(std::move(shared)), session_(std::move(session)) {}

Result<std::shared_ptr<Session>> OnnxRuntimeSession::make(std::shared_ptr<const Library> library,
                                                          Owned<OrtSession> session,
                                                          std::vector<Owned<OrtValue>> shared) {
  std::shared_ptr<OnnxRuntimeSession> made(
      new OnnxRuntimeSession(std::move(library), std::move(session), std::move(shared)));
  OB_CHECK_OK(made->read_values());
  OB_CHECK_OK(made->read_metadata());
  for (const ValueInfo& input : made->info_.inputs)
    made->input_names_.push_back(input.name.c_str());
  return std::shared_ptr<Session>(std::move(made));
}

Result<void> OnnxRuntimeSession::read_values() {
  const OrtApi& api = library_->api();
  OB_TRY(info_.inputs, read_family(*library_, session_.get(),
                                   {api.SessionGetInputCount, api.SessionGetInputName,
                                    api.SessionGetInputTypeInfo}));
  OB_TRY(info_.outputs, read_family(*library_, session_.get(),
                                    {api.SessionGetOutputCount, api.SessionGetOutputName,
                                     api.SessionGetOutputTypeInfo}));
  OB_TRY(const auto initializers, read_family(*library_, session_.get(),
                                              {api.SessionGetOverridableInitializerCount,
                                               api.SessionGetOverridableInitializerName,
                                               api.SessionGetOverridableInitializerTypeInfo}));
  for (const ValueInfo& initializer : initializers)
    info_.overridable_initializers.push_back(initializer.name);
  return {};
}

Result<void> OnnxRuntimeSession::read_metadata() {
  const OrtApi& api = library_->api();
  Owned<OrtModelMetadata> metadata(api.ReleaseModelMetadata);
  OB_CHECK_OK(library_->check(api.SessionGetModelMetadata(session_.get(), metadata.out())));
  const auto read = [&](auto getter, std::string& into) -> Result<void> {
    char* text = nullptr;
    OB_CHECK_OK(library_->check(getter(metadata.get(), library_->allocator(), &text)));
    into = take_string(*library_, text);
    return {};
  };
  OB_CHECK_OK(read(api.ModelMetadataGetProducerName, info_.producer));
  OB_CHECK_OK(read(api.ModelMetadataGetGraphName, info_.graph_name));
  OB_CHECK_OK(read(api.ModelMetadataGetGraphDescription, info_.graph_description));
  OB_CHECK_OK(read(api.ModelMetadataGetDomain, info_.domain));
  OB_CHECK_OK(read(api.ModelMetadataGetDescription, info_.description));
  OB_CHECK_OK(library_->check(api.ModelMetadataGetVersion(metadata.get(), &info_.version)));
  char** keys = nullptr;
  std::int64_t count = 0;
  OB_CHECK_OK(library_->check(api.ModelMetadataGetCustomMetadataMapKeys(
      metadata.get(), library_->allocator(), &keys, &count)));
  for (std::int64_t i = 0; i < count; ++i) {
    char* value = nullptr;
    auto status = library_->check(api.ModelMetadataLookupCustomMetadataMap(
        metadata.get(), library_->allocator(), keys[i], &value));
    std::string key = take_string(*library_, keys[i]);
    if (status) info_.custom_metadata.emplace(std::move(key), take_string(*library_, value));
  }
  if (keys != nullptr) library_->allocator()->Free(library_->allocator(), static_cast<void*>(keys));
  return {};
}

OnnxRuntimeRunControl::OnnxRuntimeRunControl(std::shared_ptr<const Library> library)
    : library_(std::move(library)), options_(library_->api().ReleaseRunOptions) {
  // Fails only without memory; a Run without options cannot be terminated, and works.
  (void)library_->check(library_->api().CreateRunOptions(options_.out()));
}

void OnnxRuntimeRunControl::terminate() {
  terminated_ = true;
  if (options_.get() != nullptr)
    (void)library_->check(library_->api().RunOptionsSetTerminate(options_.get()));
}

void OnnxRuntimeRunControl::reset() {
  terminated_ = false;
  if (options_.get() != nullptr)
    (void)library_->check(library_->api().RunOptionsUnsetTerminate(options_.get()));
}

}  // namespace outboard::engine
