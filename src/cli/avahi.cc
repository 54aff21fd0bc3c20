// SPDX-License-Identifier: Apache-2.0
#include "cli/avahi.h"

#include <dlfcn.h>

namespace outboard::cli {
namespace {

Result<Avahi> find_functions() {
  // Never closed: its threads and thread-local data may outlive whoever asked for it.
  void* common = ::dlopen("libavahi-common.so.3", RTLD_NOW | RTLD_LOCAL);
  void* client = common == nullptr ? nullptr : ::dlopen("libavahi-client.so.3", RTLD_NOW);
  if (client == nullptr) {
    const char* reason = ::dlerror();
    return error(ErrorKind::kNotFound,
                 "Avahi's library is not here ({}); the package is libavahi-client3 or avahi-libs",
                 reason == nullptr ? "unknown" : reason);
  }
  Avahi avahi;
  const char* missing = nullptr;
  const auto find = [&]<typename Function>(void* library, const char* name, Function& function) {
    function = reinterpret_cast<Function>(::dlsym(library, name));
    if (function == nullptr) missing = name;
  };
#define OUTBOARD_FIND_CLIENT(name) find(client, "avahi_" #name, avahi.name);
#define OUTBOARD_FIND_COMMON(name) find(common, "avahi_" #name, avahi.name);
  OUTBOARD_AVAHI_CLIENT(OUTBOARD_FIND_CLIENT)
  OUTBOARD_AVAHI_COMMON(OUTBOARD_FIND_COMMON)
#undef OUTBOARD_FIND_CLIENT
#undef OUTBOARD_FIND_COMMON
  if (missing != nullptr)
    return error(ErrorKind::kNotFound, "Avahi's library has no function ({})", missing);
  return avahi;
}

}  // namespace

Result<const Avahi*> load_avahi() {
  static const Result<Avahi> functions = find_functions();
  if (!functions) return tl::make_unexpected(functions.error());
  return &*functions;
}

tl::unexpected<Error> avahi_error(const Avahi& avahi, int code) {
  if (code == AVAHI_ERR_NO_DAEMON || code == AVAHI_ERR_DISCONNECTED || code == AVAHI_ERR_DBUS_ERROR)
    return error(ErrorKind::kNotFound, "Avahi's daemon (avahi-daemon) does not answer ({})",
                 avahi.strerror(code));
  return error(ErrorKind::kInvalid, "Avahi says ({})", avahi.strerror(code));
}

}  // namespace outboard::cli
