// SPDX-License-Identifier: Apache-2.0
// SHA-256 by OpenSSL. A hasher belongs to one thread at a time.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace outboard {

struct Sha256 {
  std::array<std::byte, 32> bytes{};
  auto operator<=>(const Sha256&) const = default;
  std::string hex() const;                                       // 64 lower-case digits
  static std::optional<Sha256> from_hex(std::string_view text);  // nullopt: not 64 hex digits
};

class Sha256Hasher {
 public:
  Sha256Hasher();
  ~Sha256Hasher();
  Sha256Hasher(Sha256Hasher&&) noexcept;
  Sha256Hasher& operator=(Sha256Hasher&&) noexcept;
  void update(std::span<const std::byte> bytes);
  Sha256 finish();  // once

 private:
  struct State;
  std::unique_ptr<State> state_;
};

Sha256 sha256(std::span<const std::byte> bytes);

struct Sha256Hash {  // for unordered containers
  std::size_t operator()(const Sha256& value) const;
};

}  // namespace outboard
