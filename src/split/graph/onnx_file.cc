// SPDX-License-Identifier: Apache-2.0
#include "split/graph/onnx_file.h"

#include <fcntl.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <onnx/onnx_pb.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <charconv>
#include <cstring>
#include <filesystem>

#include "split/graph/protobuf_fields.h"

namespace outboard::split {
namespace {

using google::protobuf::internal::WireFormatLite;
using google::protobuf::io::CodedInputStream;
using google::protobuf::io::CodedOutputStream;
using google::protobuf::io::StringOutputStream;
using Bytes = std::span<const std::byte>;

// Tensors smaller than this are kept in the message: shapes, axes and other small constants.
constexpr std::uint32_t kLargeTensor_bytes = 1024;

struct Skeleton {
  std::string bytes;
  std::map<std::string, Bytes, std::less<>> raw;
};

// Copies a tensor without a large raw_data, whose place it remembers.
bool strip_tensor(Bytes tensor, CodedOutputStream& out, Skeleton& skeleton) {
  std::string kept, name;
  Bytes raw;
  bool large = false;
  {
    StringOutputStream stream(&kept);
    CodedOutputStream coded(&stream);
    const bool ok = for_each_field(tensor, [&](std::uint32_t tag, int field, CodedInputStream& in) {
      if ((field != kTensorRawData && field != kTensorName) || !is_bytes(tag))
        return WireFormatLite::SkipField(&in, tag, &coded);
      Bytes view;
      if (!read_view(tensor, in, view)) return false;
      if (field == kTensorRawData && view.size() >= kLargeTensor_bytes) {
        raw = view;
        large = true;
        return true;
      }
      if (field == kTensorName)
        name.assign(reinterpret_cast<const char*>(view.data()), view.size());
      coded.WriteVarint32(tag);
      coded.WriteVarint32(static_cast<std::uint32_t>(view.size()));
      coded.WriteRaw(view.data(), static_cast<int>(view.size()));
      return true;
    });
    if (!ok) return false;
  }
  if (large) skeleton.raw[name] = raw;
  out.WriteVarint32(static_cast<std::uint32_t>(kept.size()));
  out.WriteString(kept);
  return true;
}

// Copies a message, handing the length-delimited field `inner` to `copy_inner`.
template <typename CopyInner>
bool strip_message(Bytes message, int inner, std::string& kept, CopyInner copy_inner) {
  StringOutputStream stream(&kept);
  CodedOutputStream coded(&stream);
  return for_each_field(message, [&](std::uint32_t tag, int field, CodedInputStream& in) {
    if (field != inner || !is_bytes(tag)) return WireFormatLite::SkipField(&in, tag, &coded);
    Bytes view;
    if (!read_view(message, in, view)) return false;
    coded.WriteVarint32(tag);
    return copy_inner(view, coded);
  });
}

bool strip_model(Bytes model, Skeleton& skeleton) {
  return strip_message(
      model, kModelGraph, skeleton.bytes, [&](Bytes graph, CodedOutputStream& out) {
        std::string kept;
        const bool ok = strip_message(
            graph, kGraphInitializer, kept,
            [&](Bytes tensor, CodedOutputStream& o) { return strip_tensor(tensor, o, skeleton); });
        out.WriteVarint32(static_cast<std::uint32_t>(kept.size()));
        out.WriteString(kept);
        return ok;
      });
}

Result<std::uint64_t> parse_count(const std::string& text, const std::string& tensor) {
  std::uint64_t value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc() || end != text.data() + text.size())
    return error(ErrorKind::kInvalid, "the external data of tensor ({}) has a bad number ({})",
                 tensor, text);
  return value;
}

}  // namespace

Result<std::shared_ptr<const MappedFile>> MappedFile::open(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    return error(ErrorKind::kNotFound, "the file ({}) cannot be opened: {}", path,
                 std::strerror(errno));
  struct stat status{};
  if (::fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(fd);
    return error(ErrorKind::kInvalid, "({}) is not a regular file", path);
  }
  const auto size = static_cast<std::size_t>(status.st_size);
  void* data = size == 0 ? nullptr : ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
  ::close(fd);
  if (data == MAP_FAILED)
    return error(ErrorKind::kInvalid, "the file ({}) cannot be mapped: {}", path,
                 std::strerror(errno));
  return std::shared_ptr<const MappedFile>(
      new MappedFile({static_cast<const std::byte*>(data), size}));
}

MappedFile::~MappedFile() {
  if (!bytes_.empty())
    ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());  // NOLINT: mapped by us
}

void MappedFile::let_go() const {
  if (!bytes_.empty())
    ::madvise(const_cast<std::byte*>(bytes_.data()), bytes_.size(), MADV_DONTNEED);  // NOLINT
}

void set_external(onnx::TensorProto& tensor, const std::string& location, std::size_t size_bytes) {
  tensor.clear_raw_data();
  tensor.clear_external_data();
  tensor.set_data_location(onnx::TensorProto::EXTERNAL);
  const auto entry = [&](const char* key, const std::string& value) {
    auto& e = *tensor.add_external_data();
    e.set_key(key);
    e.set_value(value);
  };
  entry("location", location);
  entry("offset", "0");
  entry("length", std::to_string(size_bytes));
}

void OnnxFile::let_go() const {
  for (const auto& [path, file] : mapped_) file->let_go();
}

OnnxFile::OnnxFile() : model_(std::make_unique<onnx::ModelProto>()) {}
OnnxFile::~OnnxFile() = default;

Result<std::shared_ptr<const OnnxFile>> OnnxFile::open(const std::string& path) {
  OB_TRY(auto file, MappedFile::open(path));
  auto folder = std::filesystem::path(path).parent_path().string();
  OB_TRY(auto parsed, parse(file->bytes(), folder.empty() ? "." : folder));
  const_cast<OnnxFile&>(*parsed).mapped_[""] = std::move(file);  // NOLINT: still ours alone
  return parsed;
}

Result<std::shared_ptr<const OnnxFile>> OnnxFile::parse(Bytes bytes, const std::string& folder) {
  Skeleton skeleton;
  std::shared_ptr<OnnxFile> file(new OnnxFile);
  if (bytes.empty() || !strip_model(bytes, skeleton) ||
      !file->model_->ParseFromString(skeleton.bytes) || !file->model_->has_graph())
    return error(ErrorKind::kInvalid, "the bytes ({}) are not an ONNX model", bytes.size());
  file->raw_ = std::move(skeleton.raw);
  OB_CHECK_OK(file->index_initializers(folder));
  return std::shared_ptr<const OnnxFile>(std::move(file));
}

Result<void> OnnxFile::index_initializers(const std::string& folder) {
  for (const auto& tensor : model_->graph().initializer()) {
    initializers_[tensor.name()] = &tensor;
    if (tensor.data_location() == onnx::TensorProto::EXTERNAL) {
      OB_TRY(auto view, map_external(tensor, folder));
      raw_[tensor.name()] = view;
    } else if (tensor.has_raw_data()) {
      raw_[tensor.name()] = std::as_bytes(std::span(tensor.raw_data()));
    }
  }
  return {};
}

Result<Bytes> OnnxFile::map_external(const onnx::TensorProto& tensor, const std::string& folder) {
  std::string location;
  std::uint64_t offset = 0, length = 0;
  bool has_length = false;
  for (const auto& entry : tensor.external_data()) {
    if (entry.key() == "location") location = entry.value();
    if (entry.key() == "offset") {
      OB_TRY(offset, parse_count(entry.value(), tensor.name()));
    }
    if (entry.key() == "length") {
      OB_TRY(length, parse_count(entry.value(), tensor.name()));
      has_length = true;
    }
  }
  const std::filesystem::path relative(location);
  bool escapes = location.empty() || relative.is_absolute();
  for (const auto& part : relative) escapes |= part == "..";
  if (escapes)
    return error(
        ErrorKind::kInvalid,
        "the external data of tensor ({}) must be a file below the model's folder, not ({})",
        tensor.name(), location);
  const std::string path = (std::filesystem::path(folder) / relative).string();
  auto& mapped = mapped_[path];
  if (!mapped) {
    OB_TRY(mapped, MappedFile::open(path));
  }
  const auto all = mapped->bytes();
  if (offset > all.size() || (has_length && length > all.size() - offset))
    return error(ErrorKind::kInvalid,
                 "the external data of tensor ({}) ends at byte ({}), past the end of file ({}) "
                 "with {} bytes",
                 tensor.name(), offset + length, path, all.size());
  return all.subspan(offset, has_length ? length : all.size() - offset);
}

const onnx::TensorProto* OnnxFile::initializer(std::string_view name) const {
  const auto it = initializers_.find(name);
  return it == initializers_.end() ? nullptr : it->second;
}

Bytes OnnxFile::raw(std::string_view name) const {
  const auto it = raw_.find(name);
  return it == raw_.end() ? Bytes{} : it->second;
}

}  // namespace outboard::split
