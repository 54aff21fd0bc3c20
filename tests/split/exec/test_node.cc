// SPDX-License-Identifier: Apache-2.0
#include "tests/split/exec/test_node.h"

#include <stdexcept>

#include "wire/messages.h"
#include "wire/model_package.h"

namespace outboard::split::testing {

using wire::FrameKind;

TestNode::TestNode(engine::Engine& engine, std::string model_path)
    : engine_(engine), path_(std::move(model_path)) {
  endpoint_ = {wire::Endpoint::Kind::kTcp, "127.0.0.1", 0, {}};
  start();
}

std::shared_ptr<wire::Client> TestNode::client() const {
  wire::ClientOptions options;
  options.connect_timeout = std::chrono::milliseconds(500);
  options.control_timeout = std::chrono::milliseconds(1000);
  return std::make_shared<wire::Client>(endpoint_, std::move(options));
}

void TestNode::start() {
  exec::NodeOptions options;
  options.memory_limit_bytes = memory_limit_bytes;
  options.threads = 1;
  options.connect =
      [this](const std::string& address) -> Result<std::shared_ptr<wire::Connection>> {
    OB_TRY(const auto endpoint, wire::parse_endpoint(address));
    wire::ClientOptions client;
    client.control_timeout = std::chrono::milliseconds(1000);
    client.connect = [this, endpoint]() -> Result<std::unique_ptr<wire::Stream>> {
      OB_TRY(auto stream, wire::connect_to(endpoint, std::chrono::milliseconds(500)));
      return faults_->wrap(std::move(stream));
    };
    return wire::Client(endpoint, std::move(client)).dedicate();
  };
  node_ = std::make_unique<exec::Node>(engine_, std::move(options));
  auto listener = wire::listen_on(endpoint_);
  if (!listener) throw std::runtime_error(listener.error().message);
  listener_ = *std::move(listener);
  endpoint_ = listener_->local_endpoint();
  stopping_ = false;
  acceptor_ = std::thread([this] {
    for (;;) {
      auto stream = listener_->accept();
      if (!stream) return;
      auto connection = std::make_shared<wire::Connection>(faults_->wrap(*std::move(stream)));
      const std::lock_guard lock(mutex_);
      if (stopping_) return;
      connections_.push_back(connection);
      threads_.emplace_back([this, connection] { serve(connection); });
    }
  });
}

void TestNode::stop() {
  faults_->heal();
  if (!listener_) return;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    for (auto& c : connections_) c->stream().shut_down();
  }
  listener_->shut_down();
  if (acceptor_.joinable()) acceptor_.join();
  for (auto& t : threads_) t.join();
  threads_.clear();
  connections_.clear();
  node_.reset();
  listener_.reset();
}

void TestNode::serve(std::shared_ptr<wire::Connection> connection) {
  wire::Connection& c = *connection;
  const auto models = [this](const Sha256&) -> Result<exec::HeldModel> {
    return exec::HeldModel{path_, nullptr};
  };
  struct Built {
    exec::Node& node;
    std::vector<exec::PlanId> parts;
    ~Built() {
      for (const auto& part : parts) node.abandon(part);
    }
  } built{*node_, {}};
  for (;;) {
    const auto header = c.receive_header();
    if (!header) return;
    const auto payload = c.read_string(header->length);
    if (!payload) return;
    const auto bytes = std::as_bytes(std::span(*payload));
    const auto reply = [&](FrameKind kind, std::string_view text) {
      return c.send({.kind = kind, .request_id = header->request_id}, text);
    };
    Result<std::string> answer;
    FrameKind kind = FrameKind::kError;
    if (header->kind == FrameKind::kHello) {
      kind = FrameKind::kHelloReply;
      answer = wire::encode(wire::HelloReply{"test", "id", {}, 200, "engine", "cpu", {}});
    } else if (header->kind == FrameKind::kPing) {
      kind = FrameKind::kPong;
      answer = *payload;
    } else if (header->kind == FrameKind::kModelQuery) {
      kind = FrameKind::kModelState;
      const auto manifest = wire::decode_model_manifest(bytes);
      wire::ModelState state;
      for (const auto& file : manifest->files) state.have_bytes.push_back(file.size_bytes);
      state.complete = true;
      answer = wire::encode(state);
    } else if (header->kind == FrameKind::kSplitAssign) {
      kind = FrameKind::kSplitReady;
      exec::PlanId id{};
      answer = node_->assign(bytes, models, &id);
      if (answer) built.parts.push_back(id);
    } else if (header->kind == FrameKind::kSplitConnect) {
      kind = FrameKind::kSplitConnected;
      answer = node_->connect(bytes);
    } else if (header->kind == FrameKind::kSplitJoin) {
      bool linked = false;
      const auto ended = node_->join(bytes, c, [&] {
        linked = true;
        return reply(FrameKind::kSplitJoined, {});
      });
      if (linked) return;
      answer = tl::make_unexpected(ended.error());
    } else {
      answer = error(ErrorKind::kUnimplemented, "this node knows split requests alone");
    }
    if (!(answer ? reply(kind, *answer) : reply(FrameKind::kError, wire::encode(answer.error()))))
      return;
  }
}

}  // namespace outboard::split::testing
