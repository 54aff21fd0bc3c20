// SPDX-License-Identifier: Apache-2.0
// Shared memory by itself: what a peer may hand over and what not, and how large a region gets.
#include "wire/transport/shared_memory.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <array>
#include <filesystem>

#include "wire/messages.h"
#include "wire/shared_link.h"
#include "wire/transport/socket.h"

namespace outboard::wire {
namespace {

constexpr std::uint64_t kPage = 4096;

// A descriptor of one's own for what `region` shows to its peer.
FileDescriptor handed_over(const SharedRegion& region) {
  return FileDescriptor(::dup(region.descriptor()));
}

TEST(SharedMemory, WhatOneSideWritesTheOtherReadsInPlace) {
  auto region = SharedRegion::create(3 * kPage + 5);
  ASSERT_TRUE(region) << region.error().message;
  const auto peer = PeerRegion::map(handed_over(*region), region->size());
  ASSERT_TRUE(peer) << peer.error().message;
  region->close_descriptor();  // nobody needs it any more
  region->bytes().back() = std::byte{7};
  EXPECT_EQ(peer->bytes().size(), 3 * kPage + 5);
  EXPECT_EQ(peer->bytes().back(), std::byte{7});
  EXPECT_EQ(peer->bytes().front(), std::byte{0});
}

TEST(SharedMemory, NeitherSideCanChangeItsSizeOrTheReaderItsContent) {
  auto region = SharedRegion::create(kPage);
  ASSERT_TRUE(region);
  const FileDescriptor fd = handed_over(*region);
  EXPECT_EQ(::ftruncate(fd.get(), 0), -1);
  EXPECT_EQ(::ftruncate(fd.get(), 2 * kPage), -1);
  EXPECT_EQ(::mmap(nullptr, kPage, PROT_WRITE, MAP_SHARED, fd.get(), 0), MAP_FAILED);
  EXPECT_EQ(::write(fd.get(), "x", 1), -1);
  EXPECT_EQ(::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_WRITE), -1) << "the seals are sealed";
  const auto peer = PeerRegion::map(fd, kPage);
  ASSERT_TRUE(peer);
  EXPECT_EQ(::mprotect(const_cast<std::byte*>(peer->bytes().data()), kPage, PROT_WRITE), -1);
}

TEST(SharedMemory, OnlyASealedMemfdOfThatSizeIsTaken) {
  const auto refused = [](const FileDescriptor& fd, std::uint64_t size) {
    const auto mapped = PeerRegion::map(fd, size);
    return !mapped && mapped.error().kind == ErrorKind::kInvalid;
  };
  EXPECT_TRUE(refused(FileDescriptor(), kPage)) << "none";
  EXPECT_TRUE(refused(FileDescriptor(::open("/dev/zero", O_RDWR)), kPage));
  EXPECT_TRUE(refused(FileDescriptor(::open("/proc/self/exe", O_RDONLY)), kPage));
  std::array<int, 2> pipe{};
  ASSERT_EQ(::pipe(pipe.data()), 0);
  const FileDescriptor read_end(pipe[0]), write_end(pipe[1]);
  EXPECT_TRUE(refused(read_end, kPage));

  const FileDescriptor unsealed(::memfd_create("test", MFD_ALLOW_SEALING));
  ASSERT_EQ(::ftruncate(unsealed.get(), kPage), 0);
  EXPECT_TRUE(refused(unsealed, kPage)) << "it could shrink under its reader";
  const FileDescriptor huge(::memfd_create("test", MFD_ALLOW_SEALING | MFD_HUGETLB));
  if (huge) {
    ASSERT_EQ(::fcntl(huge.get(), F_ADD_SEALS, F_SEAL_SHRINK), 0);
    EXPECT_TRUE(refused(huge, kPage)) << "there may be no huge page when it is read";
  }

  ASSERT_EQ(::fcntl(unsealed.get(), F_ADD_SEALS, F_SEAL_SHRINK), 0);
  EXPECT_TRUE(refused(unsealed, 2 * kPage)) << "less than was announced";
  EXPECT_TRUE(refused(unsealed, 0));
  EXPECT_TRUE(refused(unsealed, limits::kSharedRegionBytes + 1));
  EXPECT_TRUE(PeerRegion::map(unsealed, kPage));
}

TEST(SharedMemory, AForkedChildHasNoneOfIt) {
  auto region = SharedRegion::create(kPage);
  ASSERT_TRUE(region);
  std::byte* const address = region->bytes().data();
  const pid_t child = ::fork();
  if (child == 0) {
    unsigned char there = 0;
    ::_exit(::mincore(address, kPage, &there) == 0 ? 1 : 0);  // ENOMEM: not mapped
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

// ---- how large -------------------------------------------------------------------------------

RC_GTEST_PROP(RegionSizes, AreEnoughAndNotWastefulForLong, ()) {
  RegionSizes sizes;
  std::uint64_t size = RegionSizes::kLeastBytes;
  const auto needs = *rc::gen::container<std::vector<std::uint64_t>>(
      rc::gen::inRange<std::uint64_t>(0, 64u << 20));
  for (const std::uint64_t needed : needs) {
    const std::uint64_t next = sizes.next(size, needed);
    RC_ASSERT(next >= needed);
    if (next > size) RC_ASSERT(next <= needed + needed / 8 + RegionSizes::kLeastBytes);
    size = next;
  }
  const std::uint64_t steady = *rc::gen::inRange<std::uint64_t>(0, 1u << 20);
  for (unsigned i = 0; i < 2 * RegionSizes::kWindowRuns; ++i) size = sizes.next(size, steady);
  RC_ASSERT(size >= steady);
  RC_ASSERT(size < RegionSizes::kWorthShrinkingBytes || size / 4 <= steady ||
            size <= 2 * RegionSizes::kLeastBytes);
}

TEST(RegionSizes, OneLargeRunIsForgottenAfterAWindow) {
  RegionSizes sizes;
  std::uint64_t size = sizes.next(0, 100u << 20);
  EXPECT_GE(size, 100u << 20);
  for (unsigned i = 0; i + 1 < RegionSizes::kWindowRuns; ++i)
    ASSERT_EQ(sizes.next(size, 1000), size);
  EXPECT_EQ(sizes.next(size, 1000), RegionSizes::kLeastBytes);
}

TEST(SharedBytes, RefusesWhatIsBeyondThem) {
  SharedBytes budget(100);
  EXPECT_TRUE(budget.take(60));
  EXPECT_FALSE(budget.take(41));
  EXPECT_TRUE(budget.take(40));
  budget.give_back(100);
  EXPECT_EQ(budget.used_bytes(), 0u);
}

// ---- two sides -------------------------------------------------------------------------------

struct Side {
  explicit Side(int fd, std::uint64_t limit = limits::kSharedRegionBytes)
      : budget(limit), connection(make_socket_stream(fd)), link(SharedLink::make(budget).value()) {}
  void introduce(Side& other) {
    const FileDescriptor fd(::dup(link->descriptor()));
    ASSERT_TRUE(other.link->take_first_region(fd, link->feature_data()));
    link->descriptor_sent();
  }
  SharedBudget budget;
  Connection connection;
  std::unique_ptr<SharedLink> link;
};

struct Sides {
  explicit Sides(std::uint64_t limit = limits::kSharedRegionBytes) {
    std::array<int, 2> fds{};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()), 0);
    a = std::make_unique<Side>(fds[0], limit);
    b = std::make_unique<Side>(fds[1]);
    a->introduce(*b);
    b->introduce(*a);
  }
  std::unique_ptr<Side> a, b;
};

TEST(SharedLink, RegionsGrowAndShrinkAndTheOtherSideFollows) {
  Sides sides;
  for (const std::uint64_t size : {100ull, 100'000ull, 30'000'000ull, 5ull}) {
    for (unsigned run = 0; run < RegionSizes::kWindowRuns + 1; ++run) {
      ASSERT_TRUE(sides.a->link->begin(sides.a->connection, SharedLink::room_for(size)));
      const auto place = sides.a->link->place(size);
      ASSERT_TRUE(place);
      place->bytes.back() = static_cast<std::byte>(run);
      ASSERT_TRUE(sides.a->connection.send({.kind = FrameKind::kPing}));
      for (;;) {
        const auto header = sides.b->connection.receive_header();
        ASSERT_TRUE(header);
        if (header->kind == FrameKind::kPing) break;
        ASSERT_TRUE(sides.b->link->receive_region(sides.b->connection, *header));
      }
      const auto view = sides.b->link->view(place->offset, size);
      ASSERT_TRUE(view);
      ASSERT_EQ(view->back(), static_cast<std::byte>(run));
    }
  }
  EXPECT_EQ(sides.a->budget.own.used_bytes(), RegionSizes::kLeastBytes) << "shrunk again";
  EXPECT_EQ(sides.b->budget.peers.used_bytes(), RegionSizes::kLeastBytes);
}

TEST(SharedLink, WithoutMemoryTensorsGoInTheFrame) {
  Sides sides(1u << 20);
  ASSERT_TRUE(sides.a->link->begin(sides.a->connection, 10u << 20));
  EXPECT_FALSE(sides.a->link->place(10u << 20));
  ASSERT_TRUE(sides.a->link->begin(sides.a->connection, 1000));
  EXPECT_TRUE(sides.a->link->place(1000)) << "there is some again";
}

TEST(SharedLink, OffsetsOfThePeerAreChecked) {
  Sides sides;
  const std::uint64_t size = RegionSizes::kLeastBytes;
  const SharedLink& link = *sides.b->link;
  EXPECT_TRUE(link.view(0, size));
  EXPECT_TRUE(link.view(size, 0));
  EXPECT_FALSE(link.view(0, size + 1));
  EXPECT_FALSE(link.view(64, size));
  EXPECT_FALSE(link.view(1, 1)) << "not aligned";
  EXPECT_FALSE(link.view(size + 64, 0));
  EXPECT_FALSE(link.view(~std::uint64_t{63}, 128)) << "offset and size wrap around";
  EXPECT_FALSE(link.view(0, ~std::uint64_t{0}));
}

TEST(SharedLink, ARegionNeedsItsDescriptor) {
  Sides sides;
  const auto received = [&] {
    const auto header = sides.b->connection.receive_header();
    EXPECT_TRUE(header);
    return sides.b->link->receive_region(sides.b->connection, *header);
  };
  ASSERT_TRUE(
      sides.a->connection.send({.kind = FrameKind::kSharedRegion}, encode_shared_region(1u << 20)));
  EXPECT_EQ(received().error().kind, ErrorKind::kInvalid);
  const auto small = SharedRegion::create(kPage).value();
  ASSERT_TRUE(sides.a->connection.send_with({.kind = FrameKind::kSharedRegion},
                                            encode_shared_region(1u << 20), small.descriptor()));
  EXPECT_EQ(received().error().kind, ErrorKind::kInvalid);
  ASSERT_TRUE(sides.a->connection.send({.kind = FrameKind::kSharedRegion}, "short"));
  EXPECT_EQ(received().error().kind, ErrorKind::kInvalid);
  EXPECT_FALSE(sides.b->link->view(0, 1)) << "what was there before is gone";
}

TEST(UnixStream, APeerThatFloodsItWithDescriptorsBreaksItsOwnConnection) {
  std::array<int, 2> fds{};
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()), 0);
  const auto open_descriptors = [] {
    return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {});
  };
  const auto before = open_descriptors();
  const auto a = make_socket_stream(fds[0]);
  {
    Connection b(make_socket_stream(fds[1]));
    for (int i = 0; i < 5; ++i) {
      std::byte zero{};
      iovec part{&zero, 1};
      ASSERT_TRUE(a->descriptors()->write_all_with(std::span(&part, 1), STDIN_FILENO));
    }
    const auto header = b.receive_header();
    ASSERT_FALSE(header);
    EXPECT_EQ(header.error().kind, ErrorKind::kInvalid) << header.error().message;
  }
  EXPECT_EQ(open_descriptors(), before - 1) << "all that came are closed, and the socket itself";
}

}  // namespace
}  // namespace outboard::wire
