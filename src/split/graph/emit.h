// SPDX-License-Identifier: Apache-2.0
// Writes the ONNX model of a band: the operators of some units for some rows, with pads only where
// the band touches the image's border, slices where operators need different rows of a tensor, and
// weights either inside or as views into the model's file. Pure but for reading mapped weights.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "split/graph/band.h"

namespace outboard::split {

struct BandPort {
  std::string name;  // of the model's input or output
  TensorRows rows;
};

// A weight that the band's model names as external data, with its bytes: in the model's file, or
// made for the band.
struct WeightView {
  std::string name;
  std::span<const std::byte> bytes;
  std::shared_ptr<const std::string> made{};
};

// A slice of rows inside of the band, by the value that it makes.
struct BandSlice {
  std::string value;
  int tensor = -1;
};

struct BandModel {
  std::string bytes;  // a serialised ModelProto
  std::vector<BandPort> inputs;
  std::vector<BandPort> outputs;
  std::vector<BandSlice> slices;    // of tensors with a shim
  std::vector<WeightView> weights;  // empty when they are inside
};

enum class Weights : std::uint8_t {
  kInside,   // copied into the model
  kOutside,  // from kOutsideBytes on external data, whose views are in BandModel::weights
};

struct EmitOptions {
  Weights weights = Weights::kInside;
  // By tensor: where such a tensor enters or leaves the band, or is sliced in it, there is a shim,
  // a pooling of one element, which changes nothing. An engine that computes in a layout of its own
  // then changes layouts on the shim's outer side (src/split/exec/blocked.h).
  std::vector<char> shims{};
};

inline constexpr std::size_t kOutsideBytes = 1024;
// The location that outside weights name; no file of that name exists.
constexpr const char* kOutsideLocation = "outboard.weights";

// The band that computes `wanted` with units [first, end); see BandWork::run for `slots`.
// Errors: kInvalid when a wanted tensor is not made in these units.
Result<BandModel> emit_band(const Graph& graph, int first_unit, int end_unit,
                            std::span<const TensorRows> wanted, std::span<const SlotRows> slots,
                            const EmitOptions& options = {});

// Whether this is a matrix product.
bool is_linear(const Op& op);

// Whether it is one with one row, as a fully connected layer of one image is: it
// reads its weights once, and packing them for the kernels takes longer than many such products.
bool multiplies_one_row(const Graph& graph, const Op& op);

// A model that computes nothing but has every intermediate tensor among its outputs, with weights
// as inputs: an engine that opens it says what shapes it infers, without ever seeing a weight.
std::string shape_probe(const Graph& graph);

// A model of one negation of one number: what a call of an engine costs.
std::string call_probe();

}  // namespace outboard::split
