// SPDX-License-Identifier: Apache-2.0
#include "intercept/common/account.h"

namespace outboard::intercept {

Account::Account(std::uint64_t id, std::string model) : id_(id) {
  figures_.id = id;
  figures_.model = std::move(model);
}

void Account::set_model(std::string_view sha256, std::uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  figures_.sha256 = sha256;
  figures_.model_bytes = bytes;
}

void Account::set_server(std::string_view address) {
  const std::lock_guard lock(mutex_);
  figures_.server = address;
}

void Account::set_why_local(std::string_view reason) {
  const std::lock_guard lock(mutex_);
  figures_.why_local = reason;
}

void Account::discard() {
  const std::lock_guard lock(mutex_);
  figures_.is_discarded = true;
}

void Account::server_run(std::uint64_t time_ns, const wire::RunAccount& run) {
  const std::lock_guard lock(mutex_);
  AccountFigures& f = figures_;
  ++f.server_runs;
  f.server_time.add(time_ns);
  f.send_ns += run.send_ns;
  f.wait_ns += run.wait_ns;
  f.receive_ns += run.receive_ns;
  f.server_receive_ns += run.server.receive_ns;
  f.queue_ns += run.server.queue_ns;
  f.compute_ns += run.server.compute_ns;
  f.bytes_sent += run.bytes_sent;
  f.bytes_received += run.bytes_received;
  f.raw_bytes_sent += run.raw_bytes_sent;
  f.raw_bytes_received += run.raw_bytes_received;
  f.encode_ns += run.encode_ns;
  f.decode_ns += run.decode_ns;
  f.codings |= run.codings;
}

void Account::local_run(std::uint64_t time_ns, LocalReason reason, bool replayed) {
  const std::lock_guard lock(mutex_);
  ++figures_.local_runs;
  ++figures_.local_by_reason[static_cast<std::size_t>(reason)];
  figures_.replayed_runs += replayed ? 1 : 0;
  figures_.local_time.add(time_ns);
}

void Account::failed_run() {
  const std::lock_guard lock(mutex_);
  ++figures_.failed_runs;
}

void Account::hedged_run(HedgeWinner winner) {
  const std::lock_guard lock(mutex_);
  ++figures_.hedged_runs;
  figures_.hedges_won_here += winner == HedgeWinner::kHere ? 1 : 0;
  figures_.hedges_won_elsewhere += winner == HedgeWinner::kOtherServer ? 1 : 0;
}

void Account::explored_run(std::uint64_t more_ns) {
  const std::lock_guard lock(mutex_);
  ++figures_.explored_runs;
  figures_.explored_ns += more_ns;
}

void Account::missed_deadline() {
  const std::lock_guard lock(mutex_);
  ++figures_.deadline_missed_runs;
}

void Account::verified_run() {
  const std::lock_guard lock(mutex_);
  ++figures_.verified_runs;
}

void Account::differing_run(std::string_view difference) {
  const std::lock_guard lock(mutex_);
  ++figures_.verified_runs;
  if (figures_.differing_runs++ == 0) figures_.difference = difference;
}

void Account::unverified_run() {
  const std::lock_guard lock(mutex_);
  ++figures_.unverified_runs;
}

void Account::opened_local() {
  const std::lock_guard lock(mutex_);
  ++figures_.local_opened;
}

void Account::gave_local_back() {
  const std::lock_guard lock(mutex_);
  ++figures_.local_given_back;
}

AccountFigures Account::figures() const {
  const std::lock_guard lock(mutex_);
  return figures_;
}

}  // namespace outboard::intercept
