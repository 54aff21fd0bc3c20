// SPDX-License-Identifier: Apache-2.0
// Control messages to and from FlatBuffers. Every buffer is verified first; every string and list
// is then checked against base/limits.h; then it is copied out.
#include <wire/control_generated.h>

#include <cstring>

#include "base/limits.h"
#include "wire/messages.h"
#include "wire/model_package.h"

namespace outboard::wire {
namespace {

using flatbuffers::FlatBufferBuilder;
using flatbuffers::Offset;
using flatbuffers::String;
template <typename T>
using List = flatbuffers::Vector<T>;

template <typename Table>
std::string finish(FlatBufferBuilder& builder, Offset<Table> root) {
  builder.Finish(root);
  return {reinterpret_cast<const char*>(builder.GetBufferPointer()), builder.GetSize()};
}

// The verified root, or kInvalid. Depth and number of tables bound what a hostile buffer can cost.
template <typename Table>
Result<const Table*> verified_root(Bytes bytes, std::string_view what) {
  const auto* data = reinterpret_cast<const std::uint8_t*>(bytes.data());
  flatbuffers::Verifier verifier(data, bytes.size(), /*max_depth=*/8, /*max_tables=*/200'000);
  if (bytes.size() < 8 || !verifier.VerifyBuffer<Table>(nullptr))
    return error(ErrorKind::kInvalid, "{} message ({} bytes) is malformed", what, bytes.size());
  return flatbuffers::GetRoot<Table>(data);
}

// An element of a vector of scalars. The verifier does not check that a vector's 8-byte elements
// are aligned, so a hostile buffer may have them anywhere.
template <typename T>
T element(const List<T>* list, std::size_t index) {
  T value;
  std::memcpy(&value, list->Data() + index * sizeof(T), sizeof(T));
  return value;
}

// Copies fields out, remembering the first one that is over its limit.
class Fields {
 public:
  explicit Fields(std::string_view message) : message_(message) {}

  std::string text(const String* field, std::string_view name,
                   std::size_t limit = limits::kTextBytes) {
    if (field == nullptr) return {};
    if (field->size() > limit) {
      fail(name, field->size(), limit);
      return {};
    }
    return field->str();
  }
  template <typename T>
  std::size_t count(const List<T>* field, std::string_view name, std::size_t limit) {
    if (field == nullptr) return 0;
    if (field->size() > limit) {
      fail(name, field->size(), limit);
      return 0;
    }
    return field->size();
  }
  Sha256 hash(const fbs::Hash* field, std::string_view name) {
    Sha256 value;
    if (field == nullptr) {
      if (failure_.empty())
        failure_ = fmt::format("{} of a {} message must be there", name, message_);
      return value;
    }
    std::memcpy(value.bytes.data(), field->bytes()->data(), value.bytes.size());
    return value;
  }
  template <typename Entry, typename Value>
  void entries(const List<Offset<Entry>>* field, std::string_view name,
               std::map<std::string, Value>& out) {
    for (std::size_t i = 0, n = count(field, name, limits::kValues); i < n; ++i) {
      const Entry* entry = field->Get(static_cast<unsigned>(i));
      if constexpr (std::is_same_v<Value, std::string>)
        out[text(entry->key(), name)] = text(entry->value(), name);
      else
        out[text(entry->key(), name)] = entry->value();
    }
  }
  Result<void> result() const {
    if (failure_.empty()) return {};
    return error(ErrorKind::kInvalid, "{}", failure_);
  }

 private:
  void fail(std::string_view name, std::size_t given, std::size_t limit) {
    if (failure_.empty())
      failure_ = fmt::format("{} of a {} message ({} long) must be at most {}", name, message_,
                             given, limit);
  }
  std::string_view message_;
  std::string failure_;
};

fbs::Hash to_hash(const Sha256& value) {
  return fbs::Hash(flatbuffers::span<const std::uint8_t, 32>(
      reinterpret_cast<const std::uint8_t*>(value.bytes.data()), value.bytes.size()));
}

Offset<List<Offset<fbs::Feature>>> to_features(FlatBufferBuilder& b,
                                               const std::vector<Feature>& features) {
  std::vector<Offset<fbs::Feature>> list;
  for (const Feature& f : features) {
    const auto data =
        b.CreateVector(reinterpret_cast<const std::uint8_t*>(f.data.data()), f.data.size());
    list.push_back(fbs::CreateFeature(b, f.number, data));
  }
  return b.CreateVector(list);
}

std::vector<Feature> from_features(Fields& fields, const List<Offset<fbs::Feature>>* list) {
  std::vector<Feature> features;
  for (std::size_t i = 0, n = fields.count(list, "features", 64); i < n; ++i) {
    const auto* f = list->Get(static_cast<unsigned>(i));
    Feature feature{f->number(), {}};
    if (fields.count(f->data(), "feature data", limits::kTextBytes) > 0)
      feature.data.assign(reinterpret_cast<const char*>(f->data()->data()), f->data()->size());
    features.push_back(std::move(feature));
  }
  return features;
}

Offset<List<Offset<fbs::TextEntry>>> to_entries(FlatBufferBuilder& b,
                                                const std::map<std::string, std::string>& map) {
  std::vector<Offset<fbs::TextEntry>> list;
  list.reserve(map.size());
  for (const auto& [key, value] : map)
    list.push_back(fbs::CreateTextEntry(b, b.CreateString(key), b.CreateString(value)));
  return b.CreateVector(list);
}

Offset<List<Offset<fbs::NumberEntry>>> to_entries(FlatBufferBuilder& b,
                                                  const std::map<std::string, std::int64_t>& map) {
  std::vector<Offset<fbs::NumberEntry>> list;
  list.reserve(map.size());
  for (const auto& [key, value] : map)
    list.push_back(fbs::CreateNumberEntry(b, b.CreateString(key), value));
  return b.CreateVector(list);
}

Offset<List<Offset<fbs::ValueDescription>>> to_values(FlatBufferBuilder& b,
                                                      const std::vector<ValueDescription>& values) {
  std::vector<Offset<fbs::ValueDescription>> list;
  for (const ValueDescription& v : values) {
    const auto name = b.CreateString(v.name);
    const auto dims = b.CreateVector(v.dims);
    const auto dim_names = b.CreateVectorOfStrings(v.dim_names);
    list.push_back(fbs::CreateValueDescription(b, name, static_cast<std::uint8_t>(v.type),
                                               v.has_shape, dims, dim_names));
  }
  return b.CreateVector(list);
}

Result<std::vector<ValueDescription>> from_values(Fields& fields,
                                                  const List<Offset<fbs::ValueDescription>>* list) {
  std::vector<ValueDescription> values;
  for (std::size_t i = 0, n = fields.count(list, "values", limits::kValues); i < n; ++i) {
    const auto* v = list->Get(static_cast<unsigned>(i));
    ValueDescription value;
    value.name = fields.text(v->name(), "value name", limits::kNameBytes);
    if (!is_known(v->type()))
      return error(ErrorKind::kInvalid,
                   "element type ({}) of value ({}) must be one of docs/wire.md", v->type(),
                   value.name);
    value.type = static_cast<ElementType>(v->type());
    value.has_shape = v->has_shape();
    for (std::size_t d = 0, m = fields.count(v->dims(), "dims", limits::kRank); d < m; ++d)
      value.dims.push_back(element(v->dims(), d));
    for (std::size_t d = 0, m = fields.count(v->dim_names(), "dim names", limits::kRank); d < m;
         ++d)
      value.dim_names.push_back(fields.text(v->dim_names()->Get(static_cast<unsigned>(d)),
                                            "dim name", limits::kNameBytes));
    if (value.dim_names.size() != value.dims.size())
      return error(ErrorKind::kInvalid,
                   "value ({}) must have as many dimension names ({}) as dimensions ({})",
                   value.name, value.dim_names.size(), value.dims.size());
    values.push_back(std::move(value));
  }
  return values;
}

}  // namespace

// ---- encoding
// -------------------------------------------------------------------------------------

std::string encode(const Hello& m) {
  FlatBufferBuilder b;
  const auto software = b.CreateString(m.software), id = b.CreateString(m.client_id);
  const auto features = to_features(b, m.features);
  return finish(b, fbs::CreateHello(b, software, id, features));
}

std::string encode(const HelloReply& m) {
  FlatBufferBuilder b;
  const auto software = b.CreateString(m.software), id = b.CreateString(m.server_id);
  const auto features = to_features(b, m.features);
  const auto engine = b.CreateString(m.engine), device = b.CreateString(m.device);
  const auto providers = b.CreateVectorOfStrings(m.providers);
  return finish(b, fbs::CreateHelloReply(b, software, id, features, m.heartbeat_ms, engine, device,
                                         providers));
}

std::string encode(const Error& m) {
  FlatBufferBuilder b;
  // Longer texts (an engine's dump, say) are cut rather than refused by the peer.
  const auto message = b.CreateString(std::string_view(m.message).substr(0, limits::kTextBytes));
  return finish(
      b, fbs::CreateErrorReply(b, static_cast<std::uint8_t>(m.kind), message, m.native_code));
}

std::string encode(const ModelManifest& m) {
  FlatBufferBuilder b;
  std::vector<Offset<fbs::ModelFile>> files;
  for (const ModelFile& f : m.files) {
    const fbs::Hash hash = to_hash(f.sha256);
    const auto name = b.CreateString(f.name);
    files.push_back(fbs::CreateModelFile(b, name, f.size_bytes, &hash));
  }
  const auto list = b.CreateVector(files);
  return finish(b, fbs::CreateModelManifest(b, list));
}

std::string encode(const ModelState& m) {
  FlatBufferBuilder b;
  const auto have = b.CreateVector(m.have_bytes);
  return finish(b, fbs::CreateModelState(b, have, m.complete));
}

std::string encode(const UploadState& m) {
  FlatBufferBuilder b;
  return finish(b, fbs::CreateUploadState(b, m.have_bytes));
}

std::string encode(const SessionOpen& m) {
  FlatBufferBuilder b;
  const SessionOptions& o = m.options;
  std::vector<Offset<fbs::ProviderChoice>> providers;
  for (const ProviderChoice& p : o.providers) {
    const auto name = b.CreateString(p.name);
    const auto options = to_entries(b, p.options);
    providers.push_back(fbs::CreateProviderChoice(b, name, options));
  }
  const auto by_name = to_entries(b, o.free_dimensions_by_name);
  const auto by_denotation = to_entries(b, o.free_dimensions_by_denotation);
  const auto config = to_entries(b, o.config_entries);
  const auto provider_list = b.CreateVector(providers);
  const fbs::Hash model = to_hash(m.model);
  return finish(b, fbs::CreateSessionOpen(b, m.handle, &model, o.graph_optimization_level,
                                          o.parallel_execution, by_name, by_denotation, config,
                                          provider_list));
}

std::string encode(const SessionDescription& m) {
  FlatBufferBuilder b;
  const auto inputs = to_values(b, m.inputs), outputs = to_values(b, m.outputs);
  const auto producer = b.CreateString(m.producer), graph_name = b.CreateString(m.graph_name),
             graph_description = b.CreateString(m.graph_description),
             domain = b.CreateString(m.domain), description = b.CreateString(m.description);
  const auto custom = to_entries(b, m.custom_metadata);
  return finish(
      b, fbs::CreateSessionDescription(b, inputs, outputs, producer, graph_name, graph_description,
                                       domain, description, m.version, custom));
}

// ---- decoding
// -------------------------------------------------------------------------------------

Result<Hello> decode_hello(Bytes bytes) {
  OB_TRY(const auto* root, verified_root<fbs::Hello>(bytes, "hello"));
  Fields fields("hello");
  Hello m{fields.text(root->software(), "software", limits::kNameBytes),
          fields.text(root->client_id(), "client_id", limits::kNameBytes),
          from_features(fields, root->features())};
  OB_CHECK_OK(fields.result());
  return m;
}

Result<HelloReply> decode_hello_reply(Bytes bytes) {
  OB_TRY(const auto* root, verified_root<fbs::HelloReply>(bytes, "hello reply"));
  Fields fields("hello reply");
  HelloReply m{fields.text(root->software(), "software", limits::kNameBytes),
               fields.text(root->server_id(), "server_id", limits::kNameBytes),
               from_features(fields, root->features()),
               root->heartbeat_ms(),
               fields.text(root->engine(), "engine", limits::kNameBytes),
               fields.text(root->device(), "device", limits::kNameBytes),
               {}};
  for (std::size_t i = 0, n = fields.count(root->providers(), "providers", 64); i < n; ++i)
    m.providers.push_back(fields.text(root->providers()->Get(static_cast<unsigned>(i)),
                                      "provider name", limits::kNameBytes));
  OB_CHECK_OK(fields.result());
  return m;
}

Result<Error> decode_error(Bytes bytes) {
  OB_TRY(const auto* root, verified_root<fbs::ErrorReply>(bytes, "error"));
  Fields fields("error");
  Error m{static_cast<ErrorKind>(root->kind()), fields.text(root->message(), "message"),
          root->native_code()};
  OB_CHECK_OK(fields.result());
  // A kind that a later version added is, for us, a failure of which we know nothing more.
  if (name_of(m.kind) == "unknown") m.kind = ErrorKind::kInternal;
  return m;
}

Result<ModelManifest> decode_model_manifest(Bytes bytes) {
  OB_TRY(const auto* root, verified_root<fbs::ModelManifest>(bytes, "model manifest"));
  Fields fields("model manifest");
  ModelManifest m;
  for (std::size_t i = 0, n = fields.count(root->files(), "files", limits::kModelFiles); i < n;
       ++i) {
    const auto* f = root->files()->Get(static_cast<unsigned>(i));
    m.files.push_back({fields.text(f->name(), "file name", limits::kNameBytes), f->size_bytes(),
                       fields.hash(f->sha256(), "sha256")});
    const ModelFile& file = m.files.back();
    if (!is_safe_relative_path(file.name))
      return error(ErrorKind::kInvalid,
                   "name ({}) of a model's file must be a relative path without '..'", file.name);
    if (file.size_bytes > limits::kModelFileBytes)
      return error(ErrorKind::kInvalid, "size ({} bytes) of a model's file ({}) must be at most {}",
                   file.size_bytes, file.name, limits::kModelFileBytes);
  }
  OB_CHECK_OK(fields.result());
  if (m.files.empty())
    return error(ErrorKind::kInvalid, "model manifest must name at least one file");
  return m;
}

Result<ModelState> decode_model_state(Bytes bytes) {
  OB_TRY(const auto* root, verified_root<fbs::ModelState>(bytes, "model state"));
  Fields fields("model state");
  ModelState m;
  for (std::size_t i = 0, n = fields.count(root->have_bytes(), "have_bytes", limits::kModelFiles);
       i < n; ++i)
    m.have_bytes.push_back(element(root->have_bytes(), i));
  m.complete = root->complete();
  OB_CHECK_OK(fields.result());
  return m;
}

Result<UploadState> decode_upload_state(Bytes bytes) {
  OB_TRY(const auto* root, verified_root<fbs::UploadState>(bytes, "upload state"));
  return UploadState{root->have_bytes()};
}

Result<SessionOpen> decode_session_open(Bytes bytes) {
  OB_TRY(const auto* root, verified_root<fbs::SessionOpen>(bytes, "session open"));
  Fields fields("session open");
  SessionOpen m;
  m.handle = root->handle();
  m.model = fields.hash(root->model(), "model");
  m.options.graph_optimization_level = root->graph_optimization_level();
  m.options.parallel_execution = root->parallel_execution();
  fields.entries(root->free_dimensions_by_name(), "free_dimensions_by_name",
                 m.options.free_dimensions_by_name);
  fields.entries(root->free_dimensions_by_denotation(), "free_dimensions_by_denotation",
                 m.options.free_dimensions_by_denotation);
  fields.entries(root->config_entries(), "config_entries", m.options.config_entries);
  for (std::size_t i = 0, n = fields.count(root->providers(), "providers", 64); i < n; ++i) {
    const auto* p = root->providers()->Get(static_cast<unsigned>(i));
    ProviderChoice choice{fields.text(p->name(), "provider name", limits::kNameBytes), {}};
    fields.entries(p->options(), "provider options", choice.options);
    m.options.providers.push_back(std::move(choice));
  }
  OB_CHECK_OK(fields.result());
  return m;
}

Result<SessionDescription> decode_session_description(Bytes bytes) {
  OB_TRY(const auto* root, verified_root<fbs::SessionDescription>(bytes, "session description"));
  Fields fields("session description");
  SessionDescription m;
  OB_TRY(m.inputs, from_values(fields, root->inputs()));
  OB_TRY(m.outputs, from_values(fields, root->outputs()));
  m.producer = fields.text(root->producer(), "producer");
  m.graph_name = fields.text(root->graph_name(), "graph_name");
  m.graph_description = fields.text(root->graph_description(), "graph_description");
  m.domain = fields.text(root->domain(), "domain");
  m.description = fields.text(root->description(), "description");
  m.version = root->version();
  fields.entries(root->custom_metadata(), "custom_metadata", m.custom_metadata);
  OB_CHECK_OK(fields.result());
  return m;
}

}  // namespace outboard::wire
