// SPDX-License-Identifier: Apache-2.0
#include "serve/session_pool.h"

#include <gtest/gtest.h>

#include <future>
#include <thread>

#include "tests/serve/support.h"

namespace outboard::serve {
namespace {

class SessionPoolTest : public testing::Test {
 protected:
  void SetUp() override {
    store_ = std::move(*Store::open({.folder = folder_ / "store"}));
    make({});
  }
  void make(SessionPool::Options options) {
    pool_.reset();
    pool_ = std::make_unique<SessionPool>(engine_, *store_, options);
  }
  Sha256 put(const std::string& word) {
    std::unique_ptr<Store::Upload> upload;
    const auto manifest = manifest_of({{"model", word}});
    EXPECT_TRUE(store_->state(manifest, upload));
    const wire::UploadChunk chunk{sha256(bytes_of(word)), word.size(), 0};
    if (upload) {
      EXPECT_TRUE(store_->append(*upload, chunk, bytes_of(word)));
    }
    upload.reset();
    EXPECT_TRUE(store_->state(manifest, upload)->complete);
    return manifest.id();
  }

  TemporaryFolder folder_;
  FakeEngine engine_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<SessionPool> pool_;
};

TEST_F(SessionPoolTest, OneSessionForAllWithTheSameModelAndOptions) {
  const Sha256 echo = put("echo");
  const auto first = pool_->open(echo, {}), second = pool_->open(echo, {});
  ASSERT_TRUE(first && second);
  EXPECT_EQ(&first->session(), &second->session());
  engine::OpenOptions other;
  other.graph_optimization_level = 0;
  const auto third = pool_->open(echo, other);
  ASSERT_TRUE(third);
  EXPECT_NE(&first->session(), &third->session());
  EXPECT_EQ(engine_.stage->opened, 2);
}

TEST_F(SessionPoolTest, OpenedOnceThoughManyAskAtOnce) {
  const Sha256 echo = put("echo");
  engine_.stage->hold_openings();
  std::vector<std::future<Result<SessionPool::Use>>> all;
  for (int i = 0; i < 8; ++i)
    all.push_back(std::async(std::launch::async, [&] { return pool_->open(echo, {}); }));
  engine_.stage->wait_for_opening(1);
  engine_.stage->let_open();
  for (auto& one : all) EXPECT_TRUE(one.get());
  EXPECT_EQ(engine_.stage->opened, 1);
}

TEST_F(SessionPoolTest, AFailureIsToldToAllAndTriedAgainNextTime) {
  const Sha256 reject = put("reject");
  engine_.stage->hold_openings();
  std::vector<std::future<Result<SessionPool::Use>>> all;
  for (int i = 0; i < 4; ++i)
    all.push_back(std::async(std::launch::async, [&] { return pool_->open(reject, {}); }));
  engine_.stage->wait_for_opening(1);
  engine_.stage->let_open();
  for (auto& one : all) {
    const auto use = one.get();
    ASSERT_FALSE(use);
    EXPECT_EQ(use.error().kind, ErrorKind::kEngine);
    EXPECT_EQ(use.error().native_code, 7);
  }
  const int opening = engine_.stage->opening;
  EXPECT_FALSE(pool_->open(reject, {}));
  EXPECT_EQ(engine_.stage->opening, opening + 1);
}

TEST_F(SessionPoolTest, WhatCannotGoOutIsSaid) {
  const auto use = pool_->open(put("sequence"), {});
  ASSERT_FALSE(use);
  EXPECT_EQ(use.error().kind, ErrorKind::kUnimplemented);
  EXPECT_NE(use.error().message.find("sequence"), std::string::npos);
  EXPECT_EQ(engine_.stage->alive, 0);
}

TEST_F(SessionPoolTest, AModelThatIsNotThere) {
  EXPECT_EQ(pool_->open(Sha256{}, {}).error().kind, ErrorKind::kNotFound);
}

TEST_F(SessionPoolTest, KeptWhileIdleAndThenClosed) {
  make({.idle_time = std::chrono::hours(1)});
  const Sha256 echo = put("echo");
  {
    const auto use = pool_->open(echo, {});
  }
  EXPECT_EQ(engine_.stage->alive, 1);
  EXPECT_TRUE(store_->models()[0].pinned);
  {
    const auto use = pool_->open(echo, {});
  }
  EXPECT_EQ(engine_.stage->opened, 1);
  EXPECT_EQ(pool_->close_idle(), 1u);
  EXPECT_EQ(engine_.stage->alive, 0);
  EXPECT_FALSE(store_->models()[0].pinned);

  make({.idle_time = std::chrono::nanoseconds(0)});
  {
    const auto use = pool_->open(echo, {});
  }
  while (engine_.stage->alive != 0) std::this_thread::yield();  // its janitor closes it
}

TEST_F(SessionPoolTest, NoMoreThanTheLimit) {
  make({.max_sessions = 2});
  const Sha256 a = put("echo a"), b = put("echo b"), c = put("echo c");
  const auto first = pool_->open(a, {});
  {
    const auto idle = pool_->open(b, {});
  }
  const auto third = pool_->open(c, {});
  EXPECT_TRUE(third) << "the idle one made place";
  EXPECT_EQ(engine_.stage->alive, 2);
  const auto fourth = pool_->open(b, {});
  ASSERT_FALSE(fourth);
  EXPECT_EQ(fourth.error().kind, ErrorKind::kOverloaded);
}

}  // namespace
}  // namespace outboard::serve
