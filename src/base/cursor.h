// SPDX-License-Identifier: Apache-2.0
// The one door through which bytes of a peer or a file are read, and its mirror for writing.
// Little-endian, bounds-checked. Lifetime: a reader borrows its bytes. Not thread-safe.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

namespace outboard {

static_assert(std::endian::native == std::endian::little,
              "the wire is little-endian, read in place");

// Reads in order; after the first read beyond the end every further read yields zero and ok() is
// false, so a decoder checks once at its end (and before it uses a value as a size).
class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  bool ok() const { return ok_; }
  std::size_t remaining() const { return bytes_.size(); }

  template <typename T>
    requires std::is_integral_v<T>
  T read() {
    T value{};
    if (const auto part = take(sizeof(T)); ok_) std::memcpy(&value, part.data(), sizeof(T));
    return value;
  }
  // An empty span when fewer bytes are left.
  std::span<const std::byte> take(std::size_t count) {
    if (count > bytes_.size()) {
      ok_ = false;
      bytes_ = {};
      return {};
    }
    const auto part = bytes_.first(count);
    bytes_ = bytes_.subspan(count);
    return part;
  }

 private:
  std::span<const std::byte> bytes_;
  bool ok_ = true;
};

// Appends to a byte string.
class ByteWriter {
 public:
  template <typename T>
    requires std::is_integral_v<T>
  void write(T value) {
    append(std::as_bytes(std::span(&value, 1)));
  }
  void append(std::span<const std::byte> bytes) {
    bytes_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  void zeros(std::size_t count) { bytes_.append(count, '\0'); }
  template <typename T>
  void overwrite(std::size_t offset, T value) {
    std::memcpy(bytes_.data() + offset, &value, sizeof(T));
  }
  std::size_t size() const { return bytes_.size(); }
  std::span<const std::byte> bytes() const {
    return {reinterpret_cast<const std::byte*>(bytes_.data()), bytes_.size()};
  }
  void clear() { bytes_.clear(); }

 private:
  std::string bytes_;
};

inline std::span<const std::byte> as_byte_span(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

}  // namespace outboard
