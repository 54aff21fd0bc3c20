// SPDX-License-Identifier: Apache-2.0
// Where in the memory of a frame each buffer is. Two buffers may share memory when everything that
// touches the one has happened before anything is written into the other, on every run of the
// program, whoever is late. So a frame's rows stay within what the caches hold, as they do in a
// whole model, instead of passing through memory that was last touched a frame ago. Pure.
#pragma once

#include "split/exec/steps.h"

namespace outboard::split::exec {

// Sets the offsets of the buffers, each a multiple of 64, and frame_bytes.
void place_buffers(Steps& steps, const Layout& layout);

}  // namespace outboard::split::exec
