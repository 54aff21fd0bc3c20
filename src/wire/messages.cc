// SPDX-License-Identifier: Apache-2.0
// The fixed records: Run, Run result, upload chunk, heartbeat, session close. Layouts:
// docs/wire.md.
#include "wire/messages.h"

#include <algorithm>
#include <cstring>

#include "base/cursor.h"
#include "base/limits.h"
#include "wire/frame.h"

namespace outboard::wire {
namespace {

std::string take(const ByteWriter& writer) {
  return {reinterpret_cast<const char*>(writer.bytes().data()), writer.size()};
}

// Where a tensor's bytes are.
constexpr std::uint8_t kInFrame = 0, kInSharedMemory = 1, kInChunks = 2, kKnown = 3;

std::uint8_t place_of(const TensorHeader& header) {
  if (header.known) return kKnown;
  if (header.in_chunks) return kInChunks;
  return header.shared_offset ? kInSharedMemory : kInFrame;
}

void write_tensor_headers(ByteWriter& writer, std::span<const TensorHeader> headers) {
  for (const TensorHeader& header : headers) {
    writer.write(static_cast<std::uint8_t>(header.type));
    writer.write(static_cast<std::uint8_t>(header.dims.size()));
    writer.write(header.keep ? std::uint8_t{1} : std::uint8_t{0});
    writer.write(place_of(header));
    writer.zeros(4);
    writer.write(header.data_bytes);
    for (const std::int64_t dim : header.dims) writer.write(dim);
    if (header.shared_offset) writer.write(*header.shared_offset);
    if (header.known) writer.append(header.known->bytes);
  }
}

Result<TensorHeader> read_tensor_header(ByteReader& reader) {
  TensorHeader header;
  const auto type = reader.read<std::uint8_t>();
  const auto rank = reader.read<std::uint8_t>();
  const auto flags = reader.read<std::uint8_t>();
  const auto place = reader.read<std::uint8_t>();
  const auto reserved1 = reader.read<std::uint32_t>();
  header.data_bytes = reader.read<std::uint64_t>();
  if (!reader.ok()) return error(ErrorKind::kInvalid, "tensor header must have 16 bytes");
  if (!is_known(type))
    return error(ErrorKind::kInvalid, "element type ({}) must be one of docs/wire.md", type);
  if (rank > limits::kRank)
    return error(ErrorKind::kInvalid, "rank ({}) must be at most {}", rank, limits::kRank);
  if (flags > 1 || reserved1 != 0)
    return error(ErrorKind::kInvalid, "reserved bits of a tensor header must be zero");
  if (place > kKnown)
    return error(ErrorKind::kInvalid, "place ({}) of a tensor must be from {} to {}", place,
                 kInFrame, kKnown);
  header.type = static_cast<ElementType>(type);
  header.dims.reserve(rank);
  for (unsigned i = 0; i < rank; ++i) header.dims.push_back(reader.read<std::int64_t>());
  if (!reader.ok())
    return error(ErrorKind::kInvalid, "tensor header must have {} dimensions", rank);
  header.keep = flags == 1;
  header.in_chunks = place == kInChunks;
  if (place == kInSharedMemory) header.shared_offset = reader.read<std::uint64_t>();
  if (place == kKnown) {
    header.known.emplace();
    const auto hash = reader.take(header.known->bytes.size());
    if (reader.ok()) std::memcpy(header.known->bytes.data(), hash.data(), hash.size());
  }
  if (!reader.ok() || (header.type == ElementType::kString && (place != kInFrame || header.keep)))
    return error(ErrorKind::kInvalid,
                 "tensor outside its frame (place {}) must say where, and have elements of a fixed "
                 "size",
                 place);

  if (header.type == ElementType::kString) {
    const auto count = element_count(header.dims);
    if (!count || *count > header.data_bytes / sizeof(std::uint32_t) ||
        header.data_bytes > limits::kTensorBytes)
      return error(ErrorKind::kInvalid, "size ({} bytes) of a string tensor does not fit its shape",
                   header.data_bytes);
    return header;
  }
  OB_TRY(const std::uint64_t expected, size_bytes(header.type, header.dims));
  if (expected != header.data_bytes)
    return error(ErrorKind::kInvalid,
                 "size ({} bytes) of a tensor must be {} by its type and shape", header.data_bytes,
                 expected);
  return header;
}

Result<std::vector<TensorHeader>> read_tensor_headers(ByteReader& reader, std::uint32_t count) {
  if (count > limits::kValues)
    return error(ErrorKind::kInvalid, "number of tensors ({}) must be at most {}", count,
                 limits::kValues);
  std::vector<TensorHeader> headers;
  headers.reserve(count);
  std::uint64_t total = 0;
  for (std::uint32_t i = 0; i < count; ++i) {
    OB_TRY(TensorHeader header, read_tensor_header(reader));
    total += header.data_bytes;
    if (total > limits::kRunBytes)
      return error(ErrorKind::kInvalid, "tensors of a Run must have at most {} bytes",
                   limits::kRunBytes);
    headers.push_back(std::move(header));
  }
  if (reader.remaining() != 0)
    return error(ErrorKind::kInvalid, "record has {} bytes after its tensor headers",
                 reader.remaining());
  return headers;
}

// The record's own size, which its first field repeats.
Result<void> check_size(ByteReader& reader, Bytes record) {
  const auto size = reader.read<std::uint32_t>();
  if (size != record.size())
    return error(ErrorKind::kInvalid, "size ({}) in a record must be the record's ({})", size,
                 record.size());
  return {};
}

// A record that is one number.
template <typename T>
Result<T> decode_number(Bytes record, std::string_view what) {
  ByteReader reader(record);
  const auto number = reader.read<T>();
  if (!reader.ok() || reader.remaining() != 0)
    return error(ErrorKind::kInvalid, "{} must have {} bytes, not {}", what, sizeof(T),
                 record.size());
  return number;
}

}  // namespace

const Feature* find_feature(const std::vector<Feature>& features, std::uint32_t number) {
  for (const Feature& feature : features)
    if (feature.number == number) return &feature;
  return nullptr;
}

std::string encode(const RunRequest& request) {
  ByteWriter writer;
  writer.write(std::uint32_t{0});
  writer.write(request.session);
  writer.write(static_cast<std::uint32_t>(request.outputs.size()));
  writer.write(static_cast<std::uint32_t>(request.inputs.size()));
  for (const std::uint32_t output : request.outputs) writer.write(output);
  if (request.outputs.size() % 2 != 0) writer.zeros(4);
  write_tensor_headers(writer, request.inputs);
  writer.overwrite(0, static_cast<std::uint32_t>(writer.size()));
  return take(writer);
}

Result<RunRequest> decode_run_request(Bytes record) {
  ByteReader reader(record);
  OB_CHECK_OK(check_size(reader, record));
  RunRequest request;
  request.session = reader.read<std::uint32_t>();
  const auto outputs = reader.read<std::uint32_t>();
  const auto inputs = reader.read<std::uint32_t>();
  if (!reader.ok() || outputs > limits::kValues ||
      reader.remaining() < outputs * sizeof(std::uint32_t))
    return error(ErrorKind::kInvalid, "number of outputs ({}) of a Run must fit its record",
                 outputs);
  request.outputs.reserve(outputs);
  for (std::uint32_t i = 0; i < outputs; ++i)
    request.outputs.push_back(reader.read<std::uint32_t>());
  if (outputs % 2 != 0 && reader.read<std::uint32_t>() != 0)
    return error(ErrorKind::kInvalid, "padding of a Run's record must be zero");
  OB_TRY(request.inputs, read_tensor_headers(reader, inputs));
  return request;
}

std::string encode(const RunResult& result) {
  ByteWriter writer;
  writer.write(std::uint32_t{0});
  writer.write(static_cast<std::uint32_t>(result.outputs.size()));
  writer.write(result.times.receive_ns);
  writer.write(result.times.queue_ns);
  writer.write(result.times.compute_ns);
  writer.write(result.times.queue_depth);
  writer.write(result.times.hop_ns);
  write_tensor_headers(writer, result.outputs);
  writer.overwrite(0, static_cast<std::uint32_t>(writer.size()));
  return take(writer);
}

Result<RunResult> decode_run_result(Bytes record) {
  ByteReader reader(record);
  OB_CHECK_OK(check_size(reader, record));
  RunResult result;
  const auto outputs = reader.read<std::uint32_t>();
  result.times.receive_ns = reader.read<std::uint64_t>();
  result.times.queue_ns = reader.read<std::uint64_t>();
  result.times.compute_ns = reader.read<std::uint64_t>();
  result.times.queue_depth = reader.read<std::uint32_t>();
  result.times.hop_ns = reader.read<std::uint32_t>();
  if (!reader.ok())
    return error(ErrorKind::kInvalid, "result record ({} bytes) is too short", record.size());
  OB_TRY(result.outputs, read_tensor_headers(reader, outputs));
  return result;
}

std::string encode_shared_region(std::uint64_t size_bytes) {
  ByteWriter writer;
  writer.write(size_bytes);
  return take(writer);
}

Result<std::uint64_t> decode_shared_region(Bytes record) {
  ByteReader reader(record);
  const auto size = reader.read<std::uint64_t>();
  if (!reader.ok() || reader.remaining() != 0 || size == 0 || size > limits::kSharedRegionBytes)
    return error(ErrorKind::kInvalid,
                 "size ({}) of shared memory must be 8 bytes long and from 1 to {}", size,
                 limits::kSharedRegionBytes);
  return size;
}

std::string encode(const CodingHint& hint) {
  ByteWriter writer;
  writer.write(hint.down_bytes_per_s);
  writer.write(static_cast<std::uint8_t>(hint.mode));
  writer.zeros(7);
  return take(writer);
}

Result<CodingHint> decode_coding_hint(Bytes record) {
  ByteReader reader(record);
  CodingHint hint{.down_bytes_per_s = reader.read<std::uint64_t>()};
  const auto mode = reader.read<std::uint8_t>();
  const auto zeros = reader.take(7);
  const bool are_zero =
      std::all_of(zeros.begin(), zeros.end(), [](std::byte byte) { return byte == std::byte{0}; });
  if (!reader.ok() || reader.remaining() != 0 || mode >= kCodingModes || !are_zero)
    return error(ErrorKind::kInvalid,
                 "coding hint must have 16 bytes with a mode ({}) below {} and the last 7 zero",
                 mode, kCodingModes);
  hint.mode = static_cast<CodingMode>(mode);
  return hint;
}

std::string encode_tensors_wanted(std::span<const std::uint32_t> inputs) {
  ByteWriter writer;
  for (const std::uint32_t input : inputs) writer.write(input);
  return take(writer);
}

Result<std::vector<std::uint32_t>> decode_tensors_wanted(Bytes record) {
  if (record.empty() || record.size() % sizeof(std::uint32_t) != 0)
    return error(ErrorKind::kInvalid,
                 "list of wanted tensors ({} bytes) must be numbers of 4 bytes", record.size());
  ByteReader reader(record);
  std::vector<std::uint32_t> inputs;
  while (reader.remaining() > 0) {
    const auto input = reader.read<std::uint32_t>();
    if (input >= limits::kValues || (!inputs.empty() && input <= inputs.back()))
      return error(ErrorKind::kInvalid, "wanted tensor ({}) must be below {} and in order", input,
                   limits::kValues);
    inputs.push_back(input);
  }
  return inputs;
}

std::string encode_known_limit(std::uint64_t size_bytes) {
  ByteWriter writer;
  writer.write(size_bytes);
  return take(writer);
}

Result<std::uint64_t> decode_known_limit(Bytes data) {
  return decode_number<std::uint64_t>(data, "data of the feature known tensors");
}

std::string encode(const UploadChunk& chunk) {
  ByteWriter writer;
  writer.append(chunk.file.bytes);
  writer.write(chunk.file_bytes);
  writer.write(chunk.offset);
  return take(writer);
}

Result<UploadChunk> decode_upload_chunk(Bytes record) {
  if (record.size() != kUploadChunkBytes)
    return error(ErrorKind::kInvalid, "record of an upload chunk must have {} bytes, not {}",
                 kUploadChunkBytes, record.size());
  ByteReader reader(record);
  UploadChunk chunk;
  const auto hash = reader.take(chunk.file.bytes.size());
  std::memcpy(chunk.file.bytes.data(), hash.data(), hash.size());
  chunk.file_bytes = reader.read<std::uint64_t>();
  chunk.offset = reader.read<std::uint64_t>();
  if (chunk.file_bytes > limits::kModelFileBytes)
    return error(ErrorKind::kInvalid, "size ({} bytes) of a model's file must be at most {}",
                 chunk.file_bytes, limits::kModelFileBytes);
  if (chunk.offset > chunk.file_bytes)
    return error(ErrorKind::kInvalid,
                 "offset ({}) of an upload chunk must be at most the file's size ({})",
                 chunk.offset, chunk.file_bytes);
  return chunk;
}

std::string encode(const Heartbeat& heartbeat) {
  ByteWriter writer;
  writer.write(heartbeat.queue_depth);
  writer.zeros(4);
  return take(writer);
}

Result<Heartbeat> decode_heartbeat(Bytes record) {
  ByteReader reader(record);
  Heartbeat heartbeat{reader.read<std::uint32_t>()};
  const auto reserved = reader.read<std::uint32_t>();
  if (!reader.ok() || reader.remaining() != 0 || reserved != 0)
    return error(ErrorKind::kInvalid, "heartbeat must have 8 bytes with the last 4 zero");
  return heartbeat;
}

std::string encode(const Probe& probe) {
  ByteWriter writer;
  writer.write(probe.reply_bytes);
  writer.zeros(4);
  return take(writer);
}

Result<Probe> decode_probe(Bytes record) {
  ByteReader reader(record);
  const Probe probe{reader.read<std::uint32_t>()};
  const auto reserved = reader.read<std::uint32_t>();
  if (!reader.ok() || reader.remaining() != 0 || reserved != 0)
    return error(ErrorKind::kInvalid, "a probe's record must have 8 bytes with the last 4 zero");
  if (probe.reply_bytes > length_limit(FrameKind::kProbeReply) - kProbeReplyBytes)
    return error(ErrorKind::kInvalid, "the bytes ({}) that a probe asks for must be at most {}",
                 probe.reply_bytes, length_limit(FrameKind::kProbeReply) - kProbeReplyBytes);
  return probe;
}

std::string encode(const ProbeReply& reply) {
  ByteWriter writer;
  writer.write(reply.receive_ns);
  writer.write(reply.wait_ns);
  writer.write(std::uint32_t{reply.is_draining});
  writer.zeros(4);
  return take(writer);
}

Result<ProbeReply> decode_probe_reply(Bytes record) {
  ByteReader reader(record);
  ProbeReply reply;
  reply.receive_ns = reader.read<std::uint64_t>();
  reply.wait_ns = reader.read<std::uint64_t>();
  const auto flags = reader.read<std::uint32_t>();
  const auto reserved = reader.read<std::uint32_t>();
  if (!reader.ok() || reader.remaining() != 0 || reserved != 0 || flags > 1)
    return error(ErrorKind::kInvalid,
                 "a probe's reply must have 24 bytes, flags of 0 or 1 and the last 4 zero");
  reply.is_draining = flags == 1;
  return reply;
}

std::string encode_session_close(std::uint32_t handle) {
  ByteWriter writer;
  writer.write(handle);
  return take(writer);
}

Result<std::uint32_t> decode_session_close(Bytes record) {
  return decode_number<std::uint32_t>(record, "session close");
}

Sha256 ModelManifest::id() const {
  ByteWriter writer;
  writer.append(as_byte_span("outboard-model-1\n"));
  for (const ModelFile& file : files) {
    writer.write(static_cast<std::uint32_t>(file.name.size()));
    writer.append(as_byte_span(file.name));
    writer.write(file.size_bytes);
    writer.append(file.sha256.bytes);
  }
  return outboard::sha256(writer.bytes());
}

}  // namespace outboard::wire
