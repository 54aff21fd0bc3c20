// SPDX-License-Identifier: Apache-2.0
// A node for tests: a server of split requests alone, over TCP on loopback, that has one model. Can
// be stopped, which ends all its connections at once, and started again at the same address.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "split/exec/node.h"
#include "tests/split/exec/faulty.h"
#include "wire/client.h"
#include "wire/transport/endpoint.h"

namespace outboard::split::testing {

class TestNode {
 public:
  TestNode(engine::Engine& engine, std::string model_path);
  ~TestNode() { stop(); }

  std::string address() const { return endpoint_.to_string(); }
  std::shared_ptr<wire::Client> client() const;
  void start();
  void stop();

  std::uint64_t memory_limit_bytes = 0;  // taken by start()
  Faults& faults() { return *faults_; }

 private:
  void serve(std::shared_ptr<wire::Connection> connection);

  engine::Engine& engine_;
  const std::string path_;
  wire::Endpoint endpoint_;
  const std::shared_ptr<Faults> faults_ = std::make_shared<Faults>();
  std::unique_ptr<exec::Node> node_;
  std::unique_ptr<wire::Listener> listener_;
  std::thread acceptor_;
  std::mutex mutex_;
  std::vector<std::shared_ptr<wire::Connection>> connections_;
  std::vector<std::thread> threads_;
  bool stopping_ = false;
};

}  // namespace outboard::split::testing
