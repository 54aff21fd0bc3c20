// SPDX-License-Identifier: Apache-2.0
// What one participant of a program does in a frame, compiled from the layout: the calls that it
// makes, the messages that it sends and receives, the buffers between them and the copies that fill
// these. Pure; immutable once made.
//
// A buffer is some rows of one tensor, contiguous, as the engine wants them. Two uses of the same
// rows of a tensor share one buffer: what a call writes is then what another reads, or what a
// message carries, without a copy. Where a call needs rows from several places (its own band and a
// neighbour's halo) they are copied together as soon as each is there.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "split/plan/layout.h"

namespace outboard::split::exec {

struct Buffer {
  int tensor = -1;
  Rows rows;
  Shape shape;
  std::int64_t lead = 1;        // strips
  std::int64_t tail_bytes = 0;  // of one row in a strip
  std::uint64_t offset = 0;     // in the memory of a frame (place.h)
  std::uint64_t size_bytes = 0;
};

struct Copy {
  int from = -1, to = -1;  // buffers
  Rows rows;
};

enum class StepKind : std::uint8_t { kCompute, kSend, kReceive };

struct Step {
  StepKind kind = StepKind::kCompute;
  int task = -1;                    // in the layout
  int index = -1;                   // piece or message of the layout
  int peer = -1;                    // of a message: the other participant
  std::int64_t key = 0;             // the lowest goes first
  std::vector<int> inputs;          // a call's; a message's parts that leave
  std::vector<int> outputs;         // a call's; a message's parts that come
  std::vector<Copy> copies;         // when it is done
  std::vector<int> next;            // steps that wait for it
  int waits = 0;                    // steps that it waits for
  std::uint64_t payload_bytes = 0;  // of a message
};

struct Steps {
  int participant = -1;
  bool is_host = false;
  std::vector<Step> steps;
  std::vector<Buffer> buffers;
  std::uint64_t frame_bytes = 0;     // memory of one frame
  std::vector<int> step_of_message;  // by message of the layout; -1: not this participant's
  std::vector<int> model_inputs;     // the host's: buffers of the model's inputs, whole
  std::vector<Copy> input_copies;    // from them
  std::vector<int> model_outputs;    // the host's: buffers of the model's outputs, whole
};

// kInternal when a layout forgets rows that a call or a message needs.
// `block_channels`: of tensors that are in blocks (blocked.h).
Result<Steps> compile(const Graph& graph, const Program& program, const Layout& layout, int host,
                      int participant, int block_channels = 0);

// Copies rows between two buffers of one tensor.
void copy_rows(const Buffer& from, const std::byte* source, const Buffer& to, std::byte* target,
               Rows rows);

// The layout of a program whose participants are 0 .. n-1. Node times do not matter to it.
Layout layout_of(const Graph& graph, const Program& program, int host);

}  // namespace outboard::split::exec
