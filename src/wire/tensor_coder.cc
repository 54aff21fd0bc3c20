// SPDX-License-Identifier: Apache-2.0
#include "wire/tensor_coder.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/clock.h"
#include "base/limits.h"

namespace outboard::wire {
namespace {

constexpr std::uint64_t kLeastTensorBytes = 1024;
constexpr unsigned kRunsBetweenSamples = 64;
constexpr std::size_t kMostMemories = 64;  // each has palettes of 20 KiB a channel
// How small a tensor may become at best, where nothing is known yet.
constexpr double kHopefulRatio = 0.02;

std::uint64_t since_ns(Nanoseconds begin) {
  return static_cast<std::uint64_t>((Clock::monotonic().now() - begin).count());
}

std::size_t number(Coding coding) { return static_cast<std::size_t>(coding); }
bool has_palette_width(std::size_t width) { return width == 2 || width == 4 || width == 8; }

Coding forced_coding(CodingMode mode, std::size_t width) {
  switch (mode) {
    case CodingMode::kPalette:
      return has_palette_width(width) ? Coding::kPalette : Coding::kRaw;
    case CodingMode::kLz4:
      return Coding::kLz4;
    case CodingMode::kZstd:
      return Coding::kZstd;
    default:
      return Coding::kRaw;
  }
}

// Which coding a chunk that came was in, for the account and the meter.
Coding coding_of(const ChunkRecord& record) {
  if (record.transform == Transform::kPalette)
    return record.compressor == Compressor::kNone ? Coding::kPalette : Coding::kPaletteZstd;
  if (record.compressor == Compressor::kLz4) return Coding::kLz4;
  return record.compressor == Compressor::kZstd ? Coding::kZstd : Coding::kRaw;
}

}  // namespace

std::string names_of(std::uint32_t codings) {
  std::string names;
  for (std::size_t i = 1; i <= kCodings; ++i) {
    if ((codings >> i & 1u) == 0) continue;
    names.append(names.empty() ? "" : ", ");
    names.append(i == kCodings ? "known" : name_of(static_cast<Coding>(i)));
  }
  return names;
}

CodingAccount TensorCoder::take_account() { return std::exchange(account_, {}); }

// ---- choosing
// ---------------------------------------------------------------------------------------

TensorCoder::Memory& TensorCoder::memory_of(std::uint64_t slot) {
  if (memories_.size() >= kMostMemories && !memories_.contains(slot)) memories_.clear();
  return memories_[slot];
}

TensorCoder::Choice TensorCoder::choose(std::uint64_t slot, const TensorHeader& header,
                                        std::span<const std::byte> data, double link_bytes_per_s,
                                        CodingMode mode) {
  const bool is_possible = header.type != ElementType::kString && mode != CodingMode::kOff &&
                           data.size() >= kLeastTensorBytes;
  if (!is_possible) return {};
  const double rate = link_bytes_per_s > 0 ? link_bytes_per_s : INFINITY;
  const double raw_s = static_cast<double>(data.size()) / rate;
  if (mode != CodingMode::kAuto)
    return {forced_coding(mode, layout_of(header).element_bytes), raw_s};
  const CodecSpeeds speeds = together(meter_.speeds(), peer_);
  TensorFacts unknown{.size_bytes = data.size(), .chunk_bytes = limits::kTensorChunkBytes};
  bool any = false;
  for (std::size_t i = 1; i < kCodings && !any; ++i)
    any = worth_trying(static_cast<Coding>(i), kHopefulRatio, rate, unknown, speeds);
  if (!any) return {Coding::kRaw, raw_s};
  Memory& memory = memory_of(slot);
  memory.facts.size_bytes = data.size();
  memory.facts.chunk_bytes = layout_of(header).chunk_bytes;
  if (memory.runs_until_sample == 0) {
    sample(memory, header, data, rate, speeds);
    memory.runs_until_sample = kRunsBetweenSamples;
  }
  --memory.runs_until_sample;
  const Coding coding = choose_coding(rate, memory.facts, speeds);
  return {coding, transfer_time_s(coding, rate, memory.facts, speeds[number(coding)])};
}

// Tries the codings that could pay on the chunk in the middle of the tensor. Where a palette
// holds, shuffling does not come near it and is left out.
void TensorCoder::sample(Memory& memory, const TensorHeader& header,
                         std::span<const std::byte> data, double link_bytes_per_s,
                         const CodecSpeeds& speeds) {
  const ChunkLayout layout = layout_of(header);
  std::uint64_t offset = 0;
  while (offset + chunk_size(layout, offset, data.size()) < data.size() / 2)
    offset += chunk_size(layout, offset, data.size());
  const auto piece = data.subspan(offset, chunk_size(layout, offset, data.size()));
  memory.facts.ratio.fill(std::nullopt);
  const auto pays = [&](Coding coding, double best_ratio) {
    return worth_trying(coding, best_ratio, link_bytes_per_s, memory.facts, speeds);
  };
  const bool has_palette = has_palette_width(layout.element_bytes) &&
                           sample_one(memory, Coding::kPalette, layout, offset, piece);
  if (has_palette) {
    if (pays(Coding::kPaletteZstd, kHopefulRatio))
      sample_one(memory, Coding::kPaletteZstd, layout, offset, piece);
    return;
  }
  for (const Coding coding : {Coding::kLz4, Coding::kZstd})
    if (pays(coding, kHopefulRatio)) sample_one(memory, coding, layout, offset, piece);
}

bool TensorCoder::sample_one(Memory& memory, Coding coding, const ChunkLayout& layout,
                             std::uint64_t offset, std::span<const std::byte> piece) {
  const Nanoseconds begin = Clock::monotonic().now();
  const auto coded = codec_.encode(coding, layout, offset, piece, memory.palettes);
  if (coding_of(coded.record) != coding) return false;
  meter_.encoded(coding, piece.size(), since_ns(begin));
  memory.facts.ratio[number(coding)] =
      static_cast<double>(coded.body.size() + kFrameHeaderBytes + kChunkRecordBytes) /
      static_cast<double>(piece.size());
  return true;
}

// ---- sending
// ----------------------------------------------------------------------------------------

Result<void> TensorCoder::send(std::uint64_t request_id, std::uint64_t slot, Coding coding,
                               const TensorHeader& header, std::span<const std::byte> data,
                               const std::function<bool()>& stop) {
  Memory& memory = memory_of(slot);
  const ChunkLayout layout = layout_of(header);
  std::uint64_t coded_bytes = 0;
  for (std::uint64_t offset = 0; offset < data.size();) {
    if (stop && stop()) return error(ErrorKind::kCancelled, "Run was cancelled");
    const std::size_t size = chunk_size(layout, offset, data.size());
    const Nanoseconds begin = Clock::monotonic().now();
    const auto coded =
        codec_.encode(coding, layout, offset, data.subspan(offset, size), memory.palettes);
    const std::uint64_t time_ns = since_ns(begin);
    const auto record = encode(coded.record);
    const std::array<iovec, 2> parts{
        {{const_cast<std::byte*>(record.data()), record.size()},
         {const_cast<std::byte*>(coded.body.data()), coded.body.size()}}};
    OB_CHECK_OK(
        connection_.send({.kind = FrameKind::kTensorChunk, .request_id = request_id}, parts));
    const Coding used = coding_of(coded.record);
    if (used == coding && coding != Coding::kRaw) meter_.encoded(coding, size, time_ns);
    account_.encode_ns += time_ns;
    account_.codings |= 1u << number(used);
    coded_bytes += kFrameHeaderBytes + kChunkRecordBytes + coded.body.size();
    offset += size;
  }
  account_.tensor_bytes_sent += data.size();
  account_.chunk_bytes_sent += coded_bytes;
  if (auto& ratio = memory.facts.ratio[number(coding)]; coding != Coding::kRaw && !data.empty()) {
    const double now = static_cast<double>(coded_bytes) / static_cast<double>(data.size());
    // A picture of another kind: everything is tried anew.
    if (ratio && now > 1.25 * *ratio) memory.runs_until_sample = 0;
    ratio = ratio ? (*ratio + now) / 2 : now;
  }
  return {};
}

// ---- receiving
// --------------------------------------------------------------------------------------

// The record of the next chunk, checked; the size of its body.
Result<std::uint64_t> TensorCoder::receive_chunk_header(std::uint64_t request_id,
                                                        ChunkRecord& record,
                                                        std::uint64_t tensor_bytes_left,
                                                        bool& cancelled) {
  for (;;) {
    OB_TRY(const FrameHeader header, connection_.receive_header());
    if (header.kind == FrameKind::kHeartbeat || header.kind == FrameKind::kCancel) {
      cancelled |= header.kind == FrameKind::kCancel && header.request_id == request_id;
      OB_CHECK_OK(connection_.skip(header.length));
      continue;
    }
    if (header.kind != FrameKind::kTensorChunk || header.request_id != request_id ||
        header.length < kChunkRecordBytes)
      return error(ErrorKind::kInvalid,
                   "frame of kind {} ({}) with {} bytes came where a chunk of a tensor of request "
                   "({}) was expected",
                   static_cast<int>(header.kind), name_of(header.kind), header.length, request_id);
    std::array<std::byte, kChunkRecordBytes> bytes{};
    OB_CHECK_OK(connection_.read(bytes));
    const std::uint64_t body_bytes = header.length - kChunkRecordBytes;
    OB_TRY(record, decode_chunk_record(bytes, body_bytes));
    if (record.decoded_bytes > tensor_bytes_left)
      return error(ErrorKind::kInvalid,
                   "chunk of {} bytes came where {} bytes of a tensor were left",
                   record.decoded_bytes, tensor_bytes_left);
    account_.chunk_bytes_received += kFrameHeaderBytes + header.length;
    account_.tensor_bytes_received += record.decoded_bytes;
    return body_bytes;
  }
}

Result<std::size_t> TensorCoder::receive_chunk(std::uint64_t request_id, const TensorHeader& header,
                                               std::span<std::byte> rest, bool& cancelled) {
  ChunkRecord record;
  OB_TRY(const std::uint64_t body_bytes,
         receive_chunk_header(request_id, record, rest.size(), cancelled));
  const auto destination = rest.first(record.decoded_bytes);
  const Coding coding = coding_of(record);
  account_.codings |= 1u << number(coding);
  if (record == ChunkRecord{.decoded_bytes = record.decoded_bytes} &&
      body_bytes == destination.size()) {  // unchanged: straight to its place
    OB_CHECK_OK(connection_.read(destination));
    return destination.size();
  }
  if (body_.size() < body_bytes) body_.resize(body_bytes);
  const auto body = std::span(body_).first(body_bytes);
  OB_CHECK_OK(connection_.read(body));
  const Nanoseconds begin = Clock::monotonic().now();
  OB_CHECK_OK(codec_.decode(record, layout_of(header).element_bytes, body, destination));
  const std::uint64_t time_ns = since_ns(begin);
  account_.decode_ns += time_ns;
  if (coding != Coding::kRaw) meter_.decoded(coding, destination.size(), time_ns);
  return destination.size();
}

Result<void> TensorCoder::receive(std::uint64_t request_id, const TensorHeader& header,
                                  std::span<std::byte> destination) {
  bool cancelled = false;
  while (!destination.empty()) {
    OB_TRY(const std::size_t size, receive_chunk(request_id, header, destination, cancelled));
    destination = destination.subspan(size);
  }
  return {};
}

Result<void> TensorCoder::skip(std::uint64_t request_id, std::uint64_t tensor_bytes) {
  bool cancelled = false;
  while (tensor_bytes > 0) {
    ChunkRecord record;
    OB_TRY(const std::uint64_t body_bytes,
           receive_chunk_header(request_id, record, tensor_bytes, cancelled));
    OB_CHECK_OK(connection_.skip(body_bytes));
    tensor_bytes -= record.decoded_bytes;
  }
  return {};
}

}  // namespace outboard::wire
