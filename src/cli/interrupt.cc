// SPDX-License-Identifier: Apache-2.0
#include "cli/interrupt.h"

namespace outboard::cli {
namespace {

std::atomic<bool> g_requested{false};  // a signal handler has nothing else to write to
static_assert(std::atomic<bool>::is_always_lock_free);

void request(int) { g_requested = true; }

}  // namespace

Interrupt::Interrupt() {
  g_requested = false;
  struct sigaction action{};
  action.sa_handler = request;
  action.sa_flags = static_cast<int>(SA_RESETHAND) | SA_RESTART;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, &old_int_);
  sigaction(SIGTERM, &action, &old_term_);
}

Interrupt::~Interrupt() {
  sigaction(SIGINT, &old_int_, nullptr);
  sigaction(SIGTERM, &old_term_, nullptr);
}

const std::atomic<bool>& Interrupt::requested() const { return g_requested; }

}  // namespace outboard::cli
