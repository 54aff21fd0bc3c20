// SPDX-License-Identifier: Apache-2.0
#include "cli/near_browse.h"

#include <net/if.h>

#include <array>

#include "base/clock.h"
#include "base/log.h"
#include "cli/avahi.h"

namespace outboard::cli {
namespace {

constexpr std::size_t kMaxServers = 64;

// One look around; its callbacks run inside poll(), on the caller's thread.
class Browse {
 public:
  explicit Browse(const Avahi& avahi) : avahi_(avahi) {}
  // In the order that Avahi asks for: a client frees what is left of its browsers and resolvers.
  ~Browse() {
    if (client_ != nullptr) avahi_.client_free(client_);
    if (poll_ != nullptr) avahi_.simple_poll_free(poll_);
  }
  Browse(const Browse&) = delete;
  Browse& operator=(const Browse&) = delete;

  Result<std::vector<NearServer>> run(const IsEnough& is_enough,
                                      std::chrono::milliseconds time_limit) {
    const Deadline deadline = Deadline::in(time_limit);
    poll_ = avahi_.simple_poll_new();
    if (poll_ == nullptr) return avahi_error(avahi_, AVAHI_ERR_NO_MEMORY);
    int code = 0;
    // Called before it returns, too: client_ is set by whoever comes first.
    AvahiClient* client = avahi_.client_new(avahi_.simple_poll_get(poll_), AvahiClientFlags{},
                                            &Browse::on_client, this, &code);
    if (client == nullptr) return avahi_error(avahi_, code);
    client_ = client;
    if (avahi_.service_browser_new(client_, AVAHI_IF_UNSPEC, AVAHI_PROTO_UNSPEC, kServiceType,
                                   nullptr, AvahiLookupFlags{}, &Browse::on_service,
                                   this) == nullptr)
      return avahi_error(avahi_, avahi_.client_errno(client_));
    constexpr int kStepMs = 20;
    std::size_t seen = 0;  // of heard_
    while (failure_ == 0 && !(all_heard_ && unresolved_ == 0) &&
           Clock::monotonic().now() < deadline.at) {
      if (seen < heard_.size() && is_enough && is_enough(heard_)) break;
      seen = heard_.size();
      if (avahi_.simple_poll_iterate(poll_, kStepMs) != 0) break;
    }
    if (failure_ != 0) return avahi_error(avahi_, failure_);
    return without_repetitions(std::move(heard_));
  }

 private:
  static Browse& self(void* userdata) { return *static_cast<Browse*>(userdata); }

  static void on_client(AvahiClient* client, AvahiClientState state, void* userdata) {
    Browse& browse = self(userdata);
    if (state == AVAHI_CLIENT_FAILURE) browse.failure_ = browse.avahi_.client_errno(client);
  }

  static void on_service(AvahiServiceBrowser*, AvahiIfIndex interface, AvahiProtocol protocol,
                         AvahiBrowserEvent event, const char* name, const char* type,
                         const char* domain, AvahiLookupResultFlags, void* userdata) {
    Browse& browse = self(userdata);
    if (event == AVAHI_BROWSER_FAILURE)
      browse.failure_ = browse.avahi_.client_errno(browse.client_);
    if (event == AVAHI_BROWSER_ALL_FOR_NOW) browse.all_heard_ = true;
    if (event != AVAHI_BROWSER_NEW || browse.asked_ >= kMaxServers) return;
    // Addresses of the family over which it was heard: that one reaches it.
    if (browse.avahi_.service_resolver_new(browse.client_, interface, protocol, name, type, domain,
                                           protocol, AvahiLookupFlags{}, &Browse::on_resolved,
                                           userdata) != nullptr) {
      ++browse.asked_;
      ++browse.unresolved_;
    }
  }

  static void on_resolved(AvahiServiceResolver* resolver, AvahiIfIndex interface, AvahiProtocol,
                          AvahiResolverEvent event, const char* name, const char*, const char*,
                          const char*, const AvahiAddress* address, std::uint16_t port,
                          AvahiStringList* text, AvahiLookupResultFlags, void* userdata) {
    Browse& browse = self(userdata);
    --browse.unresolved_;
    if (event == AVAHI_RESOLVER_FOUND) browse.add(name, interface, *address, port, text);
    browse.avahi_.service_resolver_free(resolver);
  }

  void add(const char* name, AvahiIfIndex interface, const AvahiAddress& address,
           std::uint16_t port, const AvahiStringList* text) {
    std::array<char, AVAHI_ADDRESS_STR_MAX> host{};
    if (avahi_.address_snprint(host.data(), host.size(), &address) == nullptr) return;
    wire::Endpoint endpoint;
    endpoint.host = host.data();
    endpoint.port = port;
    std::array<char, IF_NAMESIZE> link{};
    if (address.proto == AVAHI_PROTO_INET6 && endpoint.host.starts_with("fe80:") &&
        ::if_indextoname(static_cast<unsigned>(interface), link.data()) != nullptr)
      endpoint.host.append("%").append(link.data());
    std::vector<std::string> entries;
    for (; text != nullptr; text = text->next)
      entries.emplace_back(reinterpret_cast<const char*>(text->text), text->size);
    auto server = parse_announcement(name, std::move(endpoint), entries);
    if (server) {
      heard_.push_back(std::move(*server));
    } else {
      log_debug("{}", server.error().message);
    }
  }

  const Avahi& avahi_;
  AvahiSimplePoll* poll_ = nullptr;
  AvahiClient* client_ = nullptr;
  std::vector<NearServer> heard_;
  std::size_t asked_ = 0, unresolved_ = 0;
  bool all_heard_ = false;
  int failure_ = 0;
};

}  // namespace

Result<std::vector<NearServer>> near_servers(const IsEnough& is_enough,
                                             std::chrono::milliseconds time_limit) {
  OB_TRY(const Avahi* avahi, load_avahi());
  return Browse(*avahi).run(is_enough, time_limit);
}

}  // namespace outboard::cli
