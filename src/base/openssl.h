// SPDX-License-Identifier: Apache-2.0
// OpenSSL as we use it: linked statically, often inside somebody else's process that has another
// one of its own. So it reads no configuration of the host (OPENSSL_CONF may name modules for the
// other one), and frees nothing at exit, when threads of ours may still be at work.
// Thread-safe.
#pragma once

namespace outboard {

// Before the first use of OpenSSL; cheap when it was called before.
void prepare_openssl();

}  // namespace outboard
