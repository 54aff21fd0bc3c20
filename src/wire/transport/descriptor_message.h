// SPDX-License-Identifier: Apache-2.0
// Descriptors beside the bytes of a unix socket's message (SCM_RIGHTS). Not thread-safe.
#pragma once

#include <sys/socket.h>

#include <array>
#include <cstddef>
#include <cstring>

#include "wire/transport/file_descriptor.h"

namespace outboard::wire {

// Room for the ancillary data of up to `kMost` descriptors; must outlive the call it is for.
template <std::size_t kMost>
class DescriptorRoom {
 public:
  // The message takes `descriptor` with its first byte. Borrows it.
  void put(msghdr& message, int descriptor) {
    bytes_ = {};
    receive_into(message);
    message.msg_controllen = CMSG_SPACE(sizeof descriptor);
    cmsghdr* const head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof descriptor);
    std::memcpy(CMSG_DATA(head), &descriptor, sizeof descriptor);
  }
  void receive_into(msghdr& message) {
    message.msg_control = bytes_.data();
    message.msg_controllen = bytes_.size();
  }

 private:
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kMost * sizeof(int))> bytes_;
};

// Each descriptor that came with a message, in order, to `take(FileDescriptor)`.
template <typename Take>
void take_descriptors(msghdr& message, const Take& take) {
  for (cmsghdr* head = CMSG_FIRSTHDR(&message); head != nullptr;
       head = CMSG_NXTHDR(&message, head)) {
    if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS) continue;
    for (std::size_t at = CMSG_LEN(0); at + sizeof(int) <= head->cmsg_len; at += sizeof(int)) {
      int received = -1;
      std::memcpy(&received, reinterpret_cast<const char*>(head) + at, sizeof received);
      take(FileDescriptor(received));
    }
  }
}

}  // namespace outboard::wire
