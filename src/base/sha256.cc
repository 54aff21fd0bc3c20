// SPDX-License-Identifier: Apache-2.0
#include "base/sha256.h"

#include <openssl/evp.h>

#include <cstring>

#include "base/check.h"
#include "base/openssl.h"

namespace outboard {
namespace {
constexpr std::string_view kDigits = "0123456789abcdef";
}

std::string Sha256::hex() const {
  std::string text;
  text.reserve(64);
  for (const std::byte b : bytes) {
    text.push_back(kDigits[std::to_integer<unsigned>(b) >> 4]);
    text.push_back(kDigits[std::to_integer<unsigned>(b) & 15]);
  }
  return text;
}

std::optional<Sha256> Sha256::from_hex(std::string_view text) {
  Sha256 value;
  if (text.size() != 64) return std::nullopt;
  for (std::size_t i = 0; i < 32; ++i) {
    const auto high = kDigits.find(text[2 * i]), low = kDigits.find(text[2 * i + 1]);
    if (high == std::string_view::npos || low == std::string_view::npos) return std::nullopt;
    value.bytes[i] = static_cast<std::byte>(high << 4 | low);
  }
  return value;
}

struct Sha256Hasher::State {
  EVP_MD_CTX* context = nullptr;
  State() {
    prepare_openssl();
    context = EVP_MD_CTX_new();
    OB_CHECK(context != nullptr && EVP_DigestInit_ex(context, EVP_sha256(), nullptr) == 1);
  }
  ~State() { EVP_MD_CTX_free(context); }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
};

Sha256Hasher::Sha256Hasher() : state_(std::make_unique<State>()) {}
Sha256Hasher::~Sha256Hasher() = default;
Sha256Hasher::Sha256Hasher(Sha256Hasher&&) noexcept = default;
Sha256Hasher& Sha256Hasher::operator=(Sha256Hasher&&) noexcept = default;

void Sha256Hasher::update(std::span<const std::byte> bytes) {
  OB_CHECK(EVP_DigestUpdate(state_->context, bytes.data(), bytes.size()) == 1);
}

Sha256 Sha256Hasher::finish() {
  Sha256 value;
  unsigned size = 0;
  OB_CHECK(EVP_DigestFinal_ex(state_->context, reinterpret_cast<unsigned char*>(value.bytes.data()),
                              &size) == 1 &&
           size == 32);
  return value;
}

Sha256 sha256(std::span<const std::byte> bytes) {
  Sha256Hasher hasher;
  hasher.update(bytes);
  return hasher.finish();
}

std::size_t Sha256Hash::operator()(const Sha256& value) const {
  std::size_t hash;
  std::memcpy(&hash, value.bytes.data(), sizeof hash);
  return hash;
}

}  // namespace outboard
