// SPDX-License-Identifier: Apache-2.0
// What a server hands to a worker, which can open nothing itself: descriptors, over one socket of
// datagrams in order (SOCK_SEQPACKET). Everything else goes over the connections that are handed:
// each is the wire (docs/wire.md), the worker its server.
//
//   server                                   worker
//   hand(socket, {kConnection}, fd)     ->   serves it
//   hand(socket, {kModelFile, id, name}, fd) keeps the file, as a part of the model
//   hand(socket, {kModelToShow, id, name}, fd)    the same, of one that is not to be run: its
//                                            session has one output, the model as it is computed
//   hand(socket, {kForget, id}, -1)     ->   drops the model for sessions to come
//   hand(socket, {kMemory, id}, fd)     ->   maps it, to read and write (worker_memory.h)
//   hand(socket, {kForgetMemory, id}, -1)    unmaps it
//   hand(socket, {kPlaced, id, other}, -1)   the open session of the model `other`, its tensors in
//                                            such memory, is from now on that of this model
//
// The worker answers each with one byte, so that what was handed is there when hand() returns.
// Thread-safety: one thread at a time. Errors: kDisconnected: the other side is gone; kTimeout.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "base/sha256.h"
#include "wire/transport/file_descriptor.h"

namespace outboard::serve {

// Numbers are of one program's two halves, which are always of one build.
enum class Handed : std::uint8_t {
  kConnection = 1,
  kModelFile = 2,
  kForget = 3,
  kModelToShow = 4,
  kMemory = 5,
  kForgetMemory = 6,
  kPlaced = 7,
};

struct Handover {
  Handed what = Handed::kConnection;
  Sha256 model{};           // what SessionOpen names it by
  std::string file_name{};  // "model", or that of its external data
};

// A name that is a number, of a model or a memory; and the number.
Sha256 name_of(std::uint64_t number);
std::uint64_t number_of(const Sha256& name);

// Both ends, for a server to make before it starts a worker.
struct HandoverSockets {
  wire::FileDescriptor server, worker;
};
Result<HandoverSockets> make_handover_sockets();

// The server's side. Borrows the descriptor; -1: none.
Result<void> hand(int socket, const Handover& handover, int descriptor);

// The worker's side: waits. `descriptor` is what came with it.
Result<Handover> take_handover(int socket, wire::FileDescriptor& descriptor);
Result<void> answer_handover(int socket, bool taken);

}  // namespace outboard::serve
