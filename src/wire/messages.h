// SPDX-License-Identifier: Apache-2.0
// The messages as plain values, and their bytes. Control messages are FlatBuffers (control.fbs)
// that are verified and checked against base/limits.h before a field is used; a Run's are fixed
// records. docs/wire.md is the specification. Pure; thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/sha256.h"
#include "wire/coding/choose.h"
#include "wire/tensor.h"

namespace outboard::wire {

using Bytes = std::span<const std::byte>;

// ---- handshake ----------------------------------------------------------------------------------

// A feature that a client offers and a server accepts or drops; `data` is the feature's own.
struct Feature {
  std::uint32_t number = 0;  // docs/wire.md has the list; numbers are never reused
  std::string data;
  bool operator==(const Feature&) const = default;
};

// Numbers of Feature.
// 1, authentication: the client's data is its token, only over a connection that it has verified;
// the server's, the name of the tenant that it is for.
inline constexpr std::uint32_t kFeatureAuthentication = 1;
inline constexpr std::uint32_t kFeatureHop = 8;  // no data: results have ServerTimes::hop_ns
inline constexpr std::uint32_t kFeatureTensorCoding = 3;  // data: coding/speeds.h's CodingOffer
inline constexpr std::uint32_t kFeatureKnownTensors = 4;  // data of the reply: encode_known_limit()
inline constexpr std::uint32_t kFeatureSharedMemory = 2;  // data: as a shared region's record
inline constexpr std::uint32_t kFeatureRings = 9;  // transport/ring_stream.h; with shared memory

// The one with this number; nullptr: none.
const Feature* find_feature(const std::vector<Feature>& features, std::uint32_t number);

struct Hello {
  std::string software;           // "outboard 0.1.0", for people
  std::string client_id;          // random, one a client process
  std::vector<Feature> features;  // offered; authentication is one
  bool operator==(const Hello&) const = default;
};

struct HelloReply {
  std::string software;
  std::string server_id;           // random, new at each start of the server
  std::vector<Feature> features;   // accepted; those declined are missing
  std::uint32_t heartbeat_ms = 0;  // how often a heartbeat comes while a request is worked on
  std::string engine;              // "onnxruntime 1.31.1"
  std::string device;              // "cpu", "cuda:0"
  // Execution providers that a session may ask for, the most capable first.
  std::vector<std::string> providers;
  bool operator==(const HelloReply&) const = default;
};

// ---- models -------------------------------------------------------------------------------------

// One file of a model: the model itself (first, name "model") or external data by its relative
// path.
struct ModelFile {
  std::string name;
  std::uint64_t size_bytes = 0;
  Sha256 sha256;
  bool operator==(const ModelFile&) const = default;
};

// What names a model: all its files by content.
struct ModelManifest {
  std::vector<ModelFile> files;
  bool operator==(const ModelManifest&) const = default;
  // SHA-256 over "outboard-model-1\n" and, for each file, name length (u32), name, size (u64),
  // SHA-256.
  Sha256 id() const;
};

// What the server still needs: for each file of the manifest the bytes it has (a complete file:
// its whole size).
struct ModelState {
  std::vector<std::uint64_t> have_bytes;
  bool complete = false;
  bool operator==(const ModelState&) const = default;
};

// A piece of a model's file. Pieces come in order; `offset` must be what the server has.
struct UploadChunk {
  Sha256 file;  // the file's hash, known from a manifest on this connection
  std::uint64_t file_bytes = 0;
  std::uint64_t offset = 0;
};
inline constexpr std::size_t kUploadChunkBytes = 48;
std::string encode(const UploadChunk&);  // the record; the piece's bytes follow
Result<UploadChunk> decode_upload_chunk(Bytes);

struct UploadState {
  std::uint64_t have_bytes = 0;
  bool operator==(const UploadState&) const = default;
};

// ---- sessions -----------------------------------------------------------------------------------

struct ProviderChoice {  // an execution provider that the program asked for
  std::string name;      // ONNX Runtime's name, "CUDAExecutionProvider"
  std::map<std::string, std::string> options;
  bool operator==(const ProviderChoice&) const = default;
};

// What of a program's session options decides what the model computes.
struct SessionOptions {
  std::uint32_t graph_optimization_level = 99;  // ONNX Runtime's numbers: 0, 1, 2, 3, 99 (all)
  bool parallel_execution = false;
  std::map<std::string, std::int64_t> free_dimensions_by_name;
  std::map<std::string, std::int64_t> free_dimensions_by_denotation;
  std::map<std::string, std::string> config_entries;
  std::vector<ProviderChoice> providers;  // in the order of preference; empty: the server's own
  bool operator==(const SessionOptions&) const = default;
};

struct SessionOpen {
  std::uint32_t handle = 0;  // chosen by the client, of this connection, not in use there
  Sha256 model;              // ModelManifest::id()
  SessionOptions options;
  bool operator==(const SessionOpen&) const = default;
};

struct ValueDescription {
  std::string name;
  ElementType type = ElementType::kUndefined;
  bool has_shape = false;              // false: even the rank is unknown
  std::vector<std::int64_t> dims;      // -1: unknown or symbolic
  std::vector<std::string> dim_names;  // as many as dims; "" where there is none
  bool operator==(const ValueDescription&) const = default;
};

// A session's signature and metadata as the server's engine reports them.
struct SessionDescription {
  std::vector<ValueDescription> inputs, outputs;
  std::string producer, graph_name, graph_description, domain, description;
  std::int64_t version = 0;
  std::map<std::string, std::string> custom_metadata;
  bool operator==(const SessionDescription&) const = default;
};

// ---- runs ---------------------------------------------------------------------------------------

struct RunRequest {
  std::uint32_t session = 0;           // the handle of SessionOpen
  std::vector<std::uint32_t> outputs;  // indices of the outputs wanted, in this order
  std::vector<TensorHeader> inputs;    // all of the session's inputs, in its order
};

// How the server spent its time on a Run, and how busy it is; times in nanoseconds.
struct ServerTimes {
  std::uint64_t receive_ns = 0;   // first to last byte of the request
  std::uint64_t queue_ns = 0;     // waiting for the device
  std::uint64_t compute_ns = 0;   // inside the engine
  std::uint32_t queue_depth = 0;  // other Runs that wait or compute there now
  // What of compute_ns went by on the way to a worker process and back, at most 4.29 s; 0: none.
  std::uint32_t hop_ns = 0;
  bool operator==(const ServerTimes&) const = default;
};

struct RunResult {
  ServerTimes times;
  std::vector<TensorHeader> outputs;  // in the order of RunRequest::outputs
};

// The record before the tensors' bytes starts with its own size, so that a receiver can take it
// whole.
std::string encode(const RunRequest&);
std::string encode(const RunResult&);
Result<RunRequest> decode_run_request(Bytes record);
Result<RunResult> decode_run_result(Bytes record);
inline constexpr std::size_t kRunRecordPrefixBytes = 4;

// The record of FrameKind::kSharedRegion: the size in bytes of what the descriptor that comes with
// the frame stands for.
std::string encode_shared_region(std::uint64_t size_bytes);
Result<std::uint64_t> decode_shared_region(Bytes);

// What a client has measured of the way from the server, and how outputs shall be coded. Of this
// connection, from then on; not answered.
struct CodingHint {
  std::uint64_t down_bytes_per_s = 0;  // 0: not known, or too fast for any coding
  CodingMode mode = CodingMode::kAuto;
  bool operator==(const CodingHint&) const = default;
};
std::string encode(const CodingHint&);
Result<CodingHint> decode_coding_hint(Bytes record);

// Inputs of a Run that came as a hash and that the server does not have, in ascending order.
std::string encode_tensors_wanted(std::span<const std::uint32_t> inputs);
Result<std::vector<std::uint32_t>> decode_tensors_wanted(Bytes record);

// Data of the feature "known tensors" in a server's reply: what it keeps for this connection.
std::string encode_known_limit(std::uint64_t size_bytes);
Result<std::uint64_t> decode_known_limit(Bytes data);

struct Heartbeat {
  std::uint32_t queue_depth = 0;
};
std::string encode(const Heartbeat&);
Result<Heartbeat> decode_heartbeat(Bytes);

// Asks what a Run would find, without one: how long bytes take, and what waits at the server.
struct Probe {
  std::uint32_t reply_bytes = 0;  // wanted after the reply's record
};
struct ProbeReply {
  std::uint64_t receive_ns = 0;  // first to last byte of the probe
  std::uint64_t wait_ns = 0;     // that a Run which came now would wait for the device
  bool is_draining = false;
  bool operator==(const ProbeReply&) const = default;
};
inline constexpr std::size_t kProbeBytes = 8, kProbeReplyBytes = 24;
std::string encode(const Probe&);
std::string encode(const ProbeReply&);
Result<Probe> decode_probe(Bytes record);  // the record alone, without the padding
Result<ProbeReply> decode_probe_reply(Bytes record);

std::string encode_session_close(std::uint32_t handle);
Result<std::uint32_t> decode_session_close(Bytes);

// ---- control messages (FlatBuffers)
// ---------------------------------------------------------------

std::string encode(const Hello&);
std::string encode(const HelloReply&);
std::string encode(const Error&);
std::string encode(const ModelManifest&);
std::string encode(const ModelState&);
std::string encode(const UploadState&);
std::string encode(const SessionOpen&);
std::string encode(const SessionDescription&);  // the payload of kSessionOpened

Result<Hello> decode_hello(Bytes);
Result<HelloReply> decode_hello_reply(Bytes);
Result<Error> decode_error(Bytes);  // the outer Result: bytes that are no ErrorReply
Result<ModelManifest> decode_model_manifest(Bytes);
Result<ModelState> decode_model_state(Bytes);
Result<UploadState> decode_upload_state(Bytes);
Result<SessionOpen> decode_session_open(Bytes);
Result<SessionDescription> decode_session_description(Bytes);

}  // namespace outboard::wire
