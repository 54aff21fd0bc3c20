// SPDX-License-Identifier: Apache-2.0
// libavahi-client, found at run time: a machine without it, or without Avahi's daemon, loses the
// looking for servers nearby and nothing else. Members are the library's functions without their
// prefix.
// Thread-safe; loaded once and kept. Errors: kNotFound, a sentence that says what to do instead.
#pragma once

#include <avahi-client/client.h>
#include <avahi-client/lookup.h>
#include <avahi-client/publish.h>
#include <avahi-common/alternative.h>
#include <avahi-common/error.h>
#include <avahi-common/malloc.h>
#include <avahi-common/simple-watch.h>
#include <avahi-common/thread-watch.h>

#include "base/result.h"

namespace outboard::cli {

// What is used, of libavahi-client and of libavahi-common.
// clang-format off
#define OUTBOARD_AVAHI_CLIENT(X) \
    X(client_new) X(client_free) X(client_errno) X(client_get_host_name) X(service_browser_new) \
    X(service_resolver_new) X(service_resolver_free) X(entry_group_new) X(entry_group_reset) \
    X(entry_group_commit) X(entry_group_is_empty) X(entry_group_add_service_strlst)
#define OUTBOARD_AVAHI_COMMON(X) \
    X(strerror) X(free) X(address_snprint) X(alternative_service_name) \
    X(string_list_new_from_array) X(string_list_free) X(simple_poll_new) X(simple_poll_free) \
    X(simple_poll_get) X(simple_poll_iterate) X(threaded_poll_new) X(threaded_poll_free) \
    X(threaded_poll_get) X(threaded_poll_start) X(threaded_poll_stop)
// clang-format on

struct Avahi {
// NOLINTNEXTLINE(bugprone-macro-parentheses): a declaration
#define OUTBOARD_AVAHI_MEMBER(name) decltype(&::avahi_##name) name = nullptr;
  OUTBOARD_AVAHI_CLIENT(OUTBOARD_AVAHI_MEMBER)
  OUTBOARD_AVAHI_COMMON(OUTBOARD_AVAHI_MEMBER)
#undef OUTBOARD_AVAHI_MEMBER
};

Result<const Avahi*> load_avahi();

// "the Avahi daemon ... (REASON)", for an error code of the library.
tl::unexpected<Error> avahi_error(const Avahi& avahi, int code);

}  // namespace outboard::cli
