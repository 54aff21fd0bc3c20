// SPDX-License-Identifier: Apache-2.0
// A part's links: rows out, rows and reports in. docs/wire.md has the frames.
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/cursor.h"
#include "split/exec/part.h"

namespace outboard::split::exec {
namespace {

std::size_t at(int i) { return static_cast<std::size_t>(i); }
std::int64_t now_ns() { return Clock::monotonic().now().count(); }

constexpr std::uint64_t kRowsRecordBytes = 8;    // message u32, 0 u32
constexpr std::uint64_t kReportEntryBytes = 32;  // task u32, kind u32, start, end, copying i64
// A link on which the other end has said nothing for this many stall timeouts is lost; the host
// says something every few seconds.
constexpr std::chrono::milliseconds kStall{2000};
constexpr int kSilentStalls = 15;
constexpr std::size_t kReadBytes = 64 << 10;  // at a time: what a slow link brings within moments

// Within a hundred years of 0, so that sums and differences are defined.
std::int64_t plausible(std::int64_t ns) {
  constexpr std::int64_t kMost = std::int64_t{1} << 61;
  return std::clamp(ns, -kMost, kMost);
}

}  // namespace

bool Part::linked(int neighbour) const {
  const std::lock_guard lock(mutex_);
  return links_[at(neighbour)]->connection != nullptr;
}

std::vector<int> Part::neighbours() const {
  std::vector<int> out;
  for (int i = 0; i < participants(); ++i) {
    bool talks = i == host_ || steps_.is_host;
    for (const Step& s : steps_.steps) talks |= s.peer == i;
    if (talks && i != steps_.participant) out.push_back(i);
  }
  return out;
}

// With the mutex held. Two connections may ask for one link at the same time.
Result<void> Part::take(int neighbour) {
  if (failure_) return tl::make_unexpected(*failure_);
  if (std::exchange(links_[at(neighbour)]->taken, true))
    return error(ErrorKind::kInvalid, "the participant ({}) is linked already", neighbour);
  return {};
}

Result<void> Part::attach(int neighbour, std::shared_ptr<wire::Connection> connection) {
  Link& link = *links_[at(neighbour)];
  const std::lock_guard lock(mutex_);
  OB_CHECK_OK(take(neighbour));
  link.owned = std::move(connection);
  link.connection = link.owned.get();
  link.receiver =
      std::thread([this, neighbour, &link] { (void)receive_all(neighbour, *link.owned); });
  return {};
}

Result<void> Part::serve(int neighbour, wire::Connection& connection,
                         const std::function<Result<void>()>& admitted) {
  {
    const std::lock_guard lock(mutex_);
    OB_CHECK_OK(take(neighbour));
  }
  if (auto told = admitted(); !told) {
    fail_link(neighbour, told.error());
    return told;
  }
  {
    const std::lock_guard lock(mutex_);
    if (failure_) return tl::make_unexpected(*failure_);
    links_[at(neighbour)]->connection = &connection;
    ++serving_;
    if (started_)
      links_[at(neighbour)]->sender = std::thread([this, neighbour] { send_all(neighbour); });
    changed_.notify_all();
  }
  auto ended = receive_all(neighbour, connection);
  // The sender uses the connection, which is the caller's. The part has failed: nobody starts one.
  if (links_[at(neighbour)]->sender.joinable()) links_[at(neighbour)]->sender.join();
  const std::lock_guard lock(mutex_);
  links_[at(neighbour)]->connection = nullptr;
  --serving_;
  changed_.notify_all();
  return ended;
}

void Part::fail_link(int neighbour, const Error& error) {
  {
    const std::lock_guard lock(mutex_);
    if (!failure_ && lost_ < 0) lost_ = neighbour;
  }
  fail(error);
}

Result<void> Part::receive_all(int neighbour, wire::Connection& connection) {
  connection.stream().set_stall_timeout(kStall);
  int silent = 0;
  for (;;) {
    auto header = connection.receive_header();
    if (!header && header.error().kind == ErrorKind::kTimeout && connection.buffered_bytes() == 0 &&
        !failure() && (neighbour != host_ || ++silent < kSilentStalls))
      continue;
    Result<void> done;
    if (!header) {
      done = tl::make_unexpected(std::move(header).error());
    } else {
      silent = 0;
      if (header->kind == wire::FrameKind::kSplitRows)
        done = receive_rows(neighbour, connection, *header);
      else if (header->kind == wire::FrameKind::kSplitReport)
        done = receive_report(neighbour, connection, *header);
      else
        done = connection.skip(header->length);  // a heartbeat, or what later versions add
    }
    if (!done) {
      fail_link(neighbour, done.error());
      return done;
    }
  }
}

Result<void> Part::receive_rows(int neighbour, wire::Connection& connection,
                                const wire::FrameHeader& header) {
  std::array<std::byte, kRowsRecordBytes> record{};
  OB_CHECK_OK(connection.read(record));
  const auto message = ByteReader(record).read<std::uint32_t>();
  const int index = message < steps_.step_of_message.size() ? steps_.step_of_message[message] : -1;
  if (index < 0 || steps_.steps[at(index)].kind != StepKind::kReceive ||
      steps_.steps[at(index)].peer != neighbour ||
      steps_.steps[at(index)].payload_bytes != header.length - kRowsRecordBytes ||
      header.request_id > (std::uint64_t{1} << 30))
    return error(ErrorKind::kInvalid,
                 "the rows (message {}, frame {}, {} bytes) from participant ({}) are not of this "
                 "plan",
                 message, header.request_id, header.length, neighbour);
  const Step& step = steps_.steps[at(index)];
  Context* context = nullptr;
  {
    std::unique_lock lock(mutex_);
    if (steps_.is_host && static_cast<std::int64_t>(header.request_id) >= next_frame_)
      return error(ErrorKind::kInvalid, "the rows of frame ({}) came before it began",
                   header.request_id);
    OB_TRY(context, enter(static_cast<std::int64_t>(header.request_id), lock));
    if (context == nullptr || context->done[at(index)]) {
      lock.unlock();
      return error(ErrorKind::kInvalid, "the rows (message {}) of frame ({}) came twice", message,
                   header.request_id);
    }
    context->times[at(index)].start_ns = now_ns();
    links_[at(neighbour)]->arriving = true;
  }
  for (int b : step.outputs) {
    const Buffer& buffer = steps_.buffers[at(b)];
    for (std::span<std::byte> left{context->data(buffer), buffer.size_bytes}; !left.empty();) {
      const std::size_t size = std::min(left.size(), kReadBytes);
      OB_CHECK_OK(connection.read(left.first(size)));
      left = left.subspan(size);
      moved();
    }
  }
  const std::int64_t read = now_ns();
  copy(*context, step.copies);
  const std::lock_guard lock(mutex_);
  links_[at(neighbour)]->arriving = false;
  context->times[at(index)].end_ns = now_ns();
  context->times[at(index)].copy_ns = context->times[at(index)].end_ns - read;
  finish(*context, index);
  return {};
}

void Part::send_all(int neighbour) {
  Link& link = *links_[at(neighbour)];
  std::vector<iovec> parts;
  std::unique_lock lock(mutex_);
  for (;;) {
    link.changed.wait(lock, [&] { return failure_ || !link.queue.empty(); });
    if (failure_) return;
    const auto [key, index] = *link.queue.begin();
    link.queue.erase(link.queue.begin());
    Context& c = context_of(key >> 32);
    const Step& step = steps_.steps[at(index)];
    link.leaving_bytes += step.payload_bytes;
    lock.unlock();
    std::array<std::uint32_t, 2> record{static_cast<std::uint32_t>(step.index), 0};
    parts.assign(1, {record.data(), sizeof record});
    for (int b : step.inputs) {
      const Buffer& buffer = steps_.buffers[at(b)];
      parts.push_back({c.data(buffer), buffer.size_bytes});
    }
    c.times[at(index)].start_ns = now_ns();
    const auto sent = link.connection->send(
        {.kind = wire::FrameKind::kSplitRows, .request_id = static_cast<std::uint64_t>(key >> 32)},
        parts);
    if (!sent) {
      fail_link(neighbour, sent.error());
      return;
    }
    lock.lock();
    c.times[at(index)].end_ns = now_ns();
    finish(c, index);
  }
}

// ---- reports

// With the mutex held, by whoever ended the frame; small enough for any socket's buffer.
void Part::send_report(Context& c) {
  Link& link = *links_[at(host_)];
  if (link.connection == nullptr) return;
  ByteWriter out;
  out.write(static_cast<std::uint64_t>(now_ns()));
  for (const StepTime& t : c.times) {
    out.write(static_cast<std::uint32_t>(t.task));
    out.write(static_cast<std::uint32_t>(t.kind));
    out.write(t.start_ns);
    out.write(t.end_ns);
    out.write(t.copy_ns);
  }
  const auto bytes = out.bytes();
  (void)link.connection->try_send(
      {.kind = wire::FrameKind::kSplitReport, .request_id = static_cast<std::uint64_t>(c.frame)},
      {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

Result<void> Part::receive_report(int neighbour, wire::Connection& connection,
                                  const wire::FrameHeader& header) {
  const std::int64_t received = now_ns();
  const auto text = connection.read_string(header.length);
  if (!text) return tl::make_unexpected(text.error());
  ByteReader in(as_byte_span(*text));
  const auto sent = plausible(static_cast<std::int64_t>(in.read<std::uint64_t>()));
  // Clocks that differ by more than a message can take are those of different machines.
  const std::int64_t offset = std::abs(received - sent) < 1'000'000'000 ? 0 : received - sent;
  std::vector<StepTime> times;
  while (in.remaining() >= kReportEntryBytes) {
    StepTime t;
    t.task = static_cast<int>(in.read<std::uint32_t>());
    t.kind = static_cast<StepKind>(std::min(in.read<std::uint32_t>(), 2u));
    t.start_ns = plausible(in.read<std::int64_t>()) + offset;
    t.end_ns = plausible(in.read<std::int64_t>()) + offset;
    t.copy_ns = plausible(in.read<std::int64_t>());
    const bool is_call = t.task < static_cast<int>(layout_.pieces.size());
    if (t.task < 0 || t.task >= layout_.tasks() || is_call != (t.kind == StepKind::kCompute))
      return error(ErrorKind::kInvalid, "a report names task ({}) of {}", t.task, layout_.tasks());
    times.push_back(t);
  }
  const std::lock_guard lock(mutex_);
  reports_[at(neighbour)] = std::move(times);
  reported_[at(neighbour)] = static_cast<std::int64_t>(header.request_id);
  changed_.notify_all();
  return {};
}

}  // namespace outboard::split::exec
