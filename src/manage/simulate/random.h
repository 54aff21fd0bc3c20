// SPDX-License-Identifier: Apache-2.0
// Random numbers for simulations: xoshiro256++ (Blackman & Vigna, 2019), seeded by splitmix64.
// The same seed gives the same sequence everywhere. Not for secrets. Thread-safety: one thread.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace outboard::manage {

class Random {
 public:
  explicit Random(std::uint64_t seed) {
    for (std::uint64_t& word : state_) {
      seed += 0x9e3779b97f4a7c15U;
      std::uint64_t z = seed;
      z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
      z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
      word = z ^ (z >> 31);
    }
  }
  std::uint64_t bits() {
    const std::uint64_t result = std::rotl(state_[0] + state_[3], 23) + state_[0];
    const std::uint64_t shifted = state_[1] << 17;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= shifted;
    state_[3] = std::rotl(state_[3], 45);
    return result;
  }
  // In [0, 1), 53 bits.
  double uniform() { return static_cast<double>(bits() >> 11) * 0x1.0p-53; }
  // Of mean 1; never infinite.
  double exponential() { return -std::log1p(-uniform()); }

 private:
  std::uint64_t state_[4];
};

}  // namespace outboard::manage
