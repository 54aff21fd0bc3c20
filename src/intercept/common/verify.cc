// SPDX-License-Identifier: Apache-2.0
#include "intercept/common/verify.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

namespace outboard::intercept {
namespace {

using wire::ElementType;

struct Tolerance {
  double relative = 0, absolute = 0;
};

// A small float of `exponent` and `mantissa` bits with the given bias, IEEE-like: the largest
// exponent is for infinities and NaN. `finite`: it has no infinities, and all ones is the NaN.
template <unsigned kExponent, unsigned kMantissa, int kBias, bool kFinite = false>
double small_float(std::uint32_t bits) {
  const std::uint32_t mantissa = bits & ((1u << kMantissa) - 1);
  const std::uint32_t exponent = (bits >> kMantissa) & ((1u << kExponent) - 1);
  const double sign = (bits >> (kExponent + kMantissa) & 1u) != 0 ? -1 : 1;
  const bool is_top = exponent == (1u << kExponent) - 1;
  if (is_top && !kFinite)
    return mantissa == 0 ? sign * std::numeric_limits<double>::infinity()
                         : std::numeric_limits<double>::quiet_NaN();
  if (is_top && mantissa == (1u << kMantissa) - 1) return std::numeric_limits<double>::quiet_NaN();
  const double fraction = mantissa / static_cast<double>(1u << kMantissa);
  return exponent == 0 ? sign * std::ldexp(fraction, 1 - kBias)
                       : sign * std::ldexp(1 + fraction, static_cast<int>(exponent) - kBias);
}

// Those of which zero has no sign: its place is the NaN's.
template <double (*kDecode)(std::uint32_t)>
double unsigned_zero(std::uint32_t bits) {
  return bits == 0x80 ? std::numeric_limits<double>::quiet_NaN() : kDecode(bits);
}

// Without NaN but at 0x80.
template <unsigned kExponent, unsigned kMantissa, int kBias>
double all_finite(std::uint32_t bits) {
  const std::uint32_t mantissa = bits & ((1u << kMantissa) - 1);
  const std::uint32_t exponent = (bits >> kMantissa) & ((1u << kExponent) - 1);
  const double sign = (bits & 0x80) != 0 ? -1 : 1;
  const double fraction = mantissa / static_cast<double>(1u << kMantissa);
  return exponent == 0 ? sign * std::ldexp(fraction, 1 - kBias)
                       : sign * std::ldexp(1 + fraction, static_cast<int>(exponent) - kBias);
}

template <typename Raw>
Raw raw_at(std::span<const std::byte> data, std::uint64_t index) {
  Raw raw{};
  std::memcpy(&raw, data.data() + index * sizeof(Raw), sizeof raw);
  return raw;
}

// Adds up what differs. `value(data, index)` gives an element as a number that text() can show.
template <typename Value>
std::optional<Difference> compare_numbers(std::span<const std::byte> server,
                                          std::span<const std::byte> local, std::uint64_t count,
                                          Tolerance tolerance, Value value) {
  std::optional<Difference> worst;
  std::uint64_t elements = 0;
  for (std::uint64_t i = 0; i < count; ++i) {
    const auto a = value(server, i), b = value(local, i);
    if (a == b) continue;
    const auto x = static_cast<double>(a), y = static_cast<double>(b);
    if (std::isnan(x) && std::isnan(y)) continue;
    const double by = std::abs(x - y);
    if (by <= tolerance.absolute + tolerance.relative * std::max(std::abs(x), std::abs(y)) &&
        tolerance.absolute > 0 && std::isfinite(x) && std::isfinite(y))
      continue;
    ++elements;
    const double size = std::isnan(by) ? std::numeric_limits<double>::infinity() : by;
    if (worst && size <= worst->by) continue;
    worst = Difference{
        .index = i, .server = fmt::format("{}", a), .local = fmt::format("{}", b), .by = size};
  }
  if (worst) worst->elements = elements;
  return worst;
}

template <typename Raw>
auto plain() {
  return [](std::span<const std::byte> data, std::uint64_t i) { return raw_at<Raw>(data, i); };
}

template <typename Raw, double (*kDecode)(std::uint32_t)>
auto decoded() {
  return [](std::span<const std::byte> data, std::uint64_t i) {
    return kDecode(raw_at<Raw>(data, i));
  };
}

double bfloat16(std::uint32_t bits) {
  return static_cast<double>(std::bit_cast<float>(bits << 16));
}

constexpr Tolerance kDouble{1e-6, 1e-9}, kFloat{1e-3, 1e-4}, kHalf{2e-2, 2e-2}, kEighth{0.25, 0.1};

std::optional<Difference> compare_strings(const KeptOutputs::Output& server,
                                          const KeptOutputs::Output& local) {
  std::optional<Difference> first;
  for (std::size_t i = 0; i < std::min(server.strings.size(), local.strings.size()); ++i) {
    if (server.strings[i] == local.strings[i]) continue;
    if (!first)
      first = Difference{.index = i,
                         .server = server.strings[i].substr(0, 200),
                         .local = local.strings[i].substr(0, 200)};
    ++first->elements;
  }
  return first;
}

std::optional<Difference> compare_values(const KeptOutputs::Output& server,
                                         const KeptOutputs::Output& local) {
  const std::span<const std::byte> a = server.data, b = local.data;
  if (server.header.type != ElementType::kString && (a.size() == b.size()) &&
      std::equal(a.begin(), a.end(), b.begin()))
    return std::nullopt;
  const std::uint64_t count = wire::element_count(server.header.dims).value_or(0);
  switch (server.header.type) {
    case ElementType::kString:
      return compare_strings(server, local);
    case ElementType::kFloat:
      return compare_numbers(a, b, count, kFloat, plain<float>());
    case ElementType::kDouble:
      return compare_numbers(a, b, count, kDouble, plain<double>());
    case ElementType::kComplex64:
      return compare_numbers(a, b, 2 * count, kFloat, plain<float>());
    case ElementType::kComplex128:
      return compare_numbers(a, b, 2 * count, kDouble, plain<double>());
    case ElementType::kFloat16:
      return compare_numbers(a, b, count, kHalf, decoded<std::uint16_t, small_float<5, 10, 15>>());
    case ElementType::kBfloat16:
      return compare_numbers(a, b, count, kHalf, decoded<std::uint16_t, bfloat16>());
    case ElementType::kFloat8E4M3FN:
      return compare_numbers(a, b, count, kEighth,
                             decoded<std::uint8_t, small_float<4, 3, 7, true>>());
    case ElementType::kFloat8E4M3FNUZ:
      return compare_numbers(a, b, count, kEighth,
                             decoded<std::uint8_t, unsigned_zero<all_finite<4, 3, 8>>>());
    case ElementType::kFloat8E5M2:
      return compare_numbers(a, b, count, kEighth, decoded<std::uint8_t, small_float<5, 2, 15>>());
    case ElementType::kFloat8E5M2FNUZ:
      return compare_numbers(a, b, count, kEighth,
                             decoded<std::uint8_t, unsigned_zero<all_finite<5, 2, 16>>>());
    case ElementType::kInt8:
      return compare_numbers(a, b, count, {}, plain<std::int8_t>());
    case ElementType::kInt16:
      return compare_numbers(a, b, count, {}, plain<std::int16_t>());
    case ElementType::kUint16:
      return compare_numbers(a, b, count, {}, plain<std::uint16_t>());
    case ElementType::kInt32:
      return compare_numbers(a, b, count, {}, plain<std::int32_t>());
    case ElementType::kUint32:
      return compare_numbers(a, b, count, {}, plain<std::uint32_t>());
    case ElementType::kInt64:
      return compare_numbers(a, b, count, {}, plain<std::int64_t>());
    case ElementType::kUint64:
      return compare_numbers(a, b, count, {}, plain<std::uint64_t>());
    default:  // bool, uint8, and 4-bit types, two in a byte
      return compare_numbers(a, b, a.size(), {}, plain<std::uint8_t>());
  }
}

std::string kind_of(const wire::TensorHeader& header) {
  return fmt::format("{} [{}]", wire::name_of(header.type), fmt::join(header.dims, ", "));
}

}  // namespace

std::optional<Difference> compare(std::span<const KeptOutputs::Output> server,
                                  std::span<const KeptOutputs::Output> local) {
  for (std::size_t i = 0; i < std::max(server.size(), local.size()); ++i) {
    if (i >= server.size() || i >= local.size())
      return Difference{.output = i,
                        .server = i < server.size() ? "an output" : "none",
                        .local = i < local.size() ? "an output" : "none"};
    std::optional<Difference> found;
    if (server[i].header.type != local[i].header.type ||
        server[i].header.dims != local[i].header.dims) {
      found = Difference{.server = kind_of(server[i].header), .local = kind_of(local[i].header)};
    } else {
      found = compare_values(server[i], local[i]);
    }
    if (!found) continue;
    found->output = i;
    return found;
  }
  return std::nullopt;
}

}  // namespace outboard::intercept
