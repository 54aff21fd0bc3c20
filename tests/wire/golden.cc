// SPDX-License-Identifier: Apache-2.0
#include "tests/wire/golden.h"

#include <array>

#include "tests/wire/chunks.h"
#include "wire/coding/speeds.h"

#include "base/cursor.h"
#include "base/limits.h"
#include "wire/messages.h"
#include "wire/model_package.h"

namespace outboard::wire {
namespace {

Sha256 counting_hash(int first) {
  Sha256 hash;
  for (std::size_t i = 0; i < hash.bytes.size(); ++i)
    hash.bytes[i] = static_cast<std::byte>(first + static_cast<int>(i));
  return hash;
}

ModelManifest manifest() {
  return {{{"model", 1234, counting_hash(0)}, {"data/weights.bin", 56'789, counting_hash(32)}}};
}

SessionOptions options() {
  SessionOptions o;
  o.graph_optimization_level = 2;
  o.parallel_execution = true;
  o.free_dimensions_by_name = {{"batch", 4}};
  o.free_dimensions_by_denotation = {{"DATA_BATCH", 2}};
  o.config_entries = {{"session.disable_prepacking", "1"}};
  o.providers = {{"CUDAExecutionProvider", {{"device_id", "0"}}}, {"CPUExecutionProvider", {}}};
  return o;
}

SessionDescription description() {
  SessionDescription d;
  d.inputs = {{"image", ElementType::kFloat, true, {-1, 3, 224, 224}, {"batch", "", "", ""}},
              {"label", ElementType::kString, false, {}, {}}};
  d.outputs = {{"scores", ElementType::kFloat, true, {-1, 1000}, {"batch", ""}}};
  d.producer = "a script";
  d.graph_name = "graph";
  d.graph_description = "a graph";
  d.domain = "example";
  d.description = "what it does";
  d.version = 3;
  d.custom_metadata = {{"labels", "cat,dog"}};
  return d;
}

std::string run_payload() {
  const std::string_view words[] = {"two", "words"};
  const std::string strings = encode_strings(words);
  RunRequest request{
      5,
      {1, 0, 2},
      {{ElementType::kFloat, {1, 2}, 8}, {ElementType::kString, {2}, strings.size()}}};
  return encode(request) + std::string("\x00\x00\x80\x3f\x00\x00\x00\x40", 8) + strings;
}

std::string run_result_payload() {
  RunResult result{{11, 22, 33, 4}, {{ElementType::kInt64, {}, 8}, {ElementType::kInt4, {3}, 2}}};
  return encode(result) + std::string("\x2a\0\0\0\0\0\0\0\x21\x03", 10);
}

// One tensor in shared memory between two in the frame.
std::string run_shared_payload() {
  RunRequest request{5,
                     {0},
                     {{ElementType::kUint8, {3}, 3},
                      {ElementType::kFloat, {2, 2}, 16},
                      {ElementType::kUint8, {1}, 1}}};
  request.inputs[1].shared_offset = 128;
  return encode(request) + "abcd";
}

std::string run_result_shared_payload() {
  RunResult result{{11, 22, 33, 4}, {{ElementType::kFloat, {64, 64}, 16384}}};
  result.outputs[0].shared_offset = 0;
  return encode(result);
}

// The first input follows in chunks and is to be kept, the second is in the frame, the third known.
std::string run_coded_payload() {
  RunRequest request{5,
                     {0},
                     {{ElementType::kFloat, {64, 64}, 16384},
                      {ElementType::kUint8, {3}, 3},
                      {ElementType::kFloat, {1000}, 4000}}};
  request.inputs[0].in_chunks = request.inputs[0].keep = true;
  request.inputs[2].known = counting_hash(32);
  return encode(request) + "abc";
}

std::string run_result_coded_payload() {
  RunResult result{{11, 22, 33, 4}, {{ElementType::kFloat, {64, 64}, 16384}}};
  result.outputs[0].in_chunks = true;
  return encode(result);
}

std::string chunk_payload() {
  const auto bytes = golden_chunks()[2].bytes;  // of elements of 2 bytes
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

Bytes bytes_of(std::string_view text) { return as_byte_span(text); }

template <typename Record>
Result<void> decode_run_like(std::string_view payload, Result<Record> (*decode)(Bytes),
                             std::vector<TensorHeader> Record::* tensors) {
  ByteReader reader(bytes_of(payload));
  ByteReader prefix(bytes_of(payload));
  const auto size = prefix.read<std::uint32_t>();
  if (!prefix.ok() || size > limits::kRunHeaderBytes)
    return error(ErrorKind::kInvalid, "record size ({})", size);
  const auto record_bytes = reader.take(size);
  if (!reader.ok()) return error(ErrorKind::kInvalid, "record is cut off");
  OB_TRY(const Record record, decode(record_bytes));
  for (const TensorHeader& tensor : record.*tensors) {
    const auto data = reader.take(tensor.frame_bytes());
    if (!reader.ok()) return error(ErrorKind::kInvalid, "tensor is cut off");
    if (tensor.type == ElementType::kString)
      OB_CHECK_OK([&]() -> Result<void> {
        OB_CHECK_OK(decode_strings(data, element_count(tensor.dims).value_or(0)));
        return {};
      }());
  }
  if (reader.remaining() != 0)
    return error(ErrorKind::kInvalid, "{} bytes too many", reader.remaining());
  return {};
}

template <typename T>
Result<void> without_value(Result<T> result) {
  OB_CHECK_OK(std::move(result));
  return {};
}

}  // namespace

std::vector<GoldenFrame> golden_frames() {
  const std::string chunk = encode(UploadChunk{counting_hash(64), 100, 10}) + "some bytes";
  return {
      {"hello", FrameKind::kHello,
       encode(Hello{"outboard 0.1.0", "client", {{1, "token"}, {9, ""}}})},
      {"hello_reply", FrameKind::kHelloReply,
       encode(HelloReply{"outboard 0.1.0",
                         "server",
                         {{1, ""}},
                         200,
                         "onnxruntime 1.31.1",
                         "cpu",
                         {"CPUExecutionProvider"}})},
      {"error", FrameKind::kError, encode(Error{ErrorKind::kEngine, "no kernel for X(13)", 9})},
      {"ping", FrameKind::kPing, "ping payload"},
      {"pong", FrameKind::kPong, "ping payload"},
      {"heartbeat", FrameKind::kHeartbeat, encode(Heartbeat{3})},
      {"cancel", FrameKind::kCancel, {}},
      {"model_query", FrameKind::kModelQuery, encode(manifest())},
      {"model_state", FrameKind::kModelState, encode(ModelState{{1234, 500}, false})},
      {"upload_chunk", FrameKind::kUploadChunk, chunk},
      {"upload_state", FrameKind::kUploadState, encode(UploadState{20})},
      {"session_open", FrameKind::kSessionOpen, encode(SessionOpen{5, manifest().id(), options()})},
      {"session_opened", FrameKind::kSessionOpened, encode(description())},
      {"session_close", FrameKind::kSessionClose, encode_session_close(5)},
      {"run", FrameKind::kRun, run_payload()},
      {"run_result", FrameKind::kRunResult, run_result_payload()},
      {"hello_shared_memory", FrameKind::kHello,
       encode(Hello{
           "outboard 0.1.0", "client", {{kFeatureSharedMemory, encode_shared_region(65536)}}})},
      {"shared_region", FrameKind::kSharedRegion, encode_shared_region(1u << 20)},
      {"rings", FrameKind::kRings, {}},
      {"run_shared", FrameKind::kRun, run_shared_payload()},
      {"run_result_shared", FrameKind::kRunResult, run_result_shared_payload()},
      {"hello_coding", FrameKind::kHello,
       encode(Hello{"outboard 0.1.0",
                    "client",
                    {{kFeatureTensorCoding, encode(CodingOffer{7, {0, 9000, 1200, 3000, 1100}})},
                     {kFeatureKnownTensors, {}}}})},
      {"run_coded", FrameKind::kRun, run_coded_payload()},
      {"run_result_coded", FrameKind::kRunResult, run_result_coded_payload()},
      {"tensor_chunk", FrameKind::kTensorChunk, chunk_payload()},
      {"coding_hint", FrameKind::kCodingHint, encode(CodingHint{12'500'000, CodingMode::kAuto})},
      {"tensors_wanted", FrameKind::kTensorsWanted,
       encode_tensors_wanted(std::array<std::uint32_t, 2>{0, 2})},
      {"status", FrameKind::kStatus, {}},
      {"status_reply", FrameKind::kStatusReply, "{\"runs\": 1}"},
      {"probe", FrameKind::kProbe, encode(Probe{3}) + "padding"},
      {"probe_reply", FrameKind::kProbeReply, encode(ProbeReply{1000, 2000, true}) + "abc"},
  };
}

std::string frame_bytes(const GoldenFrame& frame) {
  const auto header =
      encode(FrameHeader{.kind = frame.kind, .request_id = 7, .length = frame.payload.size()});
  return std::string(reinterpret_cast<const char*>(header.data()), header.size()) + frame.payload;
}

Result<void> decode_as_receiver(std::string_view bytes) {
  ByteReader reader(bytes_of(bytes));
  const auto header_bytes = reader.take(kFrameHeaderBytes);
  if (!reader.ok()) return error(ErrorKind::kInvalid, "header is cut off");
  OB_TRY(const FrameHeader header, decode_frame_header(header_bytes.first<kFrameHeaderBytes>()));
  const auto body = reader.take(header.length);
  if (!reader.ok()) return error(ErrorKind::kInvalid, "payload is cut off");
  // As a receiver has it: in memory of its own, aligned, exactly as long as it is.
  const std::vector<char> copy(reinterpret_cast<const char*>(body.data()),
                               reinterpret_cast<const char*>(body.data()) + body.size());
  const std::string_view payload(copy.data(), copy.size());
  switch (header.kind) {
    case FrameKind::kHello:
      return without_value(decode_hello(bytes_of(payload)));
    case FrameKind::kHelloReply:
      return without_value(decode_hello_reply(bytes_of(payload)));
    case FrameKind::kError:
      return without_value(decode_error(bytes_of(payload)));
    case FrameKind::kHeartbeat:
      return without_value(decode_heartbeat(bytes_of(payload)));
    case FrameKind::kModelQuery:
      return without_value(decode_model_manifest(bytes_of(payload)));
    case FrameKind::kModelState:
      return without_value(decode_model_state(bytes_of(payload)));
    case FrameKind::kUploadState:
      return without_value(decode_upload_state(bytes_of(payload)));
    case FrameKind::kSessionOpen:
      return without_value(decode_session_open(bytes_of(payload)));
    case FrameKind::kSessionOpened:
      return without_value(decode_session_description(bytes_of(payload)));
    case FrameKind::kSessionClose:
      return without_value(decode_session_close(bytes_of(payload)));
    case FrameKind::kSharedRegion:
      return without_value(decode_shared_region(bytes_of(payload)));
    case FrameKind::kTensorChunk:
      return without_value(decode_as_receiver(2, bytes_of(payload)));
    case FrameKind::kCodingHint:
      return without_value(decode_coding_hint(bytes_of(payload)));
    case FrameKind::kTensorsWanted:
      return without_value(decode_tensors_wanted(bytes_of(payload)));
    case FrameKind::kUploadChunk:
      return without_value(decode_upload_chunk(bytes_of(payload.substr(0, kUploadChunkBytes))));
    case FrameKind::kRun:
      return decode_run_like(payload, decode_run_request, &RunRequest::inputs);
    case FrameKind::kRunResult:
      return decode_run_like(payload, decode_run_result, &RunResult::outputs);
    case FrameKind::kProbe:
      return without_value(decode_probe(bytes_of(payload.substr(0, kProbeBytes))));
    case FrameKind::kProbeReply:
      return without_value(decode_probe_reply(bytes_of(payload.substr(0, kProbeReplyBytes))));
    default:
      return {};  // payloads that nobody decodes
  }
}

}  // namespace outboard::wire
