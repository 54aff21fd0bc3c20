// SPDX-License-Identifier: Apache-2.0
#include "serve/http.h"

#include <gtest/gtest.h>

#include "tests/serve/support.h"

namespace outboard::serve {
namespace {

using std::chrono::milliseconds;

class Http : public ::testing::Test {
 protected:
  void SetUp() override {
    ServerOptions options;
    options.store.folder = folder_ / "store";
    auto started = Server::start(std::make_unique<FakeEngine>(), options);
    ASSERT_TRUE(started) << started.error().message;
    server_ = std::move(*started);
    auto opened = HttpDoor::open(*server_, *wire::parse_endpoint("127.0.0.1:0"));
    ASSERT_TRUE(opened) << opened.error().message;
    door_ = std::move(*opened);
  }

  std::unique_ptr<wire::Stream> connect() {
    auto connected =
        wire::connect_to(*wire::parse_endpoint(door_->url().substr(7)), milliseconds(5'000));
    EXPECT_TRUE(connected) << connected.error().message;
    return connected ? std::move(*connected) : nullptr;
  }
  // All that comes back until the server closes.
  std::string ask(std::string request) {
    const auto stream = connect();
    iovec out{.iov_base = request.data(), .iov_len = request.size()};
    EXPECT_TRUE(stream->write_all({&out, 1}));
    std::string answer, piece(4096, '\0');
    for (;;) {
      const iovec in{.iov_base = piece.data(), .iov_len = piece.size()};
      const auto got = stream->read_some({&in, 1});
      if (!got) return answer;
      answer.append(piece, 0, *got);
    }
  }
  std::string get(const std::string& path) {
    return ask("GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n");
  }

  TemporaryFolder folder_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<HttpDoor> door_;
};

TEST_F(Http, IsReadyUntilItDrains) {
  EXPECT_TRUE(get("/readyz").starts_with("HTTP/1.1 200 ")) << get("/readyz");
  server_->drain(milliseconds(0));
  EXPECT_TRUE(get("/readyz").starts_with("HTTP/1.1 503 ")) << get("/readyz");
  EXPECT_TRUE(get("/healthz").starts_with("HTTP/1.1 200 "));
  EXPECT_NE(get("/metrics").find("\noutboard_draining 1\n"), std::string::npos);
}

TEST_F(Http, HostileRequestsEndTheirOwnConnectionOnly) {
  for (const std::string& request :
       {std::string("\x16\x03\x01\x02\x00"), std::string(100'000, 'x'), std::string("GET\r\n\r\n"),
        "GET /" + std::string(50'000, 'a') + " HTTP/1.1\r\n\r\n",
        std::string("POST /metrics HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n")})
    ask(request + std::string(4096, '\n'));
  EXPECT_TRUE(get("/healthz").starts_with("HTTP/1.1 200 "));
}

TEST_F(Http, HalfRequestsKeepNobodyOut) {
  // Fewer than may be open at once; the next one is served beside them.
  std::vector<std::unique_ptr<wire::Stream>> half;
  for (int i = 0; i < 60; ++i) {
    half.push_back(connect());
    std::string request = "GET /met";
    iovec out{.iov_base = request.data(), .iov_len = request.size()};
    ASSERT_TRUE(half.back()->write_all({&out, 1}));
  }
  EXPECT_TRUE(get("/healthz").starts_with("HTTP/1.1 200 "));
  door_.reset();  // ends them all, without waiting for their time-out
}

TEST_F(Http, HeadHasNoBody) {
  const std::string answer = ask("HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_TRUE(answer.ends_with("\r\n\r\n")) << answer;
}

}  // namespace
}  // namespace outboard::serve
