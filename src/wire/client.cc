// SPDX-License-Identifier: Apache-2.0
#include "wire/client.h"

#include <fmt/ranges.h>
#include <sys/random.h>

#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <utility>

#include "base/check.h"
#include "base/clock.h"
#include "base/cursor.h"

namespace outboard::wire {
namespace {

Bytes bytes_of(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

std::string random_id() {
  std::array<unsigned char, 8> raw{};
  OB_CHECK(::getrandom(raw.data(), raw.size(), 0) == static_cast<ssize_t>(raw.size()));
  return fmt::format("{:02x}", fmt::join(raw, ""));
}

std::int64_t now_ns() { return Clock::monotonic().now().count(); }

// The error after which the caller knows that the request may have been executed.
tl::unexpected<Error> after_sending(Error error) {
  if (error.kind == ErrorKind::kDisconnected) error.kind = ErrorKind::kMaybeExecuted;
  return tl::make_unexpected(std::move(error));
}

}  // namespace

// ---- connections
// ------------------------------------------------------------------------------------

struct Client::Pooled {
  explicit Pooled(std::unique_ptr<Stream> stream) : connection(std::move(stream)) {}
  Connection connection;
  std::set<std::uint32_t> open_handles;
  std::uint64_t next_request = 1;
  std::uint64_t counted_sent = 0, counted_received = 0;  // already in the client's counters
  bool from_pool = false;                                // may have gone stale since its last use
  bool reported_error = false;  // the last exchange failed, but left the connection in step
};

// Holds a connection for one exchange. `in_step()` gives it back to the pool, else it is dropped.
struct Client::Lease {
  Lease(Client& owner, std::unique_ptr<Pooled> pooled) : client(&owner), held(std::move(pooled)) {}
  Lease(Lease&& other) noexcept = default;
  Lease& operator=(Lease&& other) noexcept = default;
  ~Lease() {
    if (held) client->count_frames(*held);
  }
  void in_step() { client->release(std::move(held)); }
  Pooled* operator->() const { return held.get(); }

  Client* client;
  std::unique_ptr<Pooled> held;
};

Client::Client(Endpoint endpoint, ClientOptions options)
    : endpoint_(std::move(endpoint)), options_(std::move(options)), client_id_(random_id()) {}

Client::~Client() = default;

void Client::count_frames(Pooled& pooled) {
  const std::uint64_t sent = pooled.connection.frames_sent(),
                      received = pooled.connection.frames_received();
  frames_sent_ += sent - std::exchange(pooled.counted_sent, sent);
  frames_received_ += received - std::exchange(pooled.counted_received, received);
}

Result<std::unique_ptr<Client::Pooled>> Client::connect() {
  OB_TRY(auto stream,
         options_.connect ? options_.connect() : connect_to(endpoint_, options_.connect_timeout));
  auto pooled = std::make_unique<Pooled>(std::move(stream));
  Connection& connection = pooled->connection;
  connection.stream().set_stall_timeout(options_.stall_timeout);
  const Hello hello{options_.software, client_id_, options_.features};
  OB_CHECK_OK(connection.send({.kind = FrameKind::kHello, .request_id = pooled->next_request},
                              encode(hello)));
  OB_TRY(const std::string payload,
         receive_reply(*pooled, pooled->next_request++, FrameKind::kHelloReply));
  OB_TRY(HelloReply reply, decode_hello_reply(bytes_of(payload)));
  const std::lock_guard lock(mutex_);
  hello_ = std::move(reply);
  return pooled;
}

Result<Client::Lease> Client::acquire(bool fresh) {
  while (!fresh) {
    std::unique_ptr<Pooled> pooled;
    {
      const std::lock_guard lock(mutex_);
      if (idle_.empty()) break;
      pooled = std::move(idle_.back());
      idle_.pop_back();
    }
    // Nothing may have come while it was idle: whatever did is an end, or out of step.
    std::byte probe;
    const auto ahead = pooled->connection.stream().peek(std::span(&probe, 1));
    if (ahead && *ahead == 0 && pooled->connection.buffered_bytes() == 0) {
      pooled->from_pool = true;
      return Lease(*this, std::move(pooled));
    }
    count_frames(*pooled);
  }
  OB_TRY(auto pooled, connect());
  return Lease(*this, std::move(pooled));
}

void Client::release(std::unique_ptr<Pooled> pooled) {
  std::vector<std::uint32_t> to_close;
  {
    const std::lock_guard lock(mutex_);
    for (const std::uint32_t handle : pooled->open_handles) {
      if (closed_handles_.contains(handle)) to_close.push_back(handle);
    }
    if (to_close.empty()) {
      count_frames(*pooled);
      idle_.push_back(std::move(pooled));
      return;
    }
  }
  for (const std::uint32_t handle : to_close) {
    pooled->open_handles.erase(handle);
    if (!pooled->connection.send({.kind = FrameKind::kSessionClose}, encode_session_close(handle)))
      return;
  }
  count_frames(*pooled);
  const std::lock_guard lock(mutex_);
  idle_.push_back(std::move(pooled));
}

void Client::close_handle(std::uint32_t handle) {
  std::vector<std::unique_ptr<Pooled>> affected;
  {
    const std::lock_guard lock(mutex_);
    closed_handles_.insert(handle);
    const auto first = std::partition(idle_.begin(), idle_.end(), [&](const auto& pooled) {
      return !pooled->open_handles.contains(handle);
    });
    affected.assign(std::move_iterator(first), std::move_iterator(idle_.end()));
    idle_.erase(first, idle_.end());
  }
  for (auto& pooled : affected) release(std::move(pooled));
}

void Client::drop_idle() {
  const std::lock_guard lock(mutex_);
  idle_.clear();
}

std::uint64_t Client::frames_sent() const { return frames_sent_; }
std::uint64_t Client::frames_received() const { return frames_received_; }

// ---- exchanges
// --------------------------------------------------------------------------------------

// The next frame that answers `request_id`; heartbeats are taken as life and skipped. An error
// frame is the Error that it carries.
Result<FrameHeader> Client::receive_reply_header(Pooled& pooled, std::uint64_t request_id,
                                                 FrameKind expected) {
  Connection& connection = pooled.connection;
  for (;;) {
    OB_TRY(const FrameHeader header, connection.receive_header());
    if (header.kind == FrameKind::kHeartbeat) {
      OB_CHECK_OK(connection.skip(header.length));
      continue;
    }
    if (header.request_id != request_id)
      return error(ErrorKind::kInvalid,
                   "reply to request ({}) came where the reply to ({}) was expected",
                   header.request_id, request_id);
    if (header.kind == expected) return header;
    if (header.kind != FrameKind::kError)
      return error(ErrorKind::kInvalid, "frame of kind {} ({}) came where ({}) was expected",
                   static_cast<int>(header.kind), name_of(header.kind), name_of(expected));
    OB_TRY(const std::string payload, connection.read_string(header.length));
    OB_TRY(Error reported, decode_error(bytes_of(payload)));
    // Told by the peer over a connection that works: the exchange itself is complete.
    pooled.reported_error = true;
    return tl::make_unexpected(std::move(reported));
  }
}

Result<std::string> Client::receive_reply(Pooled& pooled, std::uint64_t request_id,
                                          FrameKind expected) {
  OB_TRY(const FrameHeader header, receive_reply_header(pooled, request_id, expected));
  return pooled.connection.read_string(header.length);
}

// One control request and its reply on some connection; tried once more when a pooled one was
// stale.
Result<std::string> Client::exchange(FrameKind kind, std::string_view payload, FrameKind expected) {
  for (bool fresh = false;; fresh = true) {
    OB_TRY(Lease lease, acquire(fresh));
    auto reply = exchange_on(*lease.held, kind, payload, expected);
    if (reply || std::exchange(lease->reported_error, false)) {
      lease.in_step();
      return reply;
    }
    if (!lease->from_pool || reply.error().kind != ErrorKind::kDisconnected) return reply;
  }
}

Result<std::string> Client::exchange_on(Pooled& pooled, FrameKind kind, std::string_view payload,
                                        FrameKind expected) {
  const std::uint64_t request = pooled.next_request++;
  Stream& stream = pooled.connection.stream();
  OB_CHECK_OK(pooled.connection.send({.kind = kind, .request_id = request}, payload));
  stream.set_stall_timeout(options_.control_timeout);
  auto reply = receive_reply(pooled, request, expected);
  stream.set_stall_timeout(options_.stall_timeout);
  return reply;
}

Result<HelloReply> Client::hello() {
  OB_TRY(Lease lease, acquire(false));
  lease.in_step();
  const std::lock_guard lock(mutex_);
  return hello_;
}

Result<std::chrono::nanoseconds> Client::ping(std::size_t payload_bytes) {
  const std::string payload(std::min<std::size_t>(payload_bytes, length_limit(FrameKind::kPing)),
                            '\0');
  OB_CHECK_OK(hello());  // so that connecting is not counted
  const std::int64_t start = now_ns();
  OB_CHECK_OK(exchange(FrameKind::kPing, payload, FrameKind::kPong));
  return std::chrono::nanoseconds(now_ns() - start);
}

Result<ModelState> Client::query(const ModelManifest& manifest) {
  OB_TRY(const std::string reply,
         exchange(FrameKind::kModelQuery, encode(manifest), FrameKind::kModelState));
  OB_TRY(ModelState state, decode_model_state(bytes_of(reply)));
  if (state.have_bytes.size() != manifest.files.size())
    return error(ErrorKind::kInvalid, "state of a model must name {} files, not {}",
                 manifest.files.size(), state.have_bytes.size());
  return state;
}

Result<std::string> Client::status() {
  return exchange(FrameKind::kStatus, {}, FrameKind::kStatusReply);
}

Result<void> Client::upload(const ModelPackage& package, const Progress& progress) {
  // All on one connection: the server knows the files from the query that came on it.
  OB_TRY(Lease lease, acquire(/*fresh=*/true));
  const ModelManifest& manifest = package.manifest();
  OB_TRY(const std::string reply, exchange_on(*lease.held, FrameKind::kModelQuery, encode(manifest),
                                              FrameKind::kModelState));
  OB_TRY(ModelState state, decode_model_state(bytes_of(reply)));
  if (state.have_bytes.size() != manifest.files.size())
    return error(ErrorKind::kInvalid, "state of a model must name {} files, not {}",
                 manifest.files.size(), state.have_bytes.size());
  std::uint64_t done = 0;
  for (const std::uint64_t bytes : state.have_bytes) done += bytes;
  for (std::size_t i = 0; i < manifest.files.size(); ++i) {
    OB_CHECK_OK(upload_file(*lease.held, package, i, state.have_bytes[i], done, progress));
  }
  lease.in_step();
  return {};
}

Result<void> Client::upload_file(Pooled& pooled, const ModelPackage& package, std::size_t index,
                                 std::uint64_t have, std::uint64_t& done,
                                 const Progress& progress) {
  const ModelFile& file = package.manifest().files[index];
  std::vector<std::byte> piece(std::min<std::uint64_t>(limits::kUploadChunkBytes, file.size_bytes));
  while (have < file.size_bytes) {
    if (progress && !progress(done, package.total_bytes()))
      return error(ErrorKind::kCancelled, "upload of model ({}) was cancelled",
                   package.id().hex().substr(0, 12));
    OB_TRY(const std::size_t n, package.read_at(index, have, piece));
    if (n == 0)
      return error(ErrorKind::kInvalid, "model file ({}) shrank while it was uploaded", file.name);
    const std::string record = encode(UploadChunk{file.sha256, file.size_bytes, have});
    const std::array<iovec, 2> parts{
        {{const_cast<char*>(record.data()), record.size()}, {piece.data(), n}}};
    const std::uint64_t request = pooled.next_request++;
    OB_CHECK_OK(
        pooled.connection.send({.kind = FrameKind::kUploadChunk, .request_id = request}, parts));
    pooled.connection.stream().set_stall_timeout(options_.control_timeout);
    auto reply = receive_reply(pooled, request, FrameKind::kUploadState);
    pooled.connection.stream().set_stall_timeout(options_.stall_timeout);
    if (!reply)
      return tl::make_unexpected(std::move(reply).error().while_doing("uploading a model"));
    OB_TRY(const UploadState state, decode_upload_state(bytes_of(*reply)));
    // Another client may upload the same file: the server then has more than we sent.
    if (state.have_bytes < have + n || state.have_bytes > file.size_bytes)
      return error(ErrorKind::kInvalid, "server has {} bytes of a file after {} were sent",
                   state.have_bytes, have + n);
    done += state.have_bytes - have;
    have = state.have_bytes;
  }
  if (progress && !progress(done, package.total_bytes()))
    return error(ErrorKind::kCancelled, "upload of model ({}) was cancelled",
                 package.id().hex().substr(0, 12));
  return {};
}

// ---- sessions
// ---------------------------------------------------------------------------------------

Result<std::shared_ptr<RemoteSession>> Client::open(const Sha256& model,
                                                    const SessionOptions& options) {
  // Not make_shared: the constructor is private.
  std::shared_ptr<RemoteSession> session(new RemoteSession(*this, next_handle_++, model, options));
  for (bool fresh = false;; fresh = true) {
    OB_TRY(Lease lease, acquire(fresh));
    auto description = open_on(*lease.held, *session);
    if (description || std::exchange(lease->reported_error, false)) lease.in_step();
    if (description) {
      session->description_ = std::move(*description);
      return session;
    }
    if (!lease.held || !lease->from_pool || description.error().kind != ErrorKind::kDisconnected)
      return tl::make_unexpected(std::move(description).error());
  }
}

Result<SessionDescription> Client::open_on(Pooled& pooled, const RemoteSession& session) {
  const SessionOpen request{session.handle_, session.model_, session.options_};
  OB_TRY(const std::string reply,
         exchange_on(pooled, FrameKind::kSessionOpen, encode(request), FrameKind::kSessionOpened));
  pooled.open_handles.insert(session.handle_);
  return decode_session_description(bytes_of(reply));
}

RemoteSession::RemoteSession(Client& client, std::uint32_t handle, Sha256 model,
                             SessionOptions options)
    : client_(client), handle_(handle), model_(model), options_(std::move(options)) {}

RemoteSession::~RemoteSession() { client_.close_handle(handle_); }

// ---- runs
// -------------------------------------------------------------------------------------------

// Registers a Run that is under way with its token, for the time of the exchange.
struct CancelRegistration {
  CancelRegistration(CancelToken* cancel_token, Connection& connection, std::uint64_t request)
      : token(cancel_token) {
    if (token == nullptr) return;
    const std::lock_guard lock(token->mutex_);
    auto& active = token->active_;
    slot =
        static_cast<std::size_t>(std::find(active.begin(), active.end(), nullptr) - active.begin());
    if (slot == active.size()) active.emplace_back();
    active[slot] = [&connection, request] {
      // Where the request itself is still on its way out, the connection is given up instead.
      if (!connection.try_send({.kind = FrameKind::kCancel, .request_id = request}))
        connection.stream().shut_down();
    };
    if (token->cancelled_) active[slot]();
  }
  ~CancelRegistration() {
    if (token == nullptr) return;
    const std::lock_guard lock(token->mutex_);
    token->active_[slot] = nullptr;
  }
  CancelRegistration(const CancelRegistration&) = delete;
  CancelRegistration& operator=(const CancelRegistration&) = delete;

  CancelToken* token;
  std::size_t slot = 0;
};

void CancelToken::cancel() {
  const std::lock_guard lock(mutex_);
  cancelled_ = true;
  for (const auto& stop : active_) {
    if (stop) stop();
  }
}

void CancelToken::reset() {
  const std::lock_guard lock(mutex_);
  cancelled_ = false;
}

namespace {

// Reads the outputs of a reply into the sink. The outer Result is the stream's; `sink_error` is set
// when the sink would not take an output, and the rest of the reply is drained.
Result<void> receive_outputs(Connection& connection, const RunResult& result, OutputSink& sink,
                             std::optional<Error>& sink_error) {
  for (std::size_t i = 0; i < result.outputs.size() && !sink_error; ++i) {
    const TensorHeader& header = result.outputs[i];
    if (header.type == ElementType::kString) {
      OB_TRY(const std::string data, connection.read_string(header.data_bytes));
      OB_TRY(const auto elements,
             decode_strings(bytes_of(data), element_count(header.dims).value_or(0)));
      if (auto taken = sink.strings(i, header, elements); !taken)
        sink_error = std::move(taken).error();
      continue;
    }
    auto memory = sink.allocate(i, header);
    if (!memory) {
      sink_error = std::move(memory).error();
      break;
    }
    OB_CHECK(memory->size() == header.data_bytes);
    OB_CHECK_OK(connection.read(*memory));
  }
  return connection.skip(connection.payload_left());
}

}  // namespace

Result<RunAccount> Client::run_on(Pooled& pooled, const RunRequest& request,
                                  std::span<const InputTensor> inputs, OutputSink& sink,
                                  CancelToken* cancel, std::uint32_t deadline_us) {
  Connection& connection = pooled.connection;
  const std::uint64_t id = pooled.next_request++;
  const std::string record = encode(request);
  constexpr std::size_t kInlineParts = 16;
  std::array<iovec, kInlineParts> inline_parts;
  std::vector<iovec> many_parts;
  std::span<iovec> parts(inline_parts.data(), std::min(inputs.size() + 1, kInlineParts));
  if (inputs.size() + 1 > kInlineParts) {
    many_parts.resize(inputs.size() + 1);
    parts = many_parts;
  }
  parts[0] = {const_cast<char*>(record.data()), record.size()};
  for (std::size_t i = 0; i < inputs.size(); ++i)
    parts[i + 1] = {const_cast<std::byte*>(inputs[i].data.data()), inputs[i].data.size()};

  const CancelRegistration registration(cancel, connection, id);
  RunAccount account;
  account.start_ns = now_ns();
  const std::uint64_t sent_before = connection.bytes_sent(),
                      received_before = connection.bytes_received();
  OB_CHECK_OK(connection.send(
      {.kind = FrameKind::kRun, .request_id = id, .deadline_us = deadline_us}, parts));
  const std::int64_t sent = now_ns();
  auto header = receive_reply_header(pooled, id, FrameKind::kRunResult);
  if (!header) return after_sending(std::move(header).error());
  const std::int64_t first_byte = now_ns();

  std::array<std::byte, kRunRecordPrefixBytes> prefix;
  OB_CHECK_OK(connection.read(prefix));
  const auto record_bytes = ByteReader(prefix).read<std::uint32_t>();
  if (record_bytes < prefix.size() || record_bytes > limits::kRunHeaderBytes)
    return error(ErrorKind::kInvalid, "size ({}) of a result's record must be from {} to {}",
                 record_bytes, prefix.size(), limits::kRunHeaderBytes);
  std::string result_record(record_bytes, '\0');
  std::copy(prefix.begin(), prefix.end(), reinterpret_cast<std::byte*>(result_record.data()));
  OB_CHECK_OK(connection.read({reinterpret_cast<std::byte*>(result_record.data()) + prefix.size(),
                               record_bytes - prefix.size()}));
  OB_TRY(const RunResult result, decode_run_result(bytes_of(result_record)));
  std::uint64_t data_bytes = 0;
  for (const TensorHeader& output : result.outputs) data_bytes += output.data_bytes;
  if (result.outputs.size() != request.outputs.size() || data_bytes != connection.payload_left())
    return error(ErrorKind::kInvalid,
                 "result with {} outputs of {} bytes came where {} outputs and {} bytes were left",
                 result.outputs.size(), data_bytes, request.outputs.size(),
                 connection.payload_left());

  std::optional<Error> sink_error;
  OB_CHECK_OK(receive_outputs(connection, result, sink, sink_error));
  if (sink_error) {
    pooled.reported_error = true;  // the stream itself is in step
    return tl::make_unexpected(std::move(*sink_error));
  }
  account.send_ns = static_cast<std::uint64_t>(sent - account.start_ns);
  account.wait_ns = static_cast<std::uint64_t>(first_byte - sent);
  account.receive_ns = static_cast<std::uint64_t>(now_ns() - first_byte);
  account.server = result.times;
  account.bytes_sent = connection.bytes_sent() - sent_before;
  account.bytes_received = connection.bytes_received() - received_before;
  return account;
}

Result<RunAccount> RemoteSession::run(std::span<const std::uint32_t> outputs,
                                      std::span<const InputTensor> inputs, OutputSink& sink,
                                      CancelToken* cancel, std::chrono::microseconds deadline) {
  RunRequest request{handle_, {outputs.begin(), outputs.end()}, {}};
  request.inputs.reserve(inputs.size());
  for (const InputTensor& input : inputs) {
    OB_CHECK(input.header.data_bytes == input.data.size());
    request.inputs.push_back(input.header);
  }
  const auto deadline_us = static_cast<std::uint32_t>(
      std::clamp<std::int64_t>(deadline.count(), 0, std::numeric_limits<std::uint32_t>::max()));
  for (bool fresh = false;; fresh = true) {
    if (cancel != nullptr && cancel->is_cancelled())
      return error(ErrorKind::kCancelled, "Run was cancelled");
    OB_TRY(Client::Lease lease, client_.acquire(fresh));
    Client::Pooled& pooled = *lease.held;
    Result<RunAccount> account = tl::make_unexpected(Error{});
    if (!pooled.open_handles.contains(handle_)) {
      if (auto opened = client_.open_on(pooled, *this); !opened)
        account = tl::make_unexpected(std::move(opened).error());
    }
    if (pooled.open_handles.contains(handle_))
      account = client_.run_on(pooled, request, inputs, sink, cancel, deadline_us);
    if (account || std::exchange(pooled.reported_error, false)) {
      lease.in_step();
      return account;
    }
    if (cancel != nullptr && cancel->is_cancelled())
      return error(ErrorKind::kCancelled, "Run was cancelled");
    // A pooled connection that had died unnoticed: nothing was executed, so a fresh one may try.
    if (!pooled.from_pool || account.error().kind != ErrorKind::kDisconnected) return account;
  }
}

}  // namespace outboard::wire
