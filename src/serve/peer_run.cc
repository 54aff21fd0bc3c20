// SPDX-License-Identifier: Apache-2.0
// A Run: receive, wait for the device, compute, send. The hot path: one receive and one send for a
// small model, and no allocation that grows with the tensors.
#include <algorithm>
#include <array>
#include <cstring>
#include <limits>

#include "base/cursor.h"
#include "base/limits.h"
#include "base/log.h"
#include "serve/convert.h"
#include "serve/peer.h"

namespace outboard::serve {
namespace {

using wire::FrameHeader;
using wire::FrameKind;

// Bytes of inputs are counted against the limit as they come, in steps, so that a client that only
// claims a size takes nothing from the others.
constexpr std::uint64_t kReceiveStepBytes = 16u << 20;

Nanoseconds now() { return Clock::monotonic().now(); }

std::uint64_t since_ns(Nanoseconds start) {
  return static_cast<std::uint64_t>((now() - start).count());
}

std::uint64_t aligned(std::uint64_t size) {
  return (size + BufferPool::kAlignment - 1) / BufferPool::kAlignment * BufferPool::kAlignment;
}

// A share of the bytes that Runs under way may hold.
class InFlightBytes {
 public:
  InFlightBytes(std::atomic<std::uint64_t>& total, std::uint64_t limit)
      : total_(total), limit_(limit) {}
  InFlightBytes(const InFlightBytes&) = delete;
  InFlightBytes& operator=(const InFlightBytes&) = delete;
  ~InFlightBytes() { total_.fetch_sub(held_, std::memory_order_relaxed); }
  bool grow(std::uint64_t bytes) {
    if (total_.fetch_add(bytes, std::memory_order_relaxed) + bytes > limit_) {
      total_.fetch_sub(bytes, std::memory_order_relaxed);
      return false;
    }
    held_ += bytes;
    return true;
  }

 private:
  std::atomic<std::uint64_t>& total_;
  const std::uint64_t limit_;
  std::uint64_t held_ = 0;
};

class InFlight {
 public:
  InFlight(Shared& shared, Tenant& tenant) : shared_(shared), tenant_(tenant) {
    shared_.statistics.in_flight.fetch_add(1);
    tenant_.statistics().in_flight.fetch_add(1, std::memory_order_relaxed);
  }
  ~InFlight() {
    tenant_.statistics().in_flight.fetch_sub(1, std::memory_order_relaxed);
    if (shared_.statistics.in_flight.fetch_sub(1) == 1 && shared_.draining) {
      const std::lock_guard lock(shared_.drain_mutex);
      shared_.drained.notify_all();
    }
  }
  InFlight(const InFlight&) = delete;
  InFlight& operator=(const InFlight&) = delete;

 private:
  Shared& shared_;
  Tenant& tenant_;
};

// Ends what Tenant::run_begins() began.
class Admitted {
 public:
  explicit Admitted(Tenant& tenant) : tenant_(tenant) {}
  ~Admitted() { tenant_.run_ended(); }
  Admitted(const Admitted&) = delete;
  Admitted& operator=(const Admitted&) = delete;

 private:
  Tenant& tenant_;
};

// What of the computing time was not the engine's; none where the engine is in this process.
std::uint32_t hop_ns(std::uint64_t compute_ns,
                     const Result<std::unique_ptr<engine::RunOutputs>>& outputs) {
  const std::uint64_t engine_ns = outputs ? (*outputs)->engine_ns() : 0;
  if (engine_ns == 0 || engine_ns >= compute_ns) return 0;
  return static_cast<std::uint32_t>(
      std::min<std::uint64_t>(compute_ns - engine_ns, std::numeric_limits<std::uint32_t>::max()));
}

Error stopped_error(ErrorKind why) {
  if (why == ErrorKind::kTimeout)
    return {ErrorKind::kTimeout, "the deadline passed while the Run computed", 0};
  return {ErrorKind::kCancelled, "the Run was cancelled", 0};
}

}  // namespace

struct Peer::Inputs {
  Inputs(Shared& shared, Tenant& tenant)
      : counted(shared.statistics.in_flight_bytes, shared.settings.max_in_flight_bytes),
        counted_for_tenant(tenant.statistics().in_flight_bytes, tenant.in_flight_limit()) {}
  InFlightBytes counted, counted_for_tenant;
  BufferPool::Buffer memory;
  std::vector<std::vector<std::string_view>> strings;  // of kString inputs; views into memory
  std::vector<engine::InputView> views;
  KnownInputs known;  // as many as inputs where some came as a hash; keeps what the views show
};

struct Peer::SharedOutputs {
  std::vector<std::optional<wire::SharedLink::Place>> places;  // as many as outputs, or empty
  std::vector<engine::OutputBuffer> buffers;                   // over those
  const engine::OutputBuffer* buffer(std::size_t index) const {
    return index < places.size() && places[index] ? &buffers[index] : nullptr;
  }
  bool any() const {
    return std::any_of(places.begin(), places.end(), [](const auto& p) { return p.has_value(); });
  }
};

Result<void> Peer::handle_run(const FrameHeader& header) {
  const Nanoseconds start = now();
  const InFlight in_flight(shared_, tenant_);
  const Deadline deadline = header.deadline_us == 0
                                ? Deadline::never()
                                : Deadline{start + std::chrono::microseconds(header.deadline_us)};
  OB_TRY(const wire::RunRequest request, receive_run_request());
  // Counted before it is asked for: a drain that began before sees either this Run or its refusal.
  if (shared_.draining) {
    count(&Statistics::refused_runs);
    return reply_error(
        header, {ErrorKind::kOverloaded, "the server is draining; it takes no new requests", 0});
  }
  if (const auto admitted = tenant_.run_begins(start); !admitted) {
    count(&Statistics::refused_runs);
    return reply_error(header, admitted.error());
  }
  const Admitted admitted(tenant_);
  const auto use = check_run(request);
  if (!use) {
    count(&Statistics::refused_runs);
    return reply_error(header, use.error());
  }
  Inputs inputs(shared_, tenant_);
  OB_TRY(const auto received, receive_inputs(request, inputs));
  if (!received) {
    const bool cancelled = received.error().kind == ErrorKind::kCancelled;
    count(cancelled ? &Statistics::cancelled_runs : &Statistics::refused_runs);
    return reply_error(header, received.error());
  }
  wire::ServerTimes times;
  times.receive_ns = since_ns(start);
  SharedOutputs shared;
  if (shared_link_) OB_CHECK_OK(make_room(**use, request, shared));
  const auto outputs = compute(**use, request, inputs, shared, deadline, times);
  if (!outputs) {
    const bool cancelled = outputs.error().kind == ErrorKind::kCancelled;
    count(cancelled ? &Statistics::cancelled_runs : &Statistics::failed_runs);
    return reply_error(header, outputs.error());
  }
  count(&Statistics::runs);
  for (Statistics* statistics : {&shared_.statistics, &tenant_.statistics()}) {
    statistics->queue.add(times.queue_ns);
    statistics->compute.add(times.compute_ns);
  }
  (*use)->count_run();
  log_debug("run done id=r{:016x} connection={} tenant={} queue_us={} compute_us={} hop_us={}",
            request_id_, number_, tenant_.name(), times.queue_ns / 1000, times.compute_ns / 1000,
            times.hop_ns / 1000);
  if (!tells_hop_) times.hop_ns = 0;
  return send_outputs(header, request, **outputs, shared, times);
}

// The record before the tensors. An error is a peer's that does not speak the protocol.
Result<wire::RunRequest> Peer::receive_run_request() {
  std::array<std::byte, wire::kRunRecordPrefixBytes> prefix{};
  OB_CHECK_OK(connection_.read(prefix));
  const auto size = ByteReader(prefix).read<std::uint32_t>();
  if (size < prefix.size() || size > limits::kRunHeaderBytes)
    return error(ErrorKind::kInvalid, "the size ({}) of a Run's record must be from {} to {}", size,
                 prefix.size(), limits::kRunHeaderBytes);
  std::string record(size, '\0');
  const std::span bytes = std::as_writable_bytes(std::span(record));
  std::copy(prefix.begin(), prefix.end(), bytes.begin());
  OB_CHECK_OK(connection_.read(bytes.subspan(prefix.size())));
  OB_TRY(wire::RunRequest request, wire::decode_run_request(bytes));
  std::uint64_t data_bytes = 0;
  for (const wire::TensorHeader& input : request.inputs) data_bytes += input.frame_bytes();
  if (data_bytes != connection_.payload_left())
    return error(ErrorKind::kInvalid, "the tensors of a Run ({} bytes) must fill its frame ({})",
                 data_bytes, connection_.payload_left());
  OB_CHECK_OK(check_forms(request));
  return request;
}

Result<const SessionPool::Use*> Peer::check_run(const wire::RunRequest& request) const {
  const auto found = sessions_.find(request.session);
  if (found == sessions_.end())
    return error(ErrorKind::kNotFound, "the session ({}) is not open on this connection",
                 request.session);
  const engine::ModelInfo& info = found->second.session().info();
  if (request.inputs.size() != info.inputs.size())
    return error(ErrorKind::kInvalid, "the number of inputs ({}) must be the session's ({})",
                 request.inputs.size(), info.inputs.size());
  for (std::size_t i = 0; i < info.inputs.size(); ++i)
    OB_CHECK_OK(check_input(info.inputs[i], request.inputs[i]));
  if (request.outputs.empty())
    return error(ErrorKind::kInvalid, "the number of outputs (0) must be at least 1");
  for (const std::uint32_t output : request.outputs)
    if (output >= info.outputs.size())
      return error(ErrorKind::kInvalid, "the output ({}) must be one of the session's ({})", output,
                   info.outputs.size());
  return &found->second;
}

Result<Result<void>> Peer::receive_inputs(const wire::RunRequest& request, Inputs& inputs) {
  std::vector<std::uint32_t> missing;
  if (known_) missing = find_known(request, inputs.known);
  const auto is_here = [&](std::size_t i) { return i < inputs.known.size() && inputs.known[i]; };
  std::uint64_t total = 0;
  for (std::size_t i = 0; i < request.inputs.size(); ++i)
    if (!read_in_place(request.inputs[i]) && !is_here(i))
      total += aligned(request.inputs[i].data_bytes);
  const std::uint64_t most =
      std::min(shared_.settings.max_in_flight_bytes, tenant_.in_flight_limit());
  if (total > most)
    return Result<void>(error(ErrorKind::kRefused,
                              "the Run's inputs ({} bytes) must be at most what the server holds "
                              "for all Runs ({})",
                              total, most));
  const auto full = [&]() -> Result<void> {
    return error(ErrorKind::kOverloaded,
                 "the server holds as many bytes of Runs under way as it may ({})", most);
  };
  if (total > 0) {
    inputs.memory = shared_.buffers.take(total);
    if (inputs.memory.data() == nullptr) return full();
  }
  inputs.views.reserve(request.inputs.size());
  std::uint64_t offset = 0;
  std::vector<std::span<std::byte>> places(coder_ ? request.inputs.size() : 0);
  for (std::size_t i = 0; i < request.inputs.size(); ++i) {
    const wire::TensorHeader& header = request.inputs[i];
    if (is_here(i)) {
      inputs.views.push_back(to_engine(header, *inputs.known[i], {}));
      continue;
    }
    std::span<const std::byte> shared;
    if (header.shared_offset) {
      if (!shared_link_)
        return error(ErrorKind::kInvalid, "an input is in shared memory, which was not agreed on");
      OB_TRY(shared, shared_link_->view(*header.shared_offset, header.data_bytes));
      if (read_in_place(header)) {
        inputs.views.push_back(to_engine(header, shared, {}));
        continue;
      }
    }
    const std::span<std::byte> data(inputs.memory.data() + offset, header.data_bytes);
    if (coder_) places[i] = data;
    const bool comes_later = header.in_chunks || header.known;
    for (std::uint64_t done = comes_later ? data.size() : 0; done < data.size();) {
      const auto step = std::min<std::uint64_t>(kReceiveStepBytes, data.size() - done);
      if (!inputs.counted_for_tenant.grow(step) || !inputs.counted.grow(step)) return full();
      if (header.shared_offset) {
        std::memcpy(data.data() + done, shared.data() + done, step);
      } else {
        OB_CHECK_OK(connection_.read(data.subspan(done, step)));
      }
      done += step;
    }
    offset += aligned(header.data_bytes);
    if (header.type == wire::ElementType::kString) {
      OB_TRY(auto strings,
             wire::decode_strings(data, wire::element_count(header.dims).value_or(0)));
      inputs.strings.push_back(std::move(strings));
      inputs.views.push_back(to_engine(header, {}, inputs.strings.back()));
    } else {
      inputs.views.push_back(to_engine(header, data, {}));
    }
  }
  if (coder_)
    return receive_coded(request, missing, places, [&](std::uint64_t bytes) {
      return inputs.counted_for_tenant.grow(bytes) && inputs.counted.grow(bytes);
    });
  return Result<void>();
}

Result<std::unique_ptr<engine::RunOutputs>> Peer::compute(const SessionPool::Use& use,
                                                          const wire::RunRequest& request,
                                                          const Inputs& inputs,
                                                          SharedOutputs& shared, Deadline deadline,
                                                          wire::ServerTimes& times) {
  std::vector<engine::OutputWanted> wanted;
  wanted.reserve(request.outputs.size());
  for (std::size_t i = 0; i < request.outputs.size(); ++i)
    wanted.push_back({.index = request.outputs[i], .buffer = shared.buffer(i)});

  if (std::exchange(control_used_, false)) {
    control_->reset();
    tenant_.queue().reset(ticket_);
  }
  shared_.watcher.received(watched_, deadline);
  control_->request_id = request_id_;
  const Nanoseconds queued = now();
  Result<std::unique_ptr<engine::RunOutputs>> outputs(nullptr);
  {
    const auto slot = tenant_.queue().acquire(ticket_, tenant_.flow(), deadline);
    const Nanoseconds begun = now();
    times.queue_ns = static_cast<std::uint64_t>((begun - queued).count());
    if (slot) {
      outputs = use.session().run(inputs.views, wanted, control_.get());
      if (!outputs && outputs.error().kind == ErrorKind::kEngine && shared.any()) {
        // Perhaps a model whose outputs are not of the shape that it declares: the engine lets that
        // pass where it allocates. A Run has no side effects; should the second one work, the
        // session is known for it.
        for (engine::OutputWanted& output : wanted) output.buffer = nullptr;
        outputs = use.session().run(inputs.views, wanted, control_.get());
        if (outputs) misdescribed_.insert(request.session);
      }
    } else {
      outputs = tl::make_unexpected(slot.error());
    }
    times.compute_ns = since_ns(begun);
    times.hop_ns = hop_ns(times.compute_ns, outputs);
  }
  times.queue_depth = queue_depth();
  if (const auto stopped = shared_.watcher.end(watched_)) {
    control_used_ = true;
    if (!outputs) return tl::make_unexpected(stopped_error(*stopped));
  }
  return outputs;
}

// Whether the engine may read a shared input where it lies, though its writer could change it
// meanwhile. It may be anything then, which a computation with numbers survives; but where numbers
// say where to read and write (indices, shapes, conditions) the engine checks them first and uses
// them later, so those are copied. A client of another user gets no such chance with anything.
bool Peer::read_in_place(const wire::TensorHeader& input) const {
  if (!input.shared_offset || !same_user_) return false;
  switch (input.type) {
    case wire::ElementType::kFloat:
    case wire::ElementType::kFloat16:
    case wire::ElementType::kBfloat16:
    case wire::ElementType::kDouble:
    case wire::ElementType::kUint8:
    case wire::ElementType::kInt8:
      return true;
    default:
      return false;
  }
}

// Shared memory for the large outputs: the engine writes into it where their shape is known;
// others (as many bytes as in the last Run) are copied there.
Result<void> Peer::make_room(const SessionPool::Use& use, const wire::RunRequest& request,
                             SharedOutputs& outputs) {
  using wire::SharedLink;
  const auto& declared = use.session().info().outputs;
  const bool trusted = !misdescribed_.contains(request.session);
  outputs.places.resize(request.outputs.size());
  outputs.buffers.resize(request.outputs.size());
  std::vector<std::uint64_t> sizes(request.outputs.size(), 0);
  std::uint64_t needed = late_bytes_;
  for (std::size_t i = 0; i < request.outputs.size() && trusted; ++i) {
    const engine::ValueInfo& info = declared[request.outputs[i]];
    const auto type = static_cast<wire::ElementType>(info.type);
    if (!info.has_shape || wire::bits_of(type) == 0) continue;
    const auto size = wire::size_bytes(type, info.dims);  // an open dimension is negative
    if (!size || *size < SharedLink::kLeastTensorBytes) continue;
    sizes[i] = *size;
    needed += SharedLink::room_for(*size);
  }
  OB_CHECK_OK(shared_link_->begin(connection_, needed));
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    if (sizes[i] == 0) continue;
    const engine::ValueInfo& info = declared[request.outputs[i]];
    const auto place = shared_link_->place(sizes[i]);
    outputs.places[i] = place;
    if (place) outputs.buffers[i] = {.type = info.type, .dims = info.dims, .data = place->bytes};
  }
  return {};
}

// Where the output lies in shared memory, to which it is copied if need be; none: in the frame.
std::optional<std::uint64_t> Peer::share_output(const engine::OutputView& output,
                                                const SharedOutputs& shared, std::size_t index) {
  if (!shared_link_ || output.type == engine::ElementType::kString ||
      output.data.size() < wire::SharedLink::kLeastTensorBytes)
    return std::nullopt;
  const auto& place = shared.places[index];
  if (place && place->bytes.data() == output.data.data() &&
      place->bytes.size() == output.data.size())
    return place->offset;
  late_bytes_ += wire::SharedLink::room_for(output.data.size());
  const auto late = shared_link_->place(output.data.size());
  if (!late) return std::nullopt;
  std::memcpy(late->bytes.data(), output.data.data(), output.data.size());
  return late->offset;
}

Result<void> Peer::send_outputs(const FrameHeader& header, const wire::RunRequest& request,
                                const engine::RunOutputs& outputs, const SharedOutputs& shared,
                                const wire::ServerTimes& times) {
  wire::RunResult result;
  result.times = times;
  result.outputs.reserve(outputs.values().size());
  std::vector<std::string> texts;
  texts.reserve(outputs.values().size());
  std::vector<iovec> parts(1);
  parts.reserve(outputs.values().size() + 1);
  std::vector<wire::Coding> codings;
  std::uint64_t total = 0;
  late_bytes_ = 0;
  for (const engine::OutputView& output : outputs.values()) {
    std::span<const std::byte> data = output.data;
    if (output.type == engine::ElementType::kString)
      data = std::as_bytes(std::span(texts.emplace_back(wire::encode_strings(output.strings))));
    total += data.size();
    if (data.size() > limits::kTensorBytes || output.dims.size() > limits::kRank ||
        total > limits::kRunBytes - limits::kRunHeaderBytes)
      return reply_error(header, {ErrorKind::kRefused,
                                  fmt::format("the Run's outputs ({} bytes so far) are beyond what "
                                              "the wire carries",
                                              total),
                                  0});
    wire::TensorHeader& described = result.outputs.emplace_back(to_wire(output, data.size()));
    described.shared_offset = share_output(output, shared, result.outputs.size() - 1);
    codings.push_back(choose_coding(request, codings.size(), described, data));
    described.in_chunks = codings.back() != wire::Coding::kRaw;
    parts.push_back({const_cast<std::byte*>(data.data()), described.frame_bytes()});
  }
  std::string record = wire::encode(result);
  parts.front() = {record.data(), record.size()};
  OB_CHECK_OK(
      connection_.send({.kind = FrameKind::kRunResult, .request_id = header.request_id}, parts));
  return coder_ ? send_coded(request, result, outputs, codings) : Result<void>();
}

}  // namespace outboard::serve
