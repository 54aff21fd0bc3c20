// SPDX-License-Identifier: Apache-2.0
#include "serve/http.h"

#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <thread>
#include <tuple>
#include <utility>

#include "base/log.h"
#include "serve/metrics.h"
#include "serve/server.h"

namespace outboard::serve {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using boost::system::error_code;

constexpr std::size_t kRequestBytes = 16u << 10;
constexpr std::chrono::seconds kTimeout{5};  // of one request and its answer
constexpr std::size_t kMaxRequests = 64;     // at the same time; the next ones wait to be accepted

struct Page {
  http::status status = http::status::ok;
  const char* type = "text/plain";
  std::string body;
};

Page page(const Server& server, std::string_view path) {
  if (path == "/metrics")
    return {.type = "text/plain; version=0.0.4", .body = metrics_text(server.shared())};
  if (path == "/healthz") return {.body = "ok\n"};
  if (path == "/readyz" && !server.is_draining()) return {.body = "ok\n"};
  if (path == "/readyz") return {.status = http::status::service_unavailable, .body = "draining\n"};
  return {.status = http::status::not_found, .body = "there are /metrics, /healthz and /readyz\n"};
}

// One request, one answer, one connection.
class Exchange : public std::enable_shared_from_this<Exchange> {
 public:
  Exchange(asio::ip::tcp::socket socket, const Server& server, std::shared_ptr<void> counted)
      : stream_(std::move(socket)), server_(server), counted_(std::move(counted)) {
    request_.body_limit(kRequestBytes);
    request_.header_limit(kRequestBytes);
  }

  void start() {
    stream_.expires_after(kTimeout);
    http::async_read(stream_, buffer_, request_,
                     [self = shared_from_this()](error_code failed, std::size_t) {
                       if (!failed) self->answer();
                     });
  }

 private:
  void answer() {
    const auto& request = request_.get();
    const bool reads = request.method() == http::verb::get || request.method() == http::verb::head;
    Page found = reads ? page(server_, {request.target().data(), request.target().size()})
                       : Page{.status = http::status::method_not_allowed, .body = "GET only\n"};
    reply_.version(request.version());
    reply_.result(found.status);
    reply_.set(http::field::content_type, found.type);
    reply_.keep_alive(false);
    reply_.content_length(found.body.size());
    if (request.method() != http::verb::head) reply_.body() = std::move(found.body);
    http::async_write(stream_, reply_, [self = shared_from_this()](error_code, std::size_t) {
      error_code ignored;
      std::ignore = self->stream_.socket().shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
    });
  }

  beast::tcp_stream stream_;
  beast::flat_buffer buffer_{kRequestBytes};
  http::request_parser<http::string_body> request_;
  http::response<http::string_body> reply_;
  const Server& server_;
  std::shared_ptr<void> counted_;
};

}  // namespace

struct HttpDoor::Listening {
  explicit Listening(const Server& server_) : server(server_) {}

  Result<void> open(const wire::Endpoint& endpoint) {
    error_code failed;
    asio::ip::tcp::resolver resolver(context);
    const auto found = resolver.resolve(endpoint.host, std::to_string(endpoint.port),
                                        asio::ip::tcp::resolver::passive, failed);
    if (!failed) {
      const asio::ip::tcp::endpoint address = found.begin()->endpoint();
      failed = acceptor.open(address.protocol(), failed);
      if (!failed) failed = acceptor.set_option(asio::socket_base::reuse_address(true), failed);
      if (!failed) failed = acceptor.bind(address, failed);
      if (!failed) failed = acceptor.listen(asio::socket_base::max_listen_connections, failed);
    }
    if (failed)
      return error(ErrorKind::kInvalid, "cannot listen for HTTP at ({}): {}", endpoint.to_string(),
                   failed.message());
    return {};
  }

  void accept() {
    acceptor.async_accept([this](error_code failed, asio::ip::tcp::socket socket) {
      if (failed == asio::error::operation_aborted) return;
      if (!failed) {
        ++requests;
        const std::shared_ptr<void> counted(nullptr, [this](void*) {
          if (requests-- == kMaxRequests && !context.stopped()) accept();
        });
        std::make_shared<Exchange>(std::move(socket), server, counted)->start();
        if (requests < kMaxRequests) accept();
        return;
      }
      // Out of descriptors: soon again, and not at once, which would keep a core busy.
      log_warn("HTTP connection not accepted reason=\"{}\"", failed.message());
      retry.expires_after(std::chrono::milliseconds(100));
      retry.async_wait([this](error_code stopped) {
        if (!stopped) accept();
      });
    });
  }

  const Server& server;
  asio::io_context context{1};
  asio::ip::tcp::acceptor acceptor{context};
  asio::steady_timer retry{context};
  std::size_t requests = 0;
  std::thread thread;
};

HttpDoor::HttpDoor(std::unique_ptr<Listening> listening, std::string url)
    : listening_(std::move(listening)), url_(std::move(url)) {}

HttpDoor::~HttpDoor() {
  listening_->context.stop();
  listening_->thread.join();
}

Result<std::unique_ptr<HttpDoor>> HttpDoor::open(const Server& server,
                                                 const wire::Endpoint& endpoint) {
  if (endpoint.kind != wire::Endpoint::Kind::kTcp)
    return error(ErrorKind::kInvalid, "HTTP needs an address of the form ADDR:PORT, not ({})",
                 endpoint.to_string());
  auto listening = std::make_unique<Listening>(server);
  OB_CHECK_OK(listening->open(endpoint));
  wire::Endpoint bound = endpoint;
  bound.port = listening->acceptor.local_endpoint().port();
  listening->accept();
  listening->thread = std::thread([here = listening.get()] { here->context.run(); });
  return std::unique_ptr<HttpDoor>(
      new HttpDoor(std::move(listening), "http://" + bound.to_string()));
}

}  // namespace outboard::serve
