// SPDX-License-Identifier: Apache-2.0
// A client of one server: a pool of connections, each of which carries one request at a time.
//
//   Client client(endpoint, {});
//   OB_TRY(auto state, client.query(package->manifest()));
//   if (!state.complete) OB_CHECK_OK(client.upload(*package, progress));
//   OB_TRY(auto session, client.open(package->id(), options));     // shared_ptr<RemoteSession>
//   OB_TRY(auto account, session->run(request, sink, cancel));     // one round trip
//
// Thread-safe: any number of threads may call any method; each Run takes a connection of its own.
// No threads of its own. After fork() the child must make a new Client and leave this one alone.
// Errors: kDisconnected: the server is gone and did not execute the request; kMaybeExecuted: it
// went after the request had left; kTimeout: silent for longer than the stall timeout (heartbeats
// count as life); kOverloaded: full or draining; kEngine: the server's engine said so, with its own
// code; kNotFound: the server does not have the model (any more).
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/limits.h"
#include "base/result.h"
#include "wire/access.h"
#include "wire/cancel.h"
#include "wire/coded_link.h"
#include "wire/connection.h"
#include "wire/messages.h"
#include "wire/model_package.h"
#include "wire/send_turns.h"
#include "wire/shared_link.h"
#include "wire/transport/endpoint.h"

namespace outboard::wire {

struct ClientOptions {
  std::string software = "outboard";
  std::chrono::milliseconds connect_timeout = limits::kConnectTimeout;
  std::chrono::milliseconds stall_timeout = limits::kStallTimeout;
  // The same for requests that no Run waits for: a server may be busy with its disk. With the
  // longest back-off it stays within the 5 s in which a client is to be back.
  std::chrono::milliseconds control_timeout{4'000};
  std::vector<Feature> features;
  // How tensors are coded on a link that is not within this machine (docs/wire.md).
  CodingMode coding = CodingMode::kOff;
  double fixed_link_bytes_per_s = 0;  // taken for the link's rate instead of what is measured
  bool shared_memory = true;          // over a unix socket, where the server agrees
  // A Run that is cancelled ends when the server has ended it, on a connection that goes on.
  bool waits_when_cancelled = false;
  // Tests put another transport here; by default connect_to(endpoint).
  std::function<Result<std::unique_ptr<Stream>>()> connect;
};

// Inputs of a Run, borrowed for the call: header and bytes; for kString `data` is
// encode_strings()'.
struct InputTensor {
  TensorHeader header;
  std::span<const std::byte> data;
};

// Where a Run's outputs go. Called on the thread of run(), in the order of the outputs, each once.
class OutputSink {
 public:
  virtual ~OutputSink() = default;
  // Memory for `header.data_bytes` bytes of output `index` (position in RunRequest's outputs); the
  // wire writes into it directly. An error is returned from run() once the reply has been drained.
  virtual Result<std::span<std::byte>> allocate(std::size_t index, const TensorHeader& header) = 0;
  // Whether a string tensor's `header.data_bytes` bytes may come: asked before they are read into
  // memory of the wire's own.
  virtual Result<void> admit_strings(std::size_t /*index*/, const TensorHeader& /*header*/) {
    return {};
  }
  // A string tensor's elements; the views hold during the call.
  virtual Result<void> strings(std::size_t index, const TensorHeader& header,
                               std::span<const std::string_view> elements) = 0;
};

// Where the time of a Run went, and what it moved; times in nanoseconds, `start_ns` on the
// monotonic clock.
struct RunAccount {
  std::int64_t start_ns = 0;
  std::uint64_t request_id = 0;  // what the server's log calls it, and a worker's
  std::uint64_t send_ns = 0;     // until the kernel had the request
  std::uint64_t turn_ns = 0;     // of that: until other Runs' requests had left
  std::uint64_t wait_ns = 0;     // from then to the reply's first byte
  std::uint64_t receive_ns = 0;  // the reply's bytes
  ServerTimes server;            // lies inside `wait` but for what of `receive` overlaps `send`
  std::uint64_t bytes_sent = 0, bytes_received = 0;
  // The same without coding: what the tensors and records would have been.
  std::uint64_t raw_bytes_sent = 0, raw_bytes_received = 0;
  std::uint64_t encode_ns = 0, decode_ns = 0;  // inside send, and inside receive
  std::uint32_t codings = 0;                   // bit n: coding of that number (coding/codec.h)
};

// What a probe found; times in nanoseconds.
struct ProbeAccount {
  std::uint64_t until_reply_ns = 0;  // from the start of sending to the reply's first byte
  std::uint64_t receive_ns = 0;      // the reply's bytes
  std::uint64_t bytes_sent = 0, bytes_received = 0;
  ProbeReply server;
};

class Client;

// A session on the server: opened anew, by itself, on every connection that needs it. Thread-safe.
// Borrows the client, which must outlive it.
class RemoteSession {
 public:
  const SessionDescription& description() const { return description_; }
  // `outputs`: indices of the outputs wanted. One round trip on a connection that has the session
  // open. `request_id`: where it passes another client's Run on, that one's; 0: the next.
  Result<RunAccount> run(std::span<const std::uint32_t> outputs,
                         std::span<const InputTensor> inputs, OutputSink& sink,
                         CancelToken* cancel = nullptr, std::chrono::microseconds deadline = {},
                         std::uint64_t request_id = 0);
  ~RemoteSession();

 private:
  friend class Client;
  RemoteSession(Client& client, std::uint32_t handle, Sha256 model, SessionOptions options);
  Client& client_;
  const std::uint32_t handle_;
  const Sha256 model_;
  const SessionOptions options_;
  SessionDescription description_;
};

class Client {
 public:
  Client(Access access, ClientOptions options);
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  const Endpoint& endpoint() const { return connector_.access().endpoint; }
  // Connects if need be. What the server said of itself in its handshake.
  Result<HelloReply> hello();
  Result<std::chrono::nanoseconds> ping(std::size_t payload_bytes = 0);  // round trip

  // What a Run of so many bytes would find; kUnimplemented from a server that does not know probes.
  Result<ProbeAccount> probe(std::size_t sent_bytes, std::size_t received_bytes);

  Result<ModelState> query(const ModelManifest& manifest);
  // Sends what the server lacks; resumes what broke off. `progress` (may be empty) is called with
  // bytes done and in all; it ends the upload by returning false (kCancelled).
  using Progress = std::function<bool(std::uint64_t done_bytes, std::uint64_t total_bytes)>;
  Result<void> upload(const ModelPackage& package, const Progress& progress = {});

  Result<std::shared_ptr<RemoteSession>> open(const Sha256& model, const SessionOptions& options);
  Result<std::string> status();  // a JSON document

  // A new connection, its handshake done, that is the caller's alone: for requests that turn it
  // into something else. May outlive the client.
  Result<std::shared_ptr<Connection>> dedicate();

  // Drops idle connections (a server that restarted, a lost link); Runs in flight end by
  // themselves.
  void drop_idle();
  std::uint64_t frames_sent() const;  // over all connections so far, for tests and summaries
  std::uint64_t frames_received() const;
  // How tensors travel: "tcp", "unix", "shared memory"; "" before the first connection.
  std::string_view transport() const { return transport_.load(); }

 private:
  friend class RemoteSession;
  struct Pooled;  // a connection, what is open on it, and its request counter
  struct Lease;   // takes a connection out of the pool and puts it back when it is still in step

  Result<std::unique_ptr<Pooled>> connect(CancelToken* cancel);
  Result<std::unique_ptr<Pooled>> connect_once(bool offer_shared_memory, CancelToken* cancel,
                                               bool for_runs = true);
  Result<void> greet_ahead(Pooled& pooled, const FrameHeader& header, Hello hello);
  Result<void> settle(Pooled& pooled);
  Result<Lease> acquire(bool fresh, CancelToken* cancel = nullptr);
  // `attempt(Pooled&)` on some connection; once more where a pooled one had gone stale.
  template <typename Attempt>
  auto with_connection(const Attempt& attempt) -> std::invoke_result_t<Attempt, Pooled&>;
  void release(std::unique_ptr<Pooled> pooled);
  void close_handle(std::uint32_t handle);
  void count_frames(Pooled& pooled);

  Result<void> agree_on_rings(Pooled& pooled);
  void agree_on_coding(Pooled& pooled, const HelloReply& reply);
  // Where the request is large and not in shared memory: in its turn.
  SendTurns::Turn take_turn(Pooled& pooled, std::uint64_t bytes, CancelToken* cancel);
  // The Run's own reply: tensors that the server wants first are sent.
  Result<FrameHeader> receive_run_header(Pooled& pooled, std::uint64_t id,
                                         const RunRequest& request,
                                         std::span<const InputTensor> inputs, CancelToken* cancel);
  Result<FrameHeader> receive_reply_header(Pooled& pooled, std::uint64_t request_id,
                                           FrameKind expected);
  Result<std::string> receive_reply(Pooled& pooled, std::uint64_t request_id, FrameKind expected);
  Result<std::string> exchange(FrameKind kind, std::string_view payload, FrameKind expected);
  Result<ProbeAccount> probe_on(Pooled& pooled, std::string_view payload);
  Result<std::string> exchange_on(Pooled& pooled, FrameKind kind, std::string_view payload,
                                  FrameKind expected, std::chrono::milliseconds stall_timeout);
  Result<void> upload_file(Pooled& pooled, const ModelPackage& package, std::size_t index,
                           std::uint64_t have, std::uint64_t& done, const Progress& progress);
  Result<SessionDescription> open_on(Pooled& pooled, const RemoteSession& session,
                                     std::chrono::milliseconds stall_timeout);
  Result<void> open_ahead(Pooled& pooled, const RemoteSession& session);
  Result<RunAccount> run_on(Pooled& pooled, RunRequest& request,
                            std::span<const InputTensor> inputs, OutputSink& sink,
                            CancelToken* cancel, std::uint32_t deadline_us,
                            std::uint64_t request_id);

  Connector connector_;
  const ClientOptions options_;
  const std::uint64_t client_number_;  // random
  const std::string client_id_;
  // Requests are numbered so that hardly any two of all clients are alike.
  std::atomic<std::uint64_t> next_connection_;
  LookingSlots looking_slots_;
  SharedBudget shared_budget_;                     // before what borrows it
  std::atomic<bool> descriptors_get_lost_{false};  // a proxy between two unix sockets
  std::atomic<const char*> transport_{""};
  SpeedMeter meter_;  // before the connections, which borrow both
  LinkRates rates_;
  SendTurns turns_;
  std::atomic<int> runs_under_way_{0};
  std::mutex mutex_;
  std::vector<std::unique_ptr<Pooled>> idle_;
  std::set<std::uint32_t> closed_handles_;  // of sessions that are gone; closed where still open
  HelloReply hello_;
  std::atomic<std::uint32_t> next_handle_{1};
  std::atomic<std::uint64_t> frames_sent_{0}, frames_received_{0};
};

}  // namespace outboard::wire
