// SPDX-License-Identifier: Apache-2.0
// What this user's tokens make of servers nearby. Sentences about single servers go to standard
// error. Errors: those of the configuration folder; kNotFound without Avahi.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "cli/near.h"

namespace outboard::cli {

// The known servers with what their access files hold; a file that cannot be read is told of and
// left out.
Result<std::vector<Held>> held_servers();

// For OUTBOARD_SERVERS: the servers nearby for which a token is held, at the addresses at which
// they were heard, by name. kNotFound when there is none.
Result<std::string> near_server_list();

}  // namespace outboard::cli
