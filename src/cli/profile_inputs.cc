// SPDX-License-Identifier: Apache-2.0
#include "cli/profile_inputs.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <random>
#include <type_traits>

#include "base/limits.h"
#include "engine/element_type.h"

namespace outboard::cli {
namespace {

using engine::ElementType;
using engine::ValueInfo;

Result<std::vector<std::int64_t>> shape_of(const ValueInfo& input, const ShapeChoices& choices) {
  const auto choice = choices.find(input.name);
  if (choice == choices.end()) {
    if (!input.has_shape)
      return error(ErrorKind::kInvalid,
                   "the input ({}) has no shape in the model; give one, --shape {}=1,3,224,224",
                   input.name, input.name);
    std::vector<std::int64_t> dims = input.dims;
    std::replace_if(dims.begin(), dims.end(), [](std::int64_t d) { return d < 0; }, 1);
    return dims;
  }
  const std::vector<std::int64_t>& dims = choice->second;
  bool fits = !input.has_shape || dims.size() == input.dims.size();
  for (std::size_t i = 0; fits && input.has_shape && i < dims.size(); ++i)
    fits = input.dims[i] < 0 || input.dims[i] == dims[i];
  if (!fits)
    return error(ErrorKind::kInvalid,
                 "the shape ({}) given for the input ({}) must fit the model's, which is ({})",
                 fmt::join(dims, ","), input.name, fmt::join(input.dims, ","));
  return dims;
}

template <typename T, typename Make>
void fill(std::vector<std::byte>& data, Make make) {
  for (std::size_t at = 0; at + sizeof(T) <= data.size(); at += sizeof(T)) {
    const T value = make();
    std::memcpy(&data[at], &value, sizeof(T));
  }
}

// A half-precision number in [0.5, 1): the exponent of 0.5 and ten random bits of mantissa.
std::uint16_t half_bits(std::uint64_t random) {
  return static_cast<std::uint16_t>(0x3800 | (random & 0x3FF));
}

std::uint16_t bfloat16_bits(float value) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof bits);
  return static_cast<std::uint16_t>(bits >> 16);
}

void fill_random(InputTensor& tensor, std::mt19937_64& random) {
  std::uniform_real_distribution<float> uniform(0.0f, 1.0f);
  const auto zero_or_one = [&] { return static_cast<std::uint8_t>(random() & 1); };
  std::vector<std::byte>& data = tensor.data;
  switch (tensor.type) {
    case ElementType::kFloat:
    case ElementType::kComplex64:
      return fill<float>(data, [&] { return uniform(random); });
    case ElementType::kDouble:
    case ElementType::kComplex128:
      return fill<double>(data, [&] { return double{uniform(random)}; });
    case ElementType::kFloat16:
      return fill<std::uint16_t>(data, [&] { return half_bits(random()); });
    case ElementType::kBfloat16:
      return fill<std::uint16_t>(data, [&] { return bfloat16_bits(uniform(random)); });
    case ElementType::kInt16:
    case ElementType::kUint16:
      return fill<std::uint16_t>(data, [&] { return std::uint16_t{zero_or_one()}; });
    case ElementType::kInt32:
    case ElementType::kUint32:
      return fill<std::uint32_t>(data, [&] { return std::uint32_t{zero_or_one()}; });
    case ElementType::kInt64:
    case ElementType::kUint64:
      return fill<std::uint64_t>(data, [&] { return std::uint64_t{zero_or_one()}; });
    default:  // one byte or less an element; for packed and eight-bit floats these are small values
      return fill<std::uint8_t>(data, zero_or_one);
  }
}

Result<InputTensor> make_input(const ValueInfo& input, const ShapeChoices& choices,
                               std::mt19937_64& random) {
  if (input.kind != "tensor" || input.type == ElementType::kUndefined)
    return error(ErrorKind::kUnimplemented,
                 "the input ({}) is of kind ({}); only tensors of known types can be made up",
                 input.name, input.kind);
  InputTensor tensor{.type = input.type, .dims = {}, .data = {}, .strings = {}};
  OB_TRY(tensor.dims, shape_of(input, choices));
  const auto elements = engine::element_count(tensor.dims);
  const bool is_string = input.type == ElementType::kString;
  const auto bytes = is_string ? elements : engine::size_bytes(input.type, tensor.dims);
  if (!bytes || *bytes > limits::kTensorBytes)
    return error(ErrorKind::kInvalid,
                 "the shape ({}) of the input ({}) must have no negative dimension and at most "
                 "({}) bytes",
                 fmt::join(tensor.dims, ","), input.name, limits::kTensorBytes);
  if (is_string) {
    tensor.strings.resize(*elements);
    for (std::string& s : tensor.strings) s = static_cast<char>('a' + random() % 26);
  } else {
    tensor.data.resize(*bytes);
    fill_random(tensor, random);
  }
  return tensor;
}

}  // namespace

Result<std::pair<std::string, std::vector<std::int64_t>>> parse_shape(std::string_view text) {
  const auto bad = [&] {
    return error(ErrorKind::kInvalid,
                 "the shape ({}) must be an input's name and its dimensions, as in "
                 "image=1,3,224,224",
                 text);
  };
  // An input's name may have an equals sign in it; dimensions do not.
  const auto equals = text.rfind('=');
  if (equals == std::string_view::npos || equals == 0) return bad();
  std::vector<std::int64_t> dims;
  for (std::string_view rest = text.substr(equals + 1); !rest.empty();) {
    std::int64_t dim = 0;
    const auto [end, fault] = std::from_chars(rest.data(), rest.data() + rest.size(), dim);
    if (fault != std::errc{} || dim < 0) return bad();
    dims.push_back(dim);
    rest.remove_prefix(static_cast<std::size_t>(end - rest.data()));
    if (rest.empty()) break;
    if (rest.front() != ',' || rest.size() == 1) return bad();
    rest.remove_prefix(1);
  }
  return std::pair{std::string(text.substr(0, equals)), std::move(dims)};
}

Result<std::vector<InputTensor>> make_inputs(std::span<const ValueInfo> inputs,
                                             const ShapeChoices& choices, std::uint64_t seed) {
  for (const auto& [name, dims] : choices) {
    const auto is_it = [&](const ValueInfo& input) { return input.name == name; };
    if (std::any_of(inputs.begin(), inputs.end(), is_it)) continue;
    std::vector<std::string_view> names;
    names.reserve(inputs.size());
    for (const ValueInfo& input : inputs) names.push_back(input.name);
    return error(ErrorKind::kInvalid, "the model has no input ({}); it has ({})", name,
                 fmt::join(names, ", "));
  }
  std::mt19937_64 random(seed);
  std::vector<InputTensor> tensors;
  tensors.reserve(inputs.size());
  for (const ValueInfo& input : inputs) {
    OB_TRY(InputTensor tensor, make_input(input, choices, random));
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

}  // namespace outboard::cli
