// SPDX-License-Identifier: Apache-2.0
// A Stream over a connected socket, TCP and unix alike. Takes the descriptor over.
#pragma once

#include <memory>

#include "wire/transport/stream.h"

namespace outboard::wire {

std::unique_ptr<Stream> make_socket_stream(int fd);

}  // namespace outboard::wire
