// SPDX-License-Identifier: Apache-2.0
// The client's side of coded and known tensors on one connection: says in a Run's request how each
// input travels, sends those that travel in chunks, and tells the server what the way back is like.
// Belongs to the connection's thread; rates are the client's, over all its connections.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "base/result.h"
#include "wire/coding/known.h"
#include "wire/coding/link_rate.h"
#include "wire/messages.h"
#include "wire/tensor_coder.h"

namespace outboard::wire {

struct InputTensor;
struct RunAccount;

// Both directions of a link as one client has measured them. Thread-safe.
class LinkRates {
 public:
  // `prior`: until something was measured, infinite for an address within this machine, which is
  // believed to be a tunnel only after eight slow transfers in a row; `fixed`: instead of what is
  // measured, where it is not 0.
  explicit LinkRates(double prior_bytes_per_s, double fixed_bytes_per_s = 0)
      : prior_(prior_bytes_per_s), fixed_(fixed_bytes_per_s) {}
  void sent(std::uint64_t bytes, std::uint64_t time_ns, bool is_lower_bound);
  void received(std::uint64_t bytes, std::uint64_t time_ns, bool is_lower_bound);
  double up_bytes_per_s() const;
  double down_bytes_per_s() const;
  // Now and then where only lower bounds are known: the next Run should travel as it is.
  bool should_explore();

 private:
  double usable(const LinkRate& rate, double otherwise) const;

  const double prior_, fixed_;
  mutable std::mutex mutex_;
  LinkRate up_, down_;
  unsigned bounds_ = 0;  // Runs that told no more than a lower bound, in a row
};

class CodedLink {
 public:
  // Borrows all. `known_bytes`: what the server keeps for this connection; 0: nothing.
  CodedLink(Connection& connection, SpeedMeter& meter, CodingOffer server,
            std::uint64_t known_bytes, LinkRates& rates, CodingMode mode)
      : connection_(connection),
        meter_(meter),
        coder_(connection, meter, server),
        known_(known_bytes),
        rates_(rates),
        mode_(mode) {}

  TensorCoder& coder() { return coder_; }
  // Decides about every input and writes it into the request's headers.
  Result<void> plan(RunRequest& request, std::span<const InputTensor> inputs);
  // After the request's frame: the inputs that travel in chunks.
  Result<void> send_inputs(std::uint64_t request_id, const RunRequest& request,
                           std::span<const InputTensor> inputs, const std::function<bool()>& stop);
  // The server lacks tensors that it was referred to: takes its list and sends them.
  Result<void> send_wanted(std::uint64_t request_id, const RunRequest& request,
                           std::span<const InputTensor> inputs, const std::function<bool()>& stop);
  // A Run is over: its codings go into its account, and what it says of the link is noted.
  void add_to(RunAccount& account, const RunRequest& request);

 private:
  Result<void> send_hint();
  void plan_known(std::uint64_t slot, TensorHeader& header, std::span<const std::byte> data,
                  double transfer_s);
  static std::uint64_t slot_of(std::uint32_t session, std::size_t input) {
    return std::uint64_t{session} << 32 | input;
  }

  Connection& connection_;
  SpeedMeter& meter_;
  TensorCoder coder_;
  KnownMirror known_;
  LinkRates& rates_;
  const CodingMode mode_;
  std::vector<Coding> codings_;  // of the Run's inputs
  std::optional<double> hinted_bytes_per_s_;
};

}  // namespace outboard::wire
