// SPDX-License-Identifier: Apache-2.0
// Bands in the layout of the engine's own kernels. ONNX Runtime's convolutions on a CPU work on
// blocks of channels: [C/16][rows][W][16] in place of [C][rows][W]. Opened one by one, every band
// would change layouts where it begins and where it ends, and an addition to what comes from
// another band would not be fused with the convolution before it. So a band is written with shims
// at its ends (emit.h), the engine says what it makes of it, and the shims go, with the changes of
// layout outside of them: what enters and leaves then is in blocks. Rows stay rows.
//
// Which tensors, a rule says that is the same on every node; how many channels make a block, the
// engine, and all nodes of a plan must agree on it.
//
// Pure but for what asks the engine. Results are those of the whole model in the same engine.
#pragma once

#include <onnx/onnx_pb.h>

#include <string_view>
#include <vector>

#include "engine/engine.h"
#include "split/graph/emit.h"

namespace outboard::split::exec {

// Channels in a block of this engine's kernels; 0: it has no such layout, or does not tell.
int block_channels(engine::Engine& engine);

// By tensor: whether it travels between bands in blocks of so many channels. Empty for 0.
std::vector<char> in_blocks(const Graph& graph, int channels);

// `optimised`: what the engine made of a band that was emitted with shims. Without them, and with
// the named inputs and outputs in blocks. kInvalid: it is no model of a band (optimised.h).
Result<onnx::ModelProto> without_shims(const Graph& graph, const BandModel& band,
                                       const std::vector<char>& blocked, int channels,
                                       std::string_view optimised);

}  // namespace outboard::split::exec
