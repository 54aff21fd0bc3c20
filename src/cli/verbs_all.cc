// SPDX-License-Identifier: Apache-2.0
#include "cli/verbs.h"

namespace outboard::cli {

std::span<const AddVerb> verbs() {
  static constexpr AddVerb kVerbs[] = {
      add_run,   add_serve, add_status,  add_top,    add_token,   add_login,  add_servers,
      add_split, add_push,  add_profile, add_manage, add_version, add_worker,
  };
  return kVerbs;
}

}  // namespace outboard::cli
