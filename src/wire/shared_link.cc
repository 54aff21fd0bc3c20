// SPDX-License-Identifier: Apache-2.0
#include "wire/shared_link.h"

#include <algorithm>
#include <bit>

#include "base/check.h"
#include "base/cursor.h"
#include "wire/messages.h"

namespace outboard::wire {
namespace {

// In steps of an eighth of the power of two, so that like Runs need like regions.
std::uint64_t rounded_up(std::uint64_t size) {
  const std::uint64_t step = std::max(std::bit_floor(size) / 8, RegionSizes::kLeastBytes);
  return (size + step - 1) / step * step;
}

}  // namespace

bool SharedBytes::take(std::uint64_t bytes) {
  if (used_.fetch_add(bytes, std::memory_order_relaxed) + bytes <= limit_bytes_) return true;
  give_back(bytes);
  return false;
}

std::uint64_t RegionSizes::next(std::uint64_t size_bytes, std::uint64_t needed_bytes) {
  most_needed_ = std::max(most_needed_, needed_bytes);
  if (needed_bytes > size_bytes) {
    runs_ = 0;
    most_needed_ = 0;
    return rounded_up(needed_bytes);
  }
  if (++runs_ < kWindowRuns) return size_bytes;
  const std::uint64_t most = most_needed_;
  runs_ = 0;
  most_needed_ = 0;
  return size_bytes >= kWorthShrinkingBytes && most < size_bytes / 4
             ? rounded_up(std::max(most, kLeastBytes))
             : size_bytes;
}

Result<std::unique_ptr<SharedLink>> SharedLink::make(SharedBudget& budget) {
  std::unique_ptr<SharedLink> link(new SharedLink(budget));
  OB_CHECK_OK(link->make_own(RegionSizes::kLeastBytes));
  return link;
}

SharedLink::~SharedLink() {
  budget_.own.give_back(own_.size());
  budget_.peers.give_back(peer_.size());
}

Result<void> SharedLink::make_own(std::uint64_t size_bytes) {
  budget_.own.give_back(own_.size());
  own_ = SharedRegion();
  used_ = 0;
  if (!budget_.own.take(size_bytes))
    return error(ErrorKind::kOverloaded, "shared memory ({} bytes) is beyond the limit",
                 size_bytes);
  auto made = SharedRegion::create(size_bytes);
  if (!made) {
    budget_.own.give_back(size_bytes);
    return tl::make_unexpected(std::move(made).error());
  }
  own_ = std::move(*made);
  return {};
}

Result<void> SharedLink::take_peer(const FileDescriptor& descriptor, std::uint64_t size_bytes) {
  budget_.peers.give_back(peer_.size());
  peer_ = PeerRegion();
  if (!budget_.peers.take(size_bytes))
    return error(ErrorKind::kOverloaded, "shared memory ({} bytes) is beyond the limit",
                 size_bytes);
  auto mapped = PeerRegion::map(descriptor, size_bytes);
  if (!mapped) {
    budget_.peers.give_back(size_bytes);
    return tl::make_unexpected(std::move(mapped).error());
  }
  peer_ = std::move(*mapped);
  return {};
}

std::string SharedLink::feature_data() const { return encode_shared_region(own_.size()); }

Result<void> SharedLink::take_first_region(const FileDescriptor& descriptor,
                                           std::string_view feature_data) {
  OB_TRY(const std::uint64_t size, decode_shared_region(as_byte_span(feature_data)));
  return take_peer(descriptor, size);
}

Result<void> SharedLink::begin(Connection& connection, std::uint64_t needed_bytes) {
  used_ = 0;
  const std::uint64_t wanted = sizes_.next(own_.size(), needed_bytes);
  if (wanted == own_.size()) return {};
  // Where it fails there is no memory to write to, and tensors go in the frame.
  if (!make_own(wanted)) return {};
  OB_CHECK_OK(connection.send_with({.kind = FrameKind::kSharedRegion},
                                   encode_shared_region(own_.size()), own_.descriptor()));
  own_.close_descriptor();
  return {};
}

std::optional<SharedLink::Place> SharedLink::place(std::uint64_t size_bytes) {
  const std::uint64_t room = own_.size() - used_;
  if (size_bytes > room || room_for(size_bytes) > room) return std::nullopt;
  const Place place{used_, own_.bytes().subspan(used_, size_bytes)};
  used_ += room_for(size_bytes);
  return place;
}

Result<void> SharedLink::receive_region(Connection& connection, const FrameHeader& header) {
  OB_TRY(const std::string record, connection.read_string(header.length));
  OB_TRY(const std::uint64_t size, decode_shared_region(as_byte_span(record)));
  OB_CHECK(connection.stream().descriptors() != nullptr);
  return take_peer(connection.stream().descriptors()->take_descriptor(), size);
}

Result<std::span<const std::byte>> SharedLink::view(std::uint64_t offset,
                                                    std::uint64_t size_bytes) const {
  if (offset % kAlignment != 0 || offset > peer_.size() || size_bytes > peer_.size() - offset)
    return error(ErrorKind::kInvalid,
                 "tensor in shared memory ({} bytes at {}) must be aligned to {} and lie within it "
                 "({} bytes)",
                 size_bytes, offset, kAlignment, peer_.size());
  return peer_.bytes().subspan(offset, size_bytes);
}

}  // namespace outboard::wire
