// SPDX-License-Identifier: Apache-2.0
#include "base/openssl.h"

#include <openssl/crypto.h>

#include "base/check.h"

namespace outboard {

void prepare_openssl() {
  constexpr auto kOptions = OPENSSL_INIT_NO_ATEXIT | OPENSSL_INIT_NO_LOAD_CONFIG;
  OB_CHECK(OPENSSL_init_crypto(kOptions, nullptr) == 1);
}

}  // namespace outboard
