// SPDX-License-Identifier: Apache-2.0
// A weak device's program: what needs neither an engine nor a model's graph.
#include "cli/verbs.h"

namespace outboard::cli {

std::span<const AddVerb> verbs() {
  static constexpr AddVerb kVerbs[] = {add_run,     add_status, add_login,
                                       add_servers, add_push,   add_version};
  return kVerbs;
}

}  // namespace outboard::cli
