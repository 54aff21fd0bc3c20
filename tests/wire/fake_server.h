// SPDX-License-Identifier: Apache-2.0
// A server for tests of the client: a thread a connection over in-process pairs, a reply chosen by
// the test. It speaks the real wire and knows no engine.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "wire/client.h"

namespace outboard::wire {

class FakeServer {
 public:
  // Handles one request; false ends the connection. `payload` is the request's.
  using Handler = std::function<bool(Connection&, const FrameHeader&, const std::string& payload)>;

  ~FakeServer();
  // Comes before the defaults (hello, ping, sessions that exist, a Run that echoes); nullopt: not
  // mine.
  std::function<std::optional<bool>(Connection&, const FrameHeader&, const std::string&)>
      override_handler;

  ClientOptions client_options();  // connects to this server
  void drop_all();                 // as if the process had been killed

  std::atomic<int> connections{0}, opens{0}, closes{0}, runs{0};
  std::map<std::string, std::string> files;  // uploaded bytes by hash

 private:
  void serve(std::shared_ptr<Connection> connection);
  bool handle(Connection& connection, const FrameHeader& header, const std::string& payload);
  std::mutex mutex_;
  std::vector<std::shared_ptr<Connection>> live_;
  std::vector<std::thread> threads_;
};

SessionDescription echo_description();  // float[?] in, float[?] out

}  // namespace outboard::wire
