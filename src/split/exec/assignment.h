// SPDX-License-Identifier: Apache-2.0
// What the host of a split inference tells every other participant, and its bytes on the wire
// (docs/wire.md). A peer's bytes are checked here, and what they mean for a graph by
// check_program(), before anything is built from them. Pure.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/sha256.h"
#include "split/plan/layout.h"

namespace outboard::split::exec {

using PlanId = std::array<std::uint64_t, 2>;  // random, chosen by the host

struct Assignment {
  PlanId id{};
  Sha256 model;
  int participant = 0;
  int host = 0;
  int contexts = 1;
  double pace = 0;           // PartOptions
  int block_channels = 0;    // PartOptions
  std::string engine;        // of the host, with its version: kernels must be the same
  std::uint64_t layout = 0;  // fingerprint of the layout as the host built it
  ShapeMap input_shapes;
  std::vector<std::string> members;  // addresses by participant; empty for the host's
  Program program;                   // participants 0 .. n-1
};

std::string encode(const Assignment& assignment);
// kInvalid for bytes that are no assignment.
Result<Assignment> decode_assignment(std::span<const std::byte> bytes);

struct Join {
  PlanId id{};
  int from = 0;  // participant
};
std::string encode(const Join& join);
Result<Join> decode_join(std::span<const std::byte> bytes);
std::string encode(const PlanId& id);
Result<PlanId> decode_plan_id(std::span<const std::byte> bytes);

struct Ready {
  double build_ms = 0;
  std::uint64_t memory_bytes = 0;
};
std::string encode(const Ready& ready);
Result<Ready> decode_ready(std::span<const std::byte> bytes);

// Whether a program is one for this graph: blocks cover the units in order, cuts ascend. kInvalid
// with what is wrong.
Result<void> check_program(const Graph& graph, const Program& program);

// Two nodes that build the same layout from a program have the same fingerprint of it.
std::uint64_t fingerprint(const Graph& graph, const Layout& layout);

}  // namespace outboard::split::exec
