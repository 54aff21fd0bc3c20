// SPDX-License-Identifier: Apache-2.0
#include "wire/coding/choose.h"

#include <algorithm>
#include <cmath>

namespace outboard::wire {
namespace {

constexpr std::array<std::string_view, kCodingModes> kModeNames = {"auto", "off", "palette", "lz4",
                                                                   "zstd"};

double raw_time_s(double link_bytes_per_s, const TensorFacts& tensor) {
  return static_cast<double>(tensor.size_bytes) / link_bytes_per_s;
}

bool is_usable(double link_bytes_per_s) {
  return std::isfinite(link_bytes_per_s) && link_bytes_per_s > 0;
}

}  // namespace

Result<CodingMode> parse_coding_mode(std::string_view text) {
  for (std::size_t i = 0; i < kModeNames.size(); ++i)
    if (kModeNames[i] == text) return static_cast<CodingMode>(i);
  return error(ErrorKind::kInvalid, "coding ({}) must be auto, off, palette, lz4 or zstd", text);
}

std::string_view name_of(CodingMode mode) {
  const auto number = static_cast<std::size_t>(mode);
  return number < kModeNames.size() ? kModeNames[number] : "unknown";
}

double transfer_time_s(Coding coding, double link_bytes_per_s, const TensorFacts& tensor,
                       const CodecSpeed& speed) {
  const double raw = raw_time_s(link_bytes_per_s, tensor);
  if (coding == Coding::kRaw) return raw;
  const auto ratio = tensor.ratio[static_cast<std::size_t>(coding)];
  if (!ratio || speed.encode_bytes_per_s <= 0 || speed.decode_bytes_per_s <= 0) return INFINITY;
  const auto size = static_cast<double>(tensor.size_bytes);
  const double encode = size / speed.encode_bytes_per_s, send = raw * *ratio,
               decode = size / speed.decode_bytes_per_s;
  const double chunks = std::max(1.0, std::ceil(size / static_cast<double>(tensor.chunk_bytes)));
  const double slowest = std::max({encode, send, decode});
  return slowest + (encode + send + decode - slowest) / chunks + chunks * kChunkOverhead_s;
}

Coding choose_coding(double link_bytes_per_s, const TensorFacts& tensor,
                     const CodecSpeeds& speeds) {
  if (!is_usable(link_bytes_per_s) || tensor.size_bytes == 0) return Coding::kRaw;
  Coding best = Coding::kRaw;
  const double raw_s = raw_time_s(link_bytes_per_s, tensor);
  double best_s = std::min(raw_s * (1 - kLeastGain), raw_s - kLeastGain_s);
  for (std::size_t i = 1; i < kCodings; ++i) {
    const auto coding = static_cast<Coding>(i);
    const double time_s = transfer_time_s(coding, link_bytes_per_s, tensor, speeds[i]);
    if (time_s >= best_s) continue;
    best = coding;
    best_s = time_s;
  }
  return best;
}

bool worth_trying(Coding coding, double best_ratio, double link_bytes_per_s,
                  const TensorFacts& tensor, const CodecSpeeds& speeds) {
  if (!is_usable(link_bytes_per_s)) return false;
  TensorFacts hopeful = tensor;
  hopeful.ratio.fill(std::nullopt);
  hopeful.ratio[static_cast<std::size_t>(coding)] = best_ratio;
  return choose_coding(link_bytes_per_s, hopeful, speeds) == coding;
}

bool worth_hashing(double transfer_s, std::uint64_t size_bytes, double hash_bytes_per_s) {
  // Hashing on both sides the first time, on one from then on.
  return hash_bytes_per_s > 0 &&
         static_cast<double>(size_bytes) / hash_bytes_per_s < transfer_s * (1 - kLeastGain) / 2;
}

}  // namespace outboard::wire
