// SPDX-License-Identifier: Apache-2.0
// Sends and receives tensors as coded chunks (coding/chunk.h) over a connection, and chooses how a
// tensor is coded. Both sides have one for each connection on which the feature was agreed on.
//
// Chunks are coded as they are sent and decoded as they come: the kernel's buffers hold what is
// between, so that coding, the link and decoding work at the same time without a thread more.
// Belongs to the connection's thread. Errors: the connection's, and kInvalid for a peer's bytes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "wire/coding/choose.h"
#include "wire/coding/codec.h"
#include "wire/coding/speeds.h"
#include "wire/connection.h"
#include "wire/tensor.h"

namespace outboard::wire {

// What coding did since the last look.
struct CodingAccount {
  std::uint64_t tensor_bytes_sent = 0, chunk_bytes_sent = 0;  // the latter with their headers
  std::uint64_t tensor_bytes_received = 0, chunk_bytes_received = 0;
  std::uint64_t encode_ns = 0, decode_ns = 0;
  std::uint32_t codings = 0;  // bit n: Coding of number n was sent or received
};
inline constexpr std::uint32_t kKnownBit = 1u << kCodings;  // likewise: a tensor went as its hash
std::string names_of(std::uint32_t codings);                // "palette, lz4"; "" for none

class TensorCoder {
 public:
  // Borrows all; `peer`: what the other side decodes.
  TensorCoder(Connection& connection, SpeedMeter& meter, CodingOffer peer)
      : connection_(connection), meter_(meter), peer_(peer) {}

  // How the tensor should travel over a link of this rate (not positive: unknown). `slot` names
  // the same input or output from Run to Run: what it was like is remembered. kRaw: in the Run's
  // own frame, without chunks.
  struct Choice {
    Coding coding = Coding::kRaw;
    double transfer_s = 0;  // predicted
  };
  Choice choose(std::uint64_t slot, const TensorHeader& header, std::span<const std::byte> data,
                double link_bytes_per_s, CodingMode mode);

  // All of a tensor as chunks. `stop` (may be empty) is asked between them; kCancelled when it says
  // so: the connection is then of no further use.
  Result<void> send(std::uint64_t request_id, std::uint64_t slot, Coding coding,
                    const TensorHeader& header, std::span<const std::byte> data,
                    const std::function<bool()>& stop = {});

  // The next chunk of a tensor into the beginning of `rest`; how many bytes it held. Heartbeats in
  // between are skipped; a cancel of the request is noted in `cancelled`.
  Result<std::size_t> receive_chunk(std::uint64_t request_id, const TensorHeader& header,
                                    std::span<std::byte> rest, bool& cancelled);
  Result<void> receive(std::uint64_t request_id, const TensorHeader& header,
                       std::span<std::byte> destination);
  // Takes the chunks of a tensor that nobody wants.
  Result<void> skip(std::uint64_t request_id, std::uint64_t tensor_bytes);

  CodingAccount take_account();

 private:
  struct Memory {
    PaletteMemory palettes;
    TensorFacts facts;
    unsigned runs_until_sample = 0;
  };
  Memory& memory_of(std::uint64_t slot);
  void sample(Memory& memory, const TensorHeader& header, std::span<const std::byte> data,
              double link_bytes_per_s, const CodecSpeeds& speeds);
  bool sample_one(Memory& memory, Coding coding, const ChunkLayout& layout, std::uint64_t offset,
                  std::span<const std::byte> piece);
  Result<std::uint64_t> receive_chunk_header(std::uint64_t request_id, ChunkRecord& record,
                                             std::uint64_t tensor_bytes_left, bool& cancelled);

  Connection& connection_;
  SpeedMeter& meter_;
  const CodingOffer peer_;
  ChunkCodec codec_;
  std::vector<std::byte> body_;  // of a chunk that came
  std::map<std::uint64_t, Memory> memories_;
  CodingAccount account_;
};

}  // namespace outboard::wire
