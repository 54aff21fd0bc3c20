// SPDX-License-Identifier: Apache-2.0
// What rings have beyond a stream (transport_test.cc): wake-ups that are never lost, descriptors in
// step with the bytes, and a peer that writes nonsense where it counts.
#include "wire/transport/ring_stream.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <numeric>
#include <random>
#include <thread>

#include "wire/transport/socket.h"

namespace outboard::wire {
namespace {

std::array<std::unique_ptr<Stream>, 2> sockets() {
  std::array<int, 2> fds{};
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()), 0);
  return {make_socket_stream(fds[0]), make_socket_stream(fds[1])};
}

std::array<std::unique_ptr<Stream>, 2> ends() {
  auto below = sockets();
  auto a = make_ring_region().value(), b = make_ring_region().value();
  PeerRegion for_a = map_ring_region(FileDescriptor(::dup(b.descriptor()))).value(),
             for_b = map_ring_region(FileDescriptor(::dup(a.descriptor()))).value();
  return {make_ring_stream(std::move(below[0]), std::move(a), std::move(for_a)),
          make_ring_stream(std::move(below[1]), std::move(b), std::move(for_b))};
}

Result<void> write(Stream& stream, std::span<const std::byte> bytes) {
  iovec part{const_cast<std::byte*>(bytes.data()), bytes.size()};
  return stream.write_all(std::span(&part, 1));
}

// Reads as a connection does: it looks for a while, or sleeps at once.
void read_exactly(Stream& stream, std::span<std::byte> space, unsigned looks) {
  while (!space.empty()) {
    const iovec part{space.data(), space.size()};
    auto n = Result<std::size_t>(std::size_t{0});
    for (unsigned i = 0; i < looks && n && *n == 0; ++i)
      n = stream.read_what_is_there(std::span(&part, 1));
    if (n && *n == 0) n = stream.read_some(std::span(&part, 1));
    ASSERT_TRUE(n) << n.error().message;
    space = space.subspan(*n);
  }
}

// A wake-up that got lost would be a reader that sleeps for ever: the stall timeout says so.
TEST(RingStream, NoWakeUpIsLost) {
  constexpr int kMessages = 20'000;
  auto [a, b] = ends();
  a->set_stall_timeout(std::chrono::seconds(60));
  b->set_stall_timeout(std::chrono::seconds(60));
  const auto play = [](Stream& stream, bool begins, unsigned seed) {
    std::mt19937 random(seed);
    std::mt19937 sizes(7);  // the same on both sides
    std::vector<std::byte> bytes(3000), got(3000);
    for (int i = 0; i < kMessages; ++i) {
      const std::size_t size = 1 + sizes() % bytes.size();
      std::memset(bytes.data(), i, size);
      if (begins) {
        ASSERT_TRUE(write(stream, std::span(bytes).first(size)));
      }
      read_exactly(stream, std::span(got).first(size), random() % 3 * (random() % 200));
      ASSERT_EQ(std::memcmp(got.data(), bytes.data(), size), 0) << i;
      if (!begins) {
        ASSERT_TRUE(write(stream, std::span(bytes).first(size)));
      }
    }
  };
  std::thread other([&, stream = b.get()] { play(*stream, false, 1); });
  play(*a, true, 2);
  other.join();
}

TEST(RingStream, ADescriptorIsThereWithItsBytes) {
  auto [a, b] = ends();
  for (int i = 0; i < 10; ++i) {
    std::array<int, 2> pipe{};
    ASSERT_EQ(::pipe2(pipe.data(), O_CLOEXEC), 0);
    const FileDescriptor in(pipe[0]), out(pipe[1]);
    std::byte mark{1}, got{};
    iovec part{&mark, 1};
    ASSERT_TRUE(a->descriptors()->write_all_with(std::span(&part, 1), out.get()));
    read_exactly(*b, std::span(&got, 1), i % 2 == 0 ? 10 : 0);
    const FileDescriptor came = b->descriptors()->take_descriptor();
    ASSERT_GE(came.get(), 0);
    ASSERT_EQ(::write(came.get(), "x", 1), 1);
    char read = 0;
    EXPECT_EQ(::read(in.get(), &read, 1), 1);
  }
  EXPECT_LT(b->descriptors()->take_descriptor().get(), 0);
}

TEST(RingStream, WhatCameBeforeTheEndIsRead) {
  auto [a, b] = ends();
  const std::array<std::byte, 3> sent{};
  ASSERT_TRUE(write(*a, sent));
  a.reset();
  std::array<std::byte, 3> got{};
  read_exactly(*b, got, 0);
  const iovec part{got.data(), got.size()};
  EXPECT_EQ(b->read_some(std::span(&part, 1)).error().kind, ErrorKind::kDisconnected);
}

// A peer that reads nothing: a writer does not wait for longer than its stall timeout, whoever set
// it, nor for a peer that has gone, though wake-ups lie unread in the socket.
TEST(RingStream, APeerThatDoesNotReadHoldsNobodyForEver) {
  const std::vector<std::byte> much(200'000);
  {
    auto below = sockets();
    below[0]->set_stall_timeout(std::chrono::milliseconds(20));
    auto a = make_ring_region().value(), b = make_ring_region().value();
    PeerRegion for_a = map_ring_region(FileDescriptor(::dup(b.descriptor()))).value();
    const auto stream = make_ring_stream(std::move(below[0]), std::move(a), std::move(for_a));
    EXPECT_TRUE(stream->takes_at_once(64u << 10));
    EXPECT_EQ(write(*stream, much).error().kind, ErrorKind::kTimeout);
    EXPECT_FALSE(stream->takes_at_once(1));
  }
  auto below = sockets();
  auto a = make_ring_region().value(), b = make_ring_region().value();
  PeerRegion for_a = map_ring_region(FileDescriptor(::dup(b.descriptor()))).value();
  ASSERT_TRUE(write(*below[1], std::span(much).first(1)));
  const auto stream = make_ring_stream(std::move(below[0]), std::move(a), std::move(for_a));
  std::thread leaving([&] { below[1].reset(); });
  EXPECT_EQ(write(*stream, much).error().kind, ErrorKind::kDisconnected);
  leaving.join();
  std::byte byte{};
  EXPECT_EQ(stream->peek(std::span(&byte, 1)).error().kind, ErrorKind::kDisconnected);
}

// A reader that says it sleeps, and never takes a doorbell: the writer goes on.
TEST(RingStream, DoorbellsThatNobodyTakesHoldNobodyUp) {
  auto below = sockets();
  auto own = make_ring_region().value();
  SharedRegion hostile = make_ring_region().value();
  PeerRegion peer = map_ring_region(FileDescriptor(::dup(hostile.descriptor()))).value();
  const auto stream = make_ring_stream(std::move(below[0]), std::move(own), std::move(peer));
  const std::uint32_t sleeps = 1;
  std::memcpy(hostile.bytes().data() + 128, &sleeps, sizeof sleeps);
  const std::byte byte{1};
  for (std::uint64_t i = 1; i < 20'000; ++i) {
    ASSERT_TRUE(write(*stream, std::span(&byte, 1))) << i;
    std::memcpy(hostile.bytes().data() + 64, &i, sizeof i);  // it has read that
  }
}

// A peer that counts more than there can be, in either direction.
TEST(RingStream, ImpossibleCountersEndTheStream) {
  for (const std::size_t word : {0u, 64u}) {
    auto below = sockets();
    auto own = make_ring_region().value();
    SharedRegion hostile = make_ring_region().value();
    PeerRegion peer = map_ring_region(FileDescriptor(::dup(hostile.descriptor()))).value();
    const auto stream = make_ring_stream(std::move(below[0]), std::move(own), std::move(peer));
    const std::uint64_t count = (64u << 10) + 1;
    std::memcpy(hostile.bytes().data() + word, &count, sizeof count);
    std::byte byte{};
    const iovec part{&byte, 1};
    const auto failed = word == 0 ? stream->read_some(std::span(&part, 1))
                                  : write(*stream, std::span(&byte, 1)).map([] { return 0ul; });
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().kind, ErrorKind::kInvalid);
  }
}

TEST(RingStream, ARegionMustBeLargeEnough) {
  const SharedRegion small = SharedRegion::create(4096).value();
  EXPECT_FALSE(map_ring_region(FileDescriptor(::dup(small.descriptor()))));
  EXPECT_FALSE(map_ring_region(FileDescriptor()));
}

}  // namespace
}  // namespace outboard::wire
