// SPDX-License-Identifier: Apache-2.0
// What a server reads before a token is proven. The first byte chooses: any bytes as they come from
// the network, in pieces; a real client's handshake with some of its bytes changed; or a whole
// handshake, and then any bytes as what it protects.
#include <algorithm>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "serve/greeting.h"
#include "wire/transport/tls.h"

namespace outboard::serve {
namespace {

struct Sides {
  std::shared_ptr<const wire::TlsContext> server, client;
};

const Sides& sides() {
  static const Sides made = [] {
    const wire::TlsIdentity identity = wire::make_identity().value();
    return Sides{
        wire::TlsContext::server(identity).value(),
        wire::TlsContext::client({wire::fingerprint_of(identity.certificate_pem).value(), {}, {}})
            .value()};
  }();
  return made;
}

using Bytes = std::span<const std::uint8_t>;

// False: the connection is over, or its hello is complete.
bool give(Greeting& greeting, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const auto space = greeting.space();
    const std::size_t n = std::min(space.size(), bytes.size());
    std::ranges::copy(bytes.first(n), space.begin());
    const auto complete = greeting.received(n);
    if (!complete || *complete) {
      if (complete) (void)greeting.token();
      if (!complete) greeting.refuse(complete.error());
      return false;
    }
    bytes = bytes.subspan(n);
  }
  return true;
}

void raw(Bytes input) {
  Greeting greeting = Greeting::make(sides().server).value();
  while (!input.empty()) {
    const std::size_t step = std::min<std::size_t>(input.size(), 1 + (input[0] & 63));
    if (!give(greeting, std::as_bytes(input.first(step)))) return;
    input = input.subspan(step);
  }
}

// A client's handshake; `spoil` may change each of its two flights.
template <typename Spoil>
void with_client(Bytes input, const Spoil& spoil) {
  Greeting greeting = Greeting::make(sides().server).value();
  auto client = wire::TlsSession::make(sides().client).value();
  if (!client->handshake()) return;
  spoil(client->output(), 0);
  if (!give(greeting, client->output())) return;
  client->output().clear();
  auto& answer = greeting.output();
  std::ranges::copy(answer, client->input_space(answer.size()).begin());
  client->received(answer.size());
  answer.clear();
  const auto done = client->handshake();
  if (!done || !*done) return;
  if (!input.empty()) OB_CHECK(client->write(std::as_bytes(input)).has_value());
  spoil(client->output(), 1);
  (void)give(greeting, client->output());
}

}  // namespace
}  // namespace outboard::serve

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace outboard::serve;
  if (size == 0) return 0;
  const std::span input(data + 1, size - 1);
  switch (data[0] % 3) {
    case 0:
      raw(input);
      break;
    case 1:
      // Pairs of a place and a value, for either flight.
      with_client({}, [&](std::vector<std::byte>& flight, std::size_t which) {
        for (std::size_t i = which; i + 3 < input.size(); i += 4) {
          const std::size_t at = (std::size_t{input[i]} << 8 | input[i + 1]) % flight.size();
          flight[at] ^= std::byte{input[i + 2]};
          if (input[i + 3] == 255) flight.resize(at + 1);
        }
      });
      break;
    default:
      with_client(input, [](std::vector<std::byte>&, std::size_t) {});
  }
  return 0;
}
