// SPDX-License-Identifier: Apache-2.0
// Which coding is chosen, what is known of a link, and tensors that travel as their hash.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>

#include "base/cursor.h"
#include "wire/coded_link.h"
#include "wire/coding/choose.h"
#include "wire/coding/known.h"
#include "wire/coding/link_rate.h"
#include "wire/coding/speeds.h"

namespace outboard::wire {
namespace {

constexpr double kMbps = 1e6 / 8;

// Speeds and ratios of the order that was measured (docs/benchmarks.md).
CodecSpeeds usual_speeds() {
  return {{{0, 0}, {4e9, 1e10}, {9e8, 1.2e9}, {9e8, 3e9}, {5e8, 1.2e9}}};
}
TensorFacts openpose_input() {
  return {.size_bytes = 3 * 368 * 656 * 4,
          .chunk_bytes = 482'816,
          .ratio = {std::nullopt, 0.252, 0.143, 0.56, 0.48}};
}

TEST(ChooseCoding, SlowLinksTakeTheSmallestFastOnesTheQuickest) {
  const auto at = [](double mbps) {
    return choose_coding(mbps * kMbps, openpose_input(), usual_speeds());
  };
  EXPECT_EQ(at(1), Coding::kPaletteZstd);
  EXPECT_EQ(at(10), Coding::kPaletteZstd);
  EXPECT_EQ(at(1000), Coding::kPaletteZstd);
  EXPECT_EQ(at(10'000), Coding::kPalette);
  EXPECT_EQ(at(80'000), Coding::kRaw);  // loopback
}

TEST(ChooseCoding, NothingIsKnown) {
  EXPECT_EQ(choose_coding(INFINITY, openpose_input(), usual_speeds()), Coding::kRaw);
  EXPECT_EQ(choose_coding(0, openpose_input(), usual_speeds()), Coding::kRaw);
  EXPECT_EQ(choose_coding(NAN, openpose_input(), usual_speeds()), Coding::kRaw);
  TensorFacts unknown = openpose_input();
  unknown.ratio.fill(std::nullopt);
  EXPECT_EQ(choose_coding(kMbps, unknown, usual_speeds()), Coding::kRaw);
  EXPECT_EQ(choose_coding(kMbps, openpose_input(), CodecSpeeds{}), Coding::kRaw);
}

struct Case {
  double rate;
  TensorFacts tensor;
  CodecSpeeds speeds;
};

Case any_case() {
  const auto any = [](double low, double high) {  // evenly in the logarithm
    return low * std::pow(high / low, *rc::gen::inRange(0, 10'001) / 1e4);
  };
  Case c{.rate = any(1e4, 1e11), .tensor = {}, .speeds = {}};
  c.tensor.size_bytes = static_cast<std::uint64_t>(any(1, 1e9));
  c.tensor.chunk_bytes = static_cast<std::size_t>(any(1e3, 1e6));
  for (std::size_t i = 1; i < kCodings; ++i) {
    if (*rc::gen::inRange(0, 4) > 0) c.tensor.ratio[i] = any(0.001, 1.2);
    c.speeds[i] = {any(1e6, 1e10), any(1e6, 1e11)};
  }
  return c;
}

RC_GTEST_PROP(ChooseCoding, NeverSlowerThanTheBytesAsTheyAre, ()) {
  const Case c = any_case();
  const Coding chosen = choose_coding(c.rate, c.tensor, c.speeds);
  if (chosen == Coding::kRaw) return;
  const auto& speed = c.speeds[static_cast<std::size_t>(chosen)];
  const double raw = static_cast<double>(c.tensor.size_bytes) / c.rate;
  const double time = transfer_time_s(chosen, c.rate, c.tensor, speed);
  RC_ASSERT(time <= raw * (1 - kLeastGain));
  // What bounds any schedule: each stage by itself, and the bytes on the link.
  const auto size = static_cast<double>(c.tensor.size_bytes);
  RC_ASSERT(size / speed.encode_bytes_per_s < raw);
  RC_ASSERT(size / speed.decode_bytes_per_s < raw);
  RC_ASSERT(*c.tensor.ratio[static_cast<std::size_t>(chosen)] < 1);
}

RC_GTEST_PROP(ChooseCoding, NoOtherIsSooner, ()) {
  const Case c = any_case();
  const auto chosen = static_cast<std::size_t>(choose_coding(c.rate, c.tensor, c.speeds));
  const double time =
      transfer_time_s(static_cast<Coding>(chosen), c.rate, c.tensor, c.speeds[chosen]);
  for (std::size_t i = 1; chosen != 0 && i < kCodings; ++i)
    RC_ASSERT(transfer_time_s(static_cast<Coding>(i), c.rate, c.tensor, c.speeds[i]) >= time);
}

RC_GTEST_PROP(ChooseCoding, ASlowerLinkIsNeverGivenMoreBytes, ()) {
  const Case c = any_case();
  const auto bytes_at = [&](double rate) {
    const Coding coding = choose_coding(rate, c.tensor, c.speeds);
    return coding == Coding::kRaw ? 1.0 : *c.tensor.ratio[static_cast<std::size_t>(coding)];
  };
  RC_ASSERT(bytes_at(c.rate / 4) <= bytes_at(c.rate));
}

RC_GTEST_PROP(ChooseCoding, WhatIsChosenWasWorthTrying, ()) {
  const Case c = any_case();
  const Coding chosen = choose_coding(c.rate, c.tensor, c.speeds);
  if (chosen == Coding::kRaw) return;
  RC_ASSERT(worth_trying(chosen, *c.tensor.ratio[static_cast<std::size_t>(chosen)], c.rate,
                         c.tensor, c.speeds));
}

TEST(CodingMode, Names) {
  for (std::uint8_t i = 0; i < kCodingModes; ++i) {
    const auto mode = static_cast<CodingMode>(i);
    EXPECT_EQ(parse_coding_mode(name_of(mode)).value(), mode);
  }
  EXPECT_EQ(parse_coding_mode("gzip").error().message,
            "coding (gzip) must be auto, off, palette, lz4 or zstd");
}

TEST(LinkRate, FollowsWhatWasMeasured) {
  LinkRate link;
  link.add(1000, 1);  // says nothing
  EXPECT_FALSE(link.bytes_per_s());
  link.add(1'000'000, 80'000'000);
  EXPECT_DOUBLE_EQ(*link.bytes_per_s(), 12.5e6);
  for (int i = 0; i < 6; ++i) link.add(1'000'000, 800'000'000);
  EXPECT_LT(*link.bytes_per_s(), 1.5e6);
  for (int i = 0; i < 20; ++i) link.add(1'000'000, 8'000'000);
  EXPECT_GT(*link.bytes_per_s(), 1e8);
}

TEST(LinkRate, ATransferThatSomethingElseHeldUpIsOnlyABound) {
  LinkRate link;
  link.add(1'000'000, 8'000'000);
  link.add(1'000'000, 900'000'000, /*is_lower_bound=*/true);
  EXPECT_DOUBLE_EQ(*link.bytes_per_s(), 125e6);
  link.add(1'000'000, 4'000'000, true);
  EXPECT_GT(*link.bytes_per_s(), 125e6);
}

TEST(LinkRates, AnAddressWithinThisMachineIsATunnelAfterEightSlowTransfers) {
  LinkRates near(INFINITY), far(125e6);
  EXPECT_DOUBLE_EQ(far.up_bytes_per_s(), 125e6);
  for (int i = 0; i < 8; ++i) {
    EXPECT_TRUE(std::isinf(near.up_bytes_per_s())) << i;
    near.sent(1'000'000, 80'000'000, false);
    far.sent(1'000'000, 80'000'000, false);
    EXPECT_DOUBLE_EQ(far.down_bytes_per_s(), 12.5e6);
  }
  EXPECT_DOUBLE_EQ(near.up_bytes_per_s(), 12.5e6);
  EXPECT_DOUBLE_EQ(near.down_bytes_per_s(), 12.5e6);
  near.sent(1'000'000, 100'000, false);  // one that nothing held up
  EXPECT_TRUE(std::isinf(near.up_bytes_per_s()));
}

TEST(LinkRates, LooksAgainAfterManyLowerBounds) {
  LinkRates rates(125e6);
  for (int i = 0; i < 63; ++i) rates.sent(1'000'000, 8'000'000, true);
  EXPECT_FALSE(rates.should_explore());
  rates.sent(1'000'000, 8'000'000, true);
  EXPECT_TRUE(rates.should_explore());
  EXPECT_FALSE(rates.should_explore());
}

TEST(SpeedMeter, MeasuresAndTells) {
  SpeedMeter meter;
  const CodecSpeeds speeds = meter.speeds();
  const CodingOffer offer = make_offer(meter);
  EXPECT_EQ(decode_coding_offer(as_byte_span(encode(offer))).value(), offer);
  const CodecSpeeds both = together(speeds, offer);
  for (std::size_t i = 1; i < kCodings; ++i) {
    EXPECT_GT(speeds[i].encode_bytes_per_s, 1e5) << i;
    EXPECT_DOUBLE_EQ(both[i].decode_bytes_per_s, offer.decode_mb_per_s[i] * 1e6);
  }
  EXPECT_GT(meter.hash_bytes_per_s(), 1e5);
  // A peer that decodes no zstd is sent none.
  const CodecSpeeds lz4 = together(speeds, {.compressors = 3, .decode_mb_per_s = {0, 1, 1, 1, 1}});
  EXPECT_GT(lz4[static_cast<std::size_t>(Coding::kLz4)].encode_bytes_per_s, 0);
  EXPECT_EQ(lz4[static_cast<std::size_t>(Coding::kZstd)].encode_bytes_per_s, 0);
  EXPECT_EQ(lz4[static_cast<std::size_t>(Coding::kPaletteZstd)].encode_bytes_per_s, 0);
  EXPECT_FALSE(decode_coding_offer(as_byte_span("short")));
}

std::vector<std::byte> filled(std::size_t size, unsigned seed) {
  std::vector<std::byte> bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * seed + i / 251);
  return bytes;
}

TEST(Known, SecondTimeKeptThirdTimeReferred) {
  KnownMirror mirror(1 << 20);
  const auto tensor = filled(5000, 3);
  const auto print = fingerprint(tensor);
  EXPECT_FALSE(mirror.seen(1, print));
  EXPECT_TRUE(mirror.seen(1, print));
  EXPECT_EQ(mirror.decide(1, sha256(tensor), tensor.size()), KnownMirror::Decision::kKeep);
  EXPECT_EQ(mirror.decide(1, sha256(tensor), tensor.size()), KnownMirror::Decision::kRefer);
  mirror.forget(sha256(tensor));
  EXPECT_EQ(mirror.decide(1, sha256(tensor), tensor.size()), KnownMirror::Decision::kKeep);
}

TEST(Known, AlikeButNeverEqualIsGivenUpForAWhile) {
  KnownMirror mirror(1 << 20);
  EXPECT_FALSE(mirror.seen(1, 42));
  unsigned kept = 0;
  for (unsigned i = 0; i < 40; ++i) {
    if (!mirror.seen(1, 42)) continue;
    const auto decision = mirror.decide(1, sha256(filled(100, i)), 100);
    kept += decision == KnownMirror::Decision::kKeep ? 1 : 0;
  }
  EXPECT_LE(kept, 4u);
}

TEST(Known, FingerprintsOfEqualTensorsAreEqual) {
  for (const std::size_t size : {0, 1, 7, 8, 9, 1000, 100'000}) {
    EXPECT_EQ(fingerprint(filled(size, 5)), fingerprint(filled(size, 5)));
    if (size > 8) {
      EXPECT_NE(fingerprint(filled(size, 5)), fingerprint(filled(size, 7)));
    }
  }
}

TEST(Known, MirrorAndServerForgetWhatIsBeyondTheirLimit) {
  std::atomic<std::uint64_t> total{0};
  KnownTensors tensors(10'000, total, 1 << 20);
  KnownMirror mirror(10'000);
  std::vector<Sha256> hashes;
  for (unsigned i = 1; i <= 5; ++i) {
    const auto tensor = filled(4000, i);
    hashes.push_back(sha256(tensor));
    tensors.keep(tensor);
    (void)mirror.decide(i, hashes.back(), tensor.size());
  }
  EXPECT_EQ(tensors.used_bytes(), 8000u);
  EXPECT_EQ(total, 8000u);
  EXPECT_EQ(tensors.find(hashes[2], 4000), nullptr);
  EXPECT_EQ(tensors.find(hashes[4], 3999), nullptr);  // of another size
  ASSERT_NE(tensors.find(hashes[4], 4000), nullptr);
  EXPECT_EQ(*tensors.find(hashes[3], 4000), filled(4000, 4));
  EXPECT_EQ(mirror.decide(9, hashes[4], 4000), KnownMirror::Decision::kRefer);
  EXPECT_EQ(mirror.decide(9, hashes[2], 4000), KnownMirror::Decision::kKeep);
}

TEST(Known, ConnectionsShareALimitAndGiveItBack) {
  std::atomic<std::uint64_t> total{0};
  KnownTensors one(10'000, total, 12'000);
  {
    KnownTensors two(10'000, total, 12'000);
    for (unsigned i = 1; i <= 2; ++i) two.keep(filled(4000, i));
    one.keep(filled(3000, 9));
    one.keep(filled(3000, 8));  // takes the place of its own, not of the other's
    EXPECT_EQ(one.used_bytes(), 3000u);
    EXPECT_EQ(two.used_bytes(), 8000u);
    one.keep(filled(11'000, 7));  // never fits
    EXPECT_EQ(one.used_bytes(), 3000u);
  }
  EXPECT_EQ(total, 3000u);
}

}  // namespace
}  // namespace outboard::wire
