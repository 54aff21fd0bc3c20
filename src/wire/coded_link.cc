// SPDX-License-Identifier: Apache-2.0
#include "wire/coded_link.h"

#include <algorithm>
#include <cmath>

#include "base/clock.h"
#include "base/sha256.h"
#include "wire/client.h"

namespace outboard::wire {
namespace {

constexpr unsigned kBoundsBeforeExploring = 64;
constexpr std::uint64_t kLeastKnownBytes = 1024;
constexpr double kTunnelBytesPerS = 250e6;  // memory to memory is several times faster
constexpr double kWorthTelling = 1.5;       // times faster or slower than what was told

}  // namespace

void LinkRates::sent(std::uint64_t bytes, std::uint64_t time_ns, bool is_lower_bound) {
  const std::lock_guard lock(mutex_);
  if (bytes >= LinkRate::kLeastBytes) bounds_ = is_lower_bound ? bounds_ + 1 : 0;
  up_.add(bytes, time_ns, is_lower_bound);
}

void LinkRates::received(std::uint64_t bytes, std::uint64_t time_ns, bool is_lower_bound) {
  const std::lock_guard lock(mutex_);
  down_.add(bytes, time_ns, is_lower_bound);
}

double LinkRates::usable(const LinkRate& rate, double otherwise) const {
  if (fixed_ > 0) return fixed_;
  if (std::isinf(prior_) && rate.best_of_latest().value_or(prior_) > kTunnelBytesPerS)
    return rate.best_of_latest() ? prior_ : otherwise;
  return rate.bytes_per_s().value_or(otherwise);
}

double LinkRates::up_bytes_per_s() const {
  const std::lock_guard lock(mutex_);
  return usable(up_, prior_);
}

double LinkRates::down_bytes_per_s() const {
  const std::lock_guard lock(mutex_);
  // Links are mostly alike in both directions, or slower upwards.
  return usable(down_, usable(up_, prior_));
}

bool LinkRates::should_explore() {
  const std::lock_guard lock(mutex_);
  if (bounds_ < kBoundsBeforeExploring) return false;
  bounds_ = 0;
  return true;
}

Result<void> CodedLink::plan(RunRequest& request, std::span<const InputTensor> inputs) {
  OB_CHECK_OK(send_hint());
  const double rate = rates_.up_bytes_per_s();
  const CodingMode mode =
      mode_ == CodingMode::kAuto && rates_.should_explore() ? CodingMode::kOff : mode_;
  codings_.assign(inputs.size(), Coding::kRaw);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    TensorHeader& header = request.inputs[i];
    header.in_chunks = header.keep = false;
    header.known.reset();
    const std::uint64_t slot = slot_of(request.session, i);
    const auto choice = coder_.choose(slot, header, inputs[i].data, rate, mode);
    codings_[i] = choice.coding;
    header.in_chunks = choice.coding != Coding::kRaw;
    if (mode == CodingMode::kAuto) plan_known(slot, header, inputs[i].data, choice.transfer_s);
  }
  return {};
}

void CodedLink::plan_known(std::uint64_t slot, TensorHeader& header,
                           std::span<const std::byte> data, double transfer_s) {
  if (known_.limit_bytes() == 0 || header.type == ElementType::kString ||
      data.size() < kLeastKnownBytes || data.size() > known_.limit_bytes() ||
      !worth_hashing(transfer_s, data.size(), meter_.hash_bytes_per_s()) ||
      !known_.seen(slot, fingerprint(data)))
    return;
  const Nanoseconds begin = Clock::monotonic().now();
  const Sha256 hash = sha256(data);
  meter_.hashed(data.size(),
                static_cast<std::uint64_t>((Clock::monotonic().now() - begin).count()));
  switch (known_.decide(slot, hash, data.size())) {
    case KnownMirror::Decision::kSend:
      return;
    case KnownMirror::Decision::kKeep:
      header.keep = true;
      return;
    case KnownMirror::Decision::kRefer:
      header.in_chunks = false;
      header.known = hash;
  }
}

// Again only where it changed by so much that another choice may follow from it.
Result<void> CodedLink::send_hint() {
  const double rate = rates_.down_bytes_per_s();
  const double told = std::isfinite(rate) ? rate : 0;
  const double before = hinted_bytes_per_s_.value_or(0);
  const bool is_news = std::max(told, before) > kWorthTelling * std::min(told, before);
  const bool is_first = !hinted_bytes_per_s_ && mode_ != CodingMode::kAuto;
  if (!is_news && !is_first) return {};
  hinted_bytes_per_s_ = told;
  return connection_.send({.kind = FrameKind::kCodingHint},
                          encode(CodingHint{static_cast<std::uint64_t>(told), mode_}));
}

Result<void> CodedLink::send_inputs(std::uint64_t request_id, const RunRequest& request,
                                    std::span<const InputTensor> inputs,
                                    const std::function<bool()>& stop) {
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (!request.inputs[i].in_chunks) continue;
    OB_CHECK_OK(coder_.send(request_id, slot_of(request.session, i), codings_[i], request.inputs[i],
                            inputs[i].data, stop));
  }
  return {};
}

Result<void> CodedLink::send_wanted(std::uint64_t request_id, const RunRequest& request,
                                    std::span<const InputTensor> inputs,
                                    const std::function<bool()>& stop) {
  OB_TRY(const std::string payload, connection_.read_string(connection_.payload_left()));
  OB_TRY(
      const auto wanted,
      decode_tensors_wanted({reinterpret_cast<const std::byte*>(payload.data()), payload.size()}));
  for (const std::uint32_t i : wanted) {
    const auto known = i < inputs.size() ? request.inputs[i].known : std::nullopt;
    if (!known)
      return error(ErrorKind::kInvalid, "input ({}) was asked for, which was not sent as a hash",
                   i);
    known_.forget(*known);
    OB_CHECK_OK(coder_.send(request_id, slot_of(request.session, i), codings_[i], request.inputs[i],
                            inputs[i].data, stop));
  }
  return {};
}

void CodedLink::add_to(RunAccount& account, const RunRequest& request) {
  const CodingAccount coding = coder_.take_account();
  account.raw_bytes_sent += coding.tensor_bytes_sent - coding.chunk_bytes_sent;
  account.raw_bytes_received += coding.tensor_bytes_received - coding.chunk_bytes_received;
  bool was_known = false;
  for (const TensorHeader& input : request.inputs) {
    if (!input.known) continue;
    account.raw_bytes_sent += input.data_bytes;
    was_known = true;
  }
  account.encode_ns = coding.encode_ns;
  account.decode_ns = coding.decode_ns;
  account.codings = coding.codings | (was_known ? kKnownBit : 0);
  // A round trip may lie between hashes and the tensors that were wanted after all.
  rates_.sent(account.bytes_sent, account.server.receive_ns,
              was_known || 2 * coding.encode_ns > account.server.receive_ns);
  rates_.received(account.bytes_received, account.receive_ns,
                  2 * coding.decode_ns > account.receive_ns);
}

}  // namespace outboard::wire
