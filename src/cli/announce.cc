// SPDX-License-Identifier: Apache-2.0
#include "cli/announce.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>

#include <algorithm>
#include <vector>

#include "base/log.h"
#include "cli/avahi.h"

namespace outboard::cli {
namespace {

// Where one announcement is sent: an interface and a family, or all of them.
struct Place {
  AvahiIfIndex interface = AVAHI_IF_UNSPEC;
  AvahiProtocol protocol = AVAHI_PROTO_UNSPEC;
  std::uint16_t port = 0;
};

bool has_address(const ifaddrs& row, int family, const void* address, std::size_t size) {
  if (row.ifa_addr == nullptr || row.ifa_addr->sa_family != family) return false;
  const void* own =
      family == AF_INET
          ? static_cast<const void*>(&reinterpret_cast<const sockaddr_in*>(row.ifa_addr)->sin_addr)
          : &reinterpret_cast<const sockaddr_in6*>(row.ifa_addr)->sin6_addr;
  return std::equal(static_cast<const std::byte*>(address),
                    static_cast<const std::byte*>(address) + size,
                    static_cast<const std::byte*>(own));
}

// The interface that has the address; all of them where it is a name or any address.
AvahiIfIndex interface_of(int family, const void* address, std::size_t size) {
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return AVAHI_IF_UNSPEC;
  AvahiIfIndex found = AVAHI_IF_UNSPEC;
  for (const ifaddrs* row = list; row != nullptr; row = row->ifa_next)
    if (has_address(*row, family, address, size))
      found = static_cast<AvahiIfIndex>(::if_nametoindex(row->ifa_name));
  ::freeifaddrs(list);
  return found;
}

Place place_of(const wire::Endpoint& endpoint) {
  Place place{.port = endpoint.port};
  const std::string host = endpoint.host.substr(0, endpoint.host.find('%'));
  in_addr four{};
  in6_addr six{};
  if (::inet_pton(AF_INET, host.c_str(), &four) == 1) {
    place.protocol = AVAHI_PROTO_INET;
    if (four.s_addr != INADDR_ANY) place.interface = interface_of(AF_INET, &four, sizeof four);
  } else if (::inet_pton(AF_INET6, host.c_str(), &six) == 1 && !IN6_IS_ADDR_UNSPECIFIED(&six)) {
    place.protocol = AVAHI_PROTO_INET6;
    place.interface = interface_of(AF_INET6, &six, sizeof six);
  }
  return place;
}

Result<std::vector<Place>> places_of(std::span<const wire::Endpoint> addresses) {
  std::vector<Place> places;
  for (const wire::Endpoint& endpoint : addresses) {
    OB_TRY(const bool local, wire::is_local(endpoint));
    if (local) continue;
    const Place place = place_of(endpoint);
    // One name has one port on a link.
    const bool is_taken = std::ranges::any_of(places, [&](const Place& other) {
      return other.interface == place.interface && other.protocol == place.protocol;
    });
    if (!is_taken) places.push_back(place);
  }
  if (places.empty())
    return error(
        ErrorKind::kInvalid,
        "there is nothing to announce: the server listens for this machine alone; expected "
        "an address that others can reach, as --listen 0.0.0.0:7070");
  return places;
}

// All but construction and destruction happens on the poll's thread.
class AvahiAnnouncement final : public Announcement {
 public:
  AvahiAnnouncement(const Avahi& avahi, Announced announced, std::vector<Place> places)
      : avahi_(avahi), announced_(std::move(announced)), places_(std::move(places)) {}

  ~AvahiAnnouncement() override {
    if (poll_ != nullptr) avahi_.threaded_poll_stop(poll_);
    if (client_ != nullptr) avahi_.client_free(client_);
    if (poll_ != nullptr) avahi_.threaded_poll_free(poll_);
  }

  Result<void> start() {
    poll_ = avahi_.threaded_poll_new();
    if (poll_ == nullptr) return avahi_error(avahi_, AVAHI_ERR_NO_MEMORY);
    if (const int code = connect(); code != 0) return avahi_error(avahi_, code);
    if (avahi_.threaded_poll_start(poll_) != 0) return avahi_error(avahi_, AVAHI_ERR_FAILURE);
    return {};
  }

 private:
  static AvahiAnnouncement& self(void* userdata) {
    return *static_cast<AvahiAnnouncement*>(userdata);
  }

  // A daemon that is not there yet is waited for.
  int connect() {
    int code = 0;
    AvahiClient* client = avahi_.client_new(avahi_.threaded_poll_get(poll_), AVAHI_CLIENT_NO_FAIL,
                                            &AvahiAnnouncement::on_client, this, &code);
    if (client == nullptr) return code;
    client_ = client;
    return 0;
  }

  static void on_client(AvahiClient* client, AvahiClientState state, void* userdata) {
    AvahiAnnouncement& own = self(userdata);
    own.client_ = client;  // it calls before avahi_client_new() returns
    switch (state) {
      case AVAHI_CLIENT_S_RUNNING:
        own.publish();
        break;
      case AVAHI_CLIENT_S_COLLISION:
      case AVAHI_CLIENT_S_REGISTERING:
        // The host's own name changes: said again under the new one, once the daemon runs.
        if (own.group_ != nullptr) own.avahi_.entry_group_reset(own.group_);
        break;
      case AVAHI_CLIENT_CONNECTING:
        log_warn("announcement waits reason=\"Avahi's daemon (avahi-daemon) does not run\"");
        break;
      case AVAHI_CLIENT_FAILURE: {
        const int code = own.avahi_.client_errno(client);
        own.avahi_.client_free(client);
        own.client_ = nullptr;  // and its group with it
        own.group_ = nullptr;
        const int again = code == AVAHI_ERR_DISCONNECTED ? own.connect() : code;
        if (again != 0) log_warn("announcement ended reason=\"{}\"", own.avahi_.strerror(again));
        break;
      }
    }
  }

  static void on_group(AvahiEntryGroup* group, AvahiEntryGroupState state, void* userdata) {
    AvahiAnnouncement& own = self(userdata);
    own.group_ = group;
    if (state == AVAHI_ENTRY_GROUP_ESTABLISHED) {
      log_info("announced name=\"{}\" type={}", own.announced_.name, kServiceType);
    } else if (state == AVAHI_ENTRY_GROUP_COLLISION) {
      own.rename();
      own.publish();
    } else if (state == AVAHI_ENTRY_GROUP_FAILURE) {
      log_warn("announcement failed reason=\"{}\"",
               own.avahi_.strerror(own.avahi_.client_errno(own.client_)));
    }
  }

  void rename() {
    char* other = avahi_.alternative_service_name(announced_.name.c_str());
    log_warn("another server nearby has the name name=\"{}\" new_name=\"{}\"", announced_.name,
             other);
    announced_.name = other;
    avahi_.free(other);
  }

  void publish() {
    if (announced_.name.empty()) announced_.name = avahi_.client_get_host_name(client_);
    if (group_ == nullptr)
      group_ = avahi_.entry_group_new(client_, &AvahiAnnouncement::on_group, this);
    if (group_ == nullptr || avahi_.entry_group_is_empty(group_) == 0) return;
    int code = add_services();
    while (code == AVAHI_ERR_COLLISION) {  // with another of this machine
      rename();
      avahi_.entry_group_reset(group_);
      code = add_services();
    }
    if (code == 0) code = avahi_.entry_group_commit(group_);
    if (code != 0)
      log_warn("announcement failed name=\"{}\" reason=\"{}\"", announced_.name,
               avahi_.strerror(code));
  }

  int add_services() {
    const std::vector<std::string> entries = announcement_text(announced_);
    std::vector<const char*> pointers;
    pointers.reserve(entries.size());
    for (const std::string& entry : entries) pointers.push_back(entry.c_str());
    AvahiStringList* text =
        avahi_.string_list_new_from_array(pointers.data(), static_cast<int>(pointers.size()));
    int code = 0;
    for (std::size_t i = 0; i < places_.size() && code == 0; ++i)
      code = avahi_.entry_group_add_service_strlst(
          group_, places_[i].interface, places_[i].protocol, AvahiPublishFlags{},
          announced_.name.c_str(), kServiceType, nullptr, nullptr, places_[i].port, text);
    avahi_.string_list_free(text);
    return code;
  }

  const Avahi& avahi_;
  Announced announced_;
  const std::vector<Place> places_;
  AvahiThreadedPoll* poll_ = nullptr;
  AvahiClient* client_ = nullptr;
  AvahiEntryGroup* group_ = nullptr;
};

}  // namespace

Result<std::unique_ptr<Announcement>> Announcement::start(
    Announced announced, std::span<const wire::Endpoint> addresses) {
  constexpr std::size_t kNameBytes = 63;  // of a DNS label
  if (announced.name.size() > kNameBytes || printable(announced.name, kNameBytes) != announced.name)
    return error(ErrorKind::kInvalid,
                 "the name ({}) to announce must have at most {} bytes of printable UTF-8",
                 printable(announced.name, kNameBytes), kNameBytes);
  OB_TRY(auto places, places_of(addresses));
  OB_TRY(const Avahi* avahi, load_avahi());
  auto announcement =
      std::make_unique<AvahiAnnouncement>(*avahi, std::move(announced), std::move(places));
  OB_CHECK_OK(announcement->start());
  return announcement;
}

}  // namespace outboard::cli
