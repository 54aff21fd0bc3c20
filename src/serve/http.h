// SPDX-License-Identifier: Apache-2.0
// The server's HTTP door for those who watch it:
//
//   /metrics   Prometheus' text format
//   /healthz   200 as long as the process answers
//   /readyz    200 while it takes new work; 503 while it drains
//
// Plain HTTP without authentication, for who runs the server: it names tenants, not models.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "wire/transport/endpoint.h"

namespace outboard::serve {

class Server;

class HttpDoor {
 public:
  // Port 0 takes a free one. `server` must outlive the door. kInvalid for a unix socket, and for
  // an address that cannot be had.
  static Result<std::unique_ptr<HttpDoor>> open(const Server& server,
                                                const wire::Endpoint& endpoint);
  ~HttpDoor();  // ends the requests under way
  HttpDoor(const HttpDoor&) = delete;
  HttpDoor& operator=(const HttpDoor&) = delete;

  const std::string& url() const { return url_; }  // "http://127.0.0.1:9090"

 private:
  struct Listening;
  HttpDoor(std::unique_ptr<Listening> listening, std::string url);

  std::unique_ptr<Listening> listening_;
  std::string url_;
};

}  // namespace outboard::serve
