// SPDX-License-Identifier: Apache-2.0
// Sessions on the server and their Runs: the hot path of the client.
#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <optional>
#include <utility>

#include "base/check.h"
#include "base/clock.h"
#include "base/cursor.h"
#include "base/limits.h"
#include "wire/client.h"
#include "wire/client_internal.h"

namespace outboard::wire {
namespace {

std::int64_t now_ns() { return Clock::monotonic().now().count(); }

// The error after which the caller knows that the request may have been executed.
tl::unexpected<Error> after_sending(Error error) {
  if (error.kind == ErrorKind::kDisconnected) error.kind = ErrorKind::kMaybeExecuted;
  return tl::make_unexpected(std::move(error));
}

}  // namespace

// ---- sessions
// ---------------------------------------------------------------------------------------

Result<std::shared_ptr<RemoteSession>> Client::open(const Sha256& model,
                                                    const SessionOptions& options) {
  // Not make_shared: the constructor is private.
  std::shared_ptr<RemoteSession> session(new RemoteSession(*this, next_handle_++, model, options));
  OB_TRY(session->description_, with_connection([&](Pooled& pooled) {
           return open_on(pooled, *session, options_.control_timeout);
         }));
  return session;
}

Result<SessionDescription> Client::open_on(Pooled& pooled, const RemoteSession& session,
                                           std::chrono::milliseconds stall_timeout) {
  const SessionOpen request{session.handle_, session.model_, session.options_};
  OB_TRY(const std::string reply, exchange_on(pooled, FrameKind::kSessionOpen, encode(request),
                                              FrameKind::kSessionOpened, stall_timeout));
  pooled.open_handles.insert(session.handle_);
  return decode_session_description(as_byte_span(reply));
}

// The same without waiting for the reply: the Run that follows does.
Result<void> Client::open_ahead(Pooled& pooled, const RemoteSession& session) {
  const SessionOpen request{session.handle_, session.model_, session.options_};
  pooled.open_ahead = pooled.next_request++;
  pooled.connection.hold({.kind = FrameKind::kSessionOpen, .request_id = pooled.open_ahead},
                         encode(request));
  pooled.open_handles.insert(session.handle_);
  return {};
}

RemoteSession::RemoteSession(Client& client, std::uint32_t handle, Sha256 model,
                             SessionOptions options)
    : client_(client), handle_(handle), model_(model), options_(std::move(options)) {}

RemoteSession::~RemoteSession() { client_.close_handle(handle_); }

// ---- runs
// -------------------------------------------------------------------------------------------

namespace {

Result<std::span<const std::byte>> shared_view(const SharedLink* shared, std::uint64_t offset,
                                               std::uint64_t size_bytes) {
  if (shared == nullptr)
    return error(ErrorKind::kInvalid, "tensor came by shared memory, which was not agreed on");
  return shared->view(offset, size_bytes);
}

// Copies the large inputs to shared memory and says in the request where they are. Returns their
// bytes.
Result<std::uint64_t> share_inputs(Connection& connection, SharedLink* shared, RunRequest& request,
                                   std::span<const InputTensor> inputs) {
  for (TensorHeader& header : request.inputs) {  // of another attempt
    header.shared_offset.reset();
    header.known.reset();
    header.in_chunks = header.keep = false;
  }
  if (shared == nullptr) return std::uint64_t{0};
  const auto goes_there = [](const TensorHeader& header) {
    return header.type != ElementType::kString &&
           header.data_bytes >= SharedLink::kLeastTensorBytes;
  };
  std::uint64_t needed = 0, shared_bytes = 0;
  for (const TensorHeader& header : request.inputs)
    if (goes_there(header)) needed += SharedLink::room_for(header.data_bytes);
  OB_CHECK_OK(shared->begin(connection, needed));
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    TensorHeader& header = request.inputs[i];
    if (!goes_there(header)) continue;
    const auto place = shared->place(header.data_bytes);
    if (!place) continue;  // no memory: in the frame
    std::memcpy(place->bytes.data(), inputs[i].data.data(), inputs[i].data.size());
    header.shared_offset = place->offset;
    shared_bytes += header.data_bytes;
  }
  return shared_bytes;
}

// The request's frame: its record, and the tensors that are neither in shared memory nor in chunks.
Result<void> send_request(Connection& connection, const FrameHeader& header,
                          const RunRequest& request, std::span<const InputTensor> inputs) {
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
    parts[i + 1] = {const_cast<std::byte*>(inputs[i].data.data()), request.inputs[i].frame_bytes()};
  return connection.send(header, parts);
}

// Reads the outputs of a reply into the sink. The outer Result is the stream's; `sink_error` is set
// when the sink would not take an output, and the rest of the reply is drained. Outputs in chunks
// come after all others, in their order.
Result<void> receive_outputs(Connection& connection, const SharedLink* shared, CodedLink* coded,
                             std::uint64_t id, const RunResult& result, OutputSink& sink,
                             std::optional<Error>& sink_error) {
  std::vector<std::span<std::byte>> later(result.outputs.size());  // of outputs in chunks
  for (std::size_t i = 0; i < result.outputs.size() && !sink_error; ++i) {
    const TensorHeader& header = result.outputs[i];
    if (header.type == ElementType::kString) {
      if (auto admitted = sink.admit_strings(i, header); !admitted) {
        sink_error = std::move(admitted).error();
        break;
      }
      OB_TRY(const std::string data, connection.read_string(header.data_bytes));
      OB_TRY(const auto elements,
             decode_strings(as_byte_span(data), element_count(header.dims).value_or(0)));
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
    if (header.in_chunks) {
      later[i] = *memory;
    } else if (header.shared_offset) {
      OB_TRY(const auto bytes, shared_view(shared, *header.shared_offset, header.data_bytes));
      if (!bytes.empty()) std::memcpy(memory->data(), bytes.data(), bytes.size());
    } else {
      OB_CHECK_OK(connection.read(*memory));
    }
  }
  OB_CHECK_OK(connection.skip(connection.payload_left()));
  for (std::size_t i = 0; i < result.outputs.size(); ++i) {
    const TensorHeader& header = result.outputs[i];
    if (!header.in_chunks) continue;
    if (sink_error) {
      OB_CHECK_OK(coded->coder().skip(id, header.data_bytes));
    } else {
      OB_CHECK_OK(coded->coder().receive(id, header, later[i]));
    }
  }
  return {};
}

// What the reply's headers say and this connection cannot have.
Result<void> check_outputs(const RunResult& result, bool has_coding) {
  for (const TensorHeader& output : result.outputs) {
    if (output.known || output.keep || (output.in_chunks && !has_coding))
      return error(ErrorKind::kInvalid, "output came in a form which was not agreed on");
  }
  return {};
}

std::uint64_t total_bytes(std::span<const InputTensor> inputs) {
  std::uint64_t bytes = 0;
  for (const InputTensor& input : inputs) bytes += input.data.size();
  return bytes;
}

class UnderWay {
 public:
  explicit UnderWay(std::atomic<int>& count) : count_(count) { count_.fetch_add(1); }
  UnderWay(const UnderWay&) = delete;
  UnderWay& operator=(const UnderWay&) = delete;
  ~UnderWay() { count_.fetch_sub(1); }

 private:
  std::atomic<int>& count_;
};

std::function<bool()> stop_when(const CancelToken* cancel) {
  if (cancel == nullptr) return {};
  return [cancel] { return cancel->is_cancelled(); };
}

}  // namespace

SendTurns::Turn Client::take_turn(Pooled& pooled, std::uint64_t bytes, CancelToken* cancel) {
  // The first two spare a small Run the question of the path.
  if (pooled.shared || bytes < SendTurns::kBeyondHostBytes ||
      !SendTurns::worth_waiting(bytes, pooled.connection.path()))
    return {};
  pooled.connection.keep_little_unsent(runs_under_way_.load(std::memory_order_relaxed) > 1);
  // Until then nothing is asked of the server.
  if (cancel != nullptr) cancel->heard(now_ns() + Nanoseconds(SendTurns::kMostWait).count());
  const CancelWatch waking(cancel, [this](bool) { turns_.wake(); });
  return turns_.take(stop_when(cancel));
}

Result<FrameHeader> Client::receive_run_header(Pooled& pooled, std::uint64_t id,
                                               const RunRequest& request,
                                               std::span<const InputTensor> inputs,
                                               CancelToken* cancel) {
  OB_TRY(FrameHeader header, receive_reply_header(pooled, id, FrameKind::kRunResult));
  if (header.kind == FrameKind::kTensorsWanted) {
    OB_CHECK_OK(pooled.coded->send_wanted(id, request, inputs, stop_when(cancel)));
    OB_TRY(header, receive_reply_header(pooled, id, FrameKind::kRunResult));
    if (header.kind != FrameKind::kRunResult)
      return error(ErrorKind::kInvalid, "server asked for tensors of a Run twice");
  }
  return header;
}

Result<RunAccount> Client::run_on(Pooled& pooled, RunRequest& request,
                                  std::span<const InputTensor> inputs, OutputSink& sink,
                                  CancelToken* cancel, std::uint32_t deadline_us,
                                  std::uint64_t request_id) {
  Connection& connection = pooled.connection;
  const std::uint64_t id = request_id != 0 ? request_id : pooled.next_request++;
  RunAccount account;
  account.request_id = id;
  account.start_ns = now_ns();
  const std::uint64_t sent_before = connection.bytes_sent(),
                      received_before = connection.bytes_received();
  const std::uint64_t bytes = total_bytes(inputs);
  const UnderWay under_way(runs_under_way_);
  SendTurns::Turn turn = take_turn(pooled, bytes, cancel);
  if (bytes >= Stream::kWorthFollowingBytes) pooled.moved_bytes = connection.moved_bytes();
  const std::int64_t begun = now_ns();
  account.turn_ns = static_cast<std::uint64_t>(begun - account.start_ns);
  if (cancel != nullptr) cancel->heard(begun);
  OB_TRY(const std::uint64_t shared_bytes,
         share_inputs(connection, pooled.shared.get(), request, inputs));
  if (pooled.coded) OB_CHECK_OK(pooled.coded->plan(request, inputs));
  // The frame lets a server that reads it stop at once; one that cannot sees the connection go.
  const CancelWatch watch(
      cancel,
      [&connection, id, waits = options_.waits_when_cancelled](bool politely) {
        const bool asked =
            politely && connection.try_send({.kind = FrameKind::kCancel, .request_id = id});
        if (!asked) {
          connection.abandon();
        } else if (!waits) {
          connection.shut_down();
        }
      },
      [&connection, before = pooled.moved_bytes.value_or(0)] {
        const std::uint64_t moved = connection.moved_bytes();
        return moved > before ? moved - before : 0;
      });
  OB_CHECK_OK(send_request(connection,
                           {.kind = FrameKind::kRun, .request_id = id, .deadline_us = deadline_us},
                           request, inputs));
  // A cancel that left before the Run did named nothing yet.
  if (options_.waits_when_cancelled && cancel != nullptr && cancel->is_cancelled())
    connection.try_send({.kind = FrameKind::kCancel, .request_id = id});
  if (pooled.coded) OB_CHECK_OK(pooled.coded->send_inputs(id, request, inputs, stop_when(cancel)));
  turn.end();
  const std::int64_t sent = now_ns();
  auto header = receive_run_header(pooled, id, request, inputs, cancel);
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
  OB_TRY(const RunResult result, decode_run_result(as_byte_span(result_record)));
  std::uint64_t data_bytes = 0, shared_output_bytes = 0;
  for (const TensorHeader& output : result.outputs) {
    data_bytes += output.frame_bytes();
    if (output.shared_offset) shared_output_bytes += output.data_bytes;
  }
  if (result.outputs.size() != request.outputs.size() || data_bytes != connection.payload_left())
    return error(ErrorKind::kInvalid,
                 "result with {} outputs of {} bytes came where {} outputs and {} bytes were left",
                 result.outputs.size(), data_bytes, request.outputs.size(),
                 connection.payload_left());

  OB_CHECK_OK(check_outputs(result, pooled.coded != nullptr));
  std::optional<Error> sink_error;
  OB_CHECK_OK(receive_outputs(connection, pooled.shared.get(), pooled.coded.get(), id, result, sink,
                              sink_error));
  if (sink_error) {
    pooled.reported_error = true;  // the stream itself is in step
    return tl::make_unexpected(std::move(*sink_error));
  }
  account.send_ns = static_cast<std::uint64_t>(sent - account.start_ns);
  account.wait_ns = static_cast<std::uint64_t>(first_byte - sent);
  account.receive_ns = static_cast<std::uint64_t>(now_ns() - first_byte);
  account.server = result.times;
  account.bytes_sent = connection.bytes_sent() - sent_before + shared_bytes;
  account.bytes_received = connection.bytes_received() - received_before + shared_output_bytes;
  account.raw_bytes_sent = account.bytes_sent;
  account.raw_bytes_received = account.bytes_received;
  if (pooled.coded) pooled.coded->add_to(account, request);
  return account;
}

Result<RunAccount> RemoteSession::run(std::span<const std::uint32_t> outputs,
                                      std::span<const InputTensor> inputs, OutputSink& sink,
                                      CancelToken* cancel, std::chrono::microseconds deadline,
                                      std::uint64_t request_id) {
  RunRequest request{handle_, {outputs.begin(), outputs.end()}, {}};
  request.inputs.reserve(inputs.size());
  for (const InputTensor& input : inputs) {
    OB_CHECK(input.header.data_bytes == input.data.size());
    request.inputs.push_back(input.header);
  }
  const auto deadline_us = static_cast<std::uint32_t>(
      std::clamp<std::int64_t>(deadline.count(), 0, std::numeric_limits<std::uint32_t>::max()));
  const auto cancelled = [cancel] { return cancel != nullptr && cancel->is_cancelled(); };
  const Nanoseconds start = Clock::monotonic().now();
  for (bool fresh = false;; fresh = true) {
    if (cancelled()) return error(ErrorKind::kCancelled, "Run was cancelled");
    auto acquired = client_.acquire(fresh, cancel);
    if (!acquired && cancelled()) return error(ErrorKind::kCancelled, "Run was cancelled");
    if (!acquired) return tl::make_unexpected(std::move(acquired).error());
    Client::Lease lease = std::move(*acquired);
    Client::Pooled& pooled = *lease.held;
    pooled.token = cancel;
    Result<RunAccount> account = tl::make_unexpected(Error{});
    if (pooled.hello_ahead != 0) {
      OB_CHECK_OK(client_.open_ahead(pooled, *this));
    } else if (!pooled.open_handles.contains(handle_)) {
      const CancelWatch watch(cancel, [&pooled](bool) { pooled.connection.abandon(); });
      if (auto opened = client_.open_on(pooled, *this, client_.options_.stall_timeout); !opened)
        account = tl::make_unexpected(std::move(opened).error());
    }
    if (pooled.open_handles.contains(handle_))
      account = client_.run_on(pooled, request, inputs, sink, cancel, deadline_us, request_id);
    pooled.token = nullptr;
    if (account || std::exchange(pooled.reported_error, false)) {
      lease.in_step();
      return account;
    }
    if (cancelled()) return error(ErrorKind::kCancelled, "Run was cancelled");
    // A pooled connection that had died unnoticed: nothing was executed, so a fresh one may try,
    // unless finding out took so long that the caller has better to do.
    if (!pooled.from_pool || account.error().kind != ErrorKind::kDisconnected ||
        Clock::monotonic().now() - start > limits::kHeartbeatInterval)
      return account;
  }
}

}  // namespace outboard::wire
