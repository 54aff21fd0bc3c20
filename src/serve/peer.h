// SPDX-License-Identifier: Apache-2.0
// One client's connection, served by one thread, one request at a time.
//
// A request that fails is answered with an error and the connection lives on; bytes that are not
// the protocol's are answered, where they can be, and end the connection. Nothing that a peer
// sends ends more than its own connection.
// Thread-safety: serve() by its thread; shut_down() and stop() by any other.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "serve/lobby.h"
#include "serve/shared.h"
#include "wire/coding/known.h"
#include "wire/connection.h"
#include "wire/messages.h"
#include "wire/shared_link.h"
#include "wire/tensor_coder.h"

namespace outboard::serve {

class Peer {
 public:
  Peer(Shared& shared, Tenant& tenant, std::unique_ptr<wire::Stream> stream, std::uint64_t number);
  ~Peer();
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  // Until the connection ends. `refuse`: answers the handshake with this error and ends.
  // `greeted`: the hello that the lobby has read already.
  void serve(const Error* refuse = nullptr, const Greeted* greeted = nullptr);
  void shut_down() { connection_.shut_down(); }
  // Ends the request under way soon; the watcher calls it, and a server that stops at once.
  void stop();

 private:
  struct Inputs;         // a Run's inputs as received
  struct SharedOutputs;  // memory for its outputs where it is shared

  Result<void> shake_hands(const Error* refuse, const Greeted* greeted);
  Result<wire::Hello> receive_hello();
  void agree_on_shared_memory(const wire::Hello& hello, wire::HelloReply& answer);
  void agree_on_coding(const wire::Hello& hello, wire::HelloReply& answer);
  Result<void> reply_to_hello(const wire::FrameHeader& hello, const wire::HelloReply& answer);
  Result<void> handle(const wire::FrameHeader& header);
  Result<void> handle_query(const wire::FrameHeader& header);
  Result<void> handle_chunk(const wire::FrameHeader& header);
  Result<void> handle_open(const wire::FrameHeader& header);
  Result<void> handle_close(const wire::FrameHeader& header);
  Result<void> handle_region(const wire::FrameHeader& header);
  Result<void> handle_rings(const wire::FrameHeader& header);
  Result<void> handle_probe(const wire::FrameHeader& header);
  Result<void> handle_hint(const wire::FrameHeader& header);
  Result<void> handle_run(const wire::FrameHeader& header);
  Result<void> handle_split(const wire::FrameHeader& header);

  // Their errors are answers to the client; what they return the connection survives.
  Result<wire::ModelState> query(const wire::ModelManifest& manifest);
  Result<std::uint64_t> append(const wire::UploadChunk& chunk, std::span<const std::byte> bytes);
  void publish_complete(const Sha256& file);
  Result<std::string> open(const wire::SessionOpen& request);

  Result<wire::RunRequest> receive_run_request();
  Result<const SessionPool::Use*> check_run(const wire::RunRequest& request) const;
  // The outer Result is the stream's, the inner one an answer.
  Result<Result<void>> receive_inputs(const wire::RunRequest& request, Inputs& inputs);
  Result<std::unique_ptr<engine::RunOutputs>> compute(const SessionPool::Use& use,
                                                      const wire::RunRequest& request,
                                                      const Inputs& inputs, SharedOutputs& shared,
                                                      Deadline deadline, wire::ServerTimes& times);
  bool read_in_place(const wire::TensorHeader& input) const;
  Result<void> make_room(const SessionPool::Use& use, const wire::RunRequest& request,
                         SharedOutputs& outputs);
  // peer_coding.cc: what travels in chunks, or as a hash.
  using KnownInputs = std::vector<std::shared_ptr<const std::vector<std::byte>>>;
  Result<void> check_forms(const wire::RunRequest& request) const;
  std::vector<std::uint32_t> find_known(const wire::RunRequest& request, KnownInputs& found);
  Result<Result<void>> receive_coded(const wire::RunRequest& request,
                                     std::span<const std::uint32_t> missing,
                                     std::span<const std::span<std::byte>> places,
                                     const std::function<bool(std::uint64_t)>& grow);
  wire::Coding choose_coding(const wire::RunRequest& request, std::size_t index,
                             const wire::TensorHeader& header, std::span<const std::byte> data);
  Result<void> send_coded(const wire::RunRequest& request, const wire::RunResult& result,
                          const engine::RunOutputs& outputs, std::span<const wire::Coding> codings);
  void count_coding();

  Result<void> send_outputs(const wire::FrameHeader& header, const wire::RunRequest& request,
                            const engine::RunOutputs& outputs, const SharedOutputs& shared,
                            const wire::ServerTimes& times);
  std::optional<std::uint64_t> share_output(const engine::OutputView& output,
                                            const SharedOutputs& shared, std::size_t index);

  Result<std::string> read_payload(const wire::FrameHeader& header);
  Result<void> reply(const wire::FrameHeader& request, wire::FrameKind kind,
                     std::string_view payload);
  // Skips what is left of the request and answers it.
  Result<void> reply_error(const wire::FrameHeader& request, const Error& error);
  void say_goodbye(const Error& error);
  void count_bytes();

  // Requests that wait for the device or have it, as this client may know: a tenant its own.
  std::uint32_t queue_depth() const;
  // Adds to a counter of the server's and to the tenant's.
  void count(std::atomic<std::uint64_t> Statistics::* what, std::uint64_t by = 1);

  Shared& shared_;
  Tenant& tenant_;
  const std::uint64_t number_;
  wire::Connection connection_;
  std::map<std::uint32_t, SessionPool::Use> sessions_;  // by handle
  std::deque<std::unique_ptr<Store::Upload>> uploads_;
  std::unique_ptr<wire::SharedLink> shared_link_;  // where both sides agreed on it
  bool has_rings_ = false;                         // likewise
  std::unique_ptr<wire::TensorCoder> coder_;       // likewise
  std::unique_ptr<wire::KnownTensors> known_;      // likewise
  wire::CodingHint hint_;                          // what the client told last
  bool tells_hop_ = false;                         // the client knows ServerTimes::hop_ns
  bool same_user_ = false;                         // the client runs as our user
  std::uint64_t late_bytes_ = 0;          // of the last Run's large outputs of unknown shape
  std::set<std::uint32_t> misdescribed_;  // handles whose outputs are not of the shape they declare
  std::uint64_t request_id_ = 0;          // of the frame that is being handled
  std::uint64_t counted_sent_ = 0, counted_received_ = 0;
  const std::unique_ptr<engine::RunControl> control_;
  DeviceQueue::Ticket ticket_;
  bool control_used_ = false;  // the control or the ticket was, and must be reset
  Watched watched_;
  std::vector<split::exec::PlanId> parts_;  // built for this connection
};

}  // namespace outboard::serve
