// SPDX-License-Identifier: Apache-2.0
#include "serve/store.h"

#include <gtest/gtest.h>

#include <fstream>
#include <thread>

#include "tests/serve/support.h"

namespace outboard::serve {
namespace {

namespace fs = std::filesystem;

std::string content_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {(std::istreambuf_iterator<char>(file)), {}};
}

class StoreTest : public testing::Test {
 protected:
  void open(std::uint64_t limit = 1u << 20) {
    store_.reset();
    auto opened = Store::open({.folder = folder_ / "store", .limit_bytes = limit});
    ASSERT_TRUE(opened) << opened.error().message;
    store_ = std::move(*opened);
  }
  void SetUp() override { open(); }

  wire::ModelState state(const std::vector<NamedContent>& files,
                         std::unique_ptr<Store::Upload>* keep = nullptr) {
    std::unique_ptr<Store::Upload> upload;
    auto state = store_->state(manifest_of(files), upload);
    EXPECT_TRUE(state) << state.error().message;
    if (keep != nullptr) *keep = std::move(upload);
    return state ? *state : wire::ModelState{};
  }
  static wire::UploadChunk chunk(const std::string& content, std::uint64_t offset) {
    return {sha256(bytes_of(content)), content.size(), offset};
  }
  Result<std::uint64_t> append(const Store::Upload& upload, const std::string& content,
                               std::uint64_t offset, std::size_t count) {
    return store_->append(upload, chunk(content, offset), bytes_of(content).subspan(offset, count));
  }
  // A whole model in one go.
  Sha256 put(const std::vector<NamedContent>& files) {
    std::unique_ptr<Store::Upload> upload;
    if (!state(files, &upload).complete) {
      for (const auto& [name, content] : files) {
        if (content.empty()) continue;
        const auto have = append(*upload, content, 0, content.size());
        EXPECT_TRUE(have) << have.error().message;
      }
      EXPECT_TRUE(state(files).complete);
    }
    return manifest_of(files).id();
  }
  std::string path_of(const Sha256& model) {
    const auto pin = store_->pin(model);
    return pin ? (*pin)->path() : "";
  }

  TemporaryFolder folder_;
  std::unique_ptr<Store> store_;
};

TEST_F(StoreTest, AModelWithExternalDataLiesAsItsNamesSay) {
  const std::vector<NamedContent> files{
      {"model", "graph"}, {"weights/w.bin", "numbers"}, {"empty", ""}};
  std::unique_ptr<Store::Upload> upload;
  auto there = state(files, &upload);
  EXPECT_FALSE(there.complete);
  EXPECT_EQ(there.have_bytes, (std::vector<std::uint64_t>{0, 0, 0}));
  EXPECT_EQ(*append(*upload, "graph", 0, 3), 3u);
  EXPECT_EQ(state(files).have_bytes, (std::vector<std::uint64_t>{3, 0, 0}));
  EXPECT_EQ(*append(*upload, "graph", 3, 2), 5u);
  EXPECT_EQ(*append(*upload, "numbers", 0, 7), 7u);
  upload.reset();
  EXPECT_TRUE(state(files).complete);
  const std::string model = path_of(manifest_of(files).id());
  EXPECT_EQ(content_of(model), "graph");
  EXPECT_EQ(content_of(fs::path(model).parent_path() / "weights/w.bin"), "numbers");
  EXPECT_TRUE(fs::exists(fs::path(model).parent_path() / "empty"));
  EXPECT_EQ(store_->totals().models, 1u);
  EXPECT_EQ(store_->totals().used_bytes, 12u);
}

TEST_F(StoreTest, FilesAreSharedBetweenModels) {
  put({{"model", "one"}, {"w", "shared weights"}});
  const std::vector<NamedContent> second{{"model", "two"}, {"w", "shared weights"}};
  EXPECT_EQ(state(second).have_bytes, (std::vector<std::uint64_t>{0, 14}));
  put({{"model", "two"}, {"w", "shared weights"}});
  EXPECT_EQ(store_->totals().used_bytes, 14u + 3 + 3);
}

TEST_F(StoreTest, AnUploadResumesAfterAStart) {
  const std::vector<NamedContent> files{{"model", "0123456789"}};
  std::unique_ptr<Store::Upload> upload;
  state(files, &upload);
  EXPECT_EQ(*append(*upload, "0123456789", 0, 4), 4u);
  upload.reset();
  open();
  EXPECT_EQ(state(files, &upload).have_bytes[0], 4u);
  EXPECT_EQ(*append(*upload, "0123456789", 4, 6), 10u);
  upload.reset();
  EXPECT_TRUE(state(files).complete);
  open();
  EXPECT_TRUE(state(files).complete) << "complete models are there after a start";
  EXPECT_EQ(content_of(path_of(manifest_of(files).id())), "0123456789");
}

TEST_F(StoreTest, ACrashBetweenTheLastByteAndItsPlaceIsHealed) {
  const std::vector<NamedContent> files{{"model", "0123456789"}};
  store_.reset();
  std::ofstream(folder_ / "store/partial/" + sha256(bytes_of("0123456789")).hex()) << "0123456789";
  open();
  std::unique_ptr<Store::Upload> upload;
  EXPECT_EQ(state(files, &upload).have_bytes[0], 0u) << "any piece brings the verification about";
  EXPECT_EQ(*append(*upload, "0123456789", 0, 2), 10u);
  upload.reset();
  EXPECT_TRUE(state(files).complete);
}

TEST_F(StoreTest, AWrongHashIsRefusedAndForgotten) {
  const std::vector<NamedContent> files{{"model", "right"}};
  std::unique_ptr<Store::Upload> upload;
  state(files, &upload);
  const auto wrong = store_->append(*upload, chunk("right", 0), bytes_of("wrong"));
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().kind, ErrorKind::kInvalid);
  EXPECT_EQ(state(files).have_bytes[0], 0u);
  EXPECT_EQ(*append(*upload, "right", 0, 5), 5u) << "and can be sent again";
  upload.reset();
  EXPECT_TRUE(state(files).complete);
}

TEST_F(StoreTest, DamageOnDiskOfAPartialFileIsFound) {
  const std::vector<NamedContent> files{{"model", "0123456789"}};
  std::unique_ptr<Store::Upload> upload;
  state(files, &upload);
  append(*upload, "0123456789", 0, 4).value();
  upload.reset();
  store_.reset();
  std::ofstream(folder_ / "store/partial/" + sha256(bytes_of("0123456789")).hex()) << "XXXX";
  open();
  EXPECT_EQ(state(files, &upload).have_bytes[0], 4u);
  EXPECT_EQ(append(*upload, "0123456789", 4, 6).error().kind, ErrorKind::kInvalid);
  EXPECT_EQ(state(files).have_bytes[0], 0u);
}

TEST_F(StoreTest, PiecesMustComeInOrderAndBelongToTheUpload) {
  std::unique_ptr<Store::Upload> upload;
  state({{"model", "0123456789"}}, &upload);
  EXPECT_EQ(append(*upload, "0123456789", 5, 5).error().kind, ErrorKind::kInvalid);
  EXPECT_EQ(append(*upload, "another", 0, 7).error().kind, ErrorKind::kInvalid);
  EXPECT_EQ(store_->append(*upload, chunk("0123456789", 8), bytes_of("too much")).error().kind,
            ErrorKind::kInvalid);
  EXPECT_EQ(store_->append(*upload, chunk("0123456789", 0), {}).error().kind, ErrorKind::kInvalid);
  auto lie = chunk("0123456789", 0);
  lie.file_bytes = 11;
  EXPECT_EQ(store_->append(*upload, lie, bytes_of("0")).error().kind, ErrorKind::kInvalid);
  EXPECT_EQ(*append(*upload, "0123456789", 0, 6), 6u);
  EXPECT_EQ(*append(*upload, "0123456789", 2, 2), 6u) << "what is there already is passed over";
  EXPECT_EQ(*append(*upload, "0123456789", 4, 6), 10u) << "also in part";
}

TEST_F(StoreTest, ManifestsThatReachOutOrLieAreRefused) {
  const auto refused = [&](wire::ModelManifest manifest) {
    std::unique_ptr<Store::Upload> upload;
    const auto state = store_->state(manifest, upload);
    return !state && state.error().kind == ErrorKind::kInvalid && !upload;
  };
  const auto good = manifest_of({{"model", "m"}, {"w", "w"}});
  for (const char* name : {"../w", "/etc/passwd", "a/../../b", "a//b", ".", "a\\b", ""}) {
    auto bad = good;
    bad.files[1].name = name;
    EXPECT_TRUE(refused(bad)) << name;
  }
  auto bad = good;
  bad.files[1].name = "model";
  EXPECT_TRUE(refused(bad)) << "one name twice";
  bad = good;
  bad.files[0].name = "other";
  EXPECT_TRUE(refused(bad)) << "no model";
  bad = good;
  bad.files[1].size_bytes = 0;
  EXPECT_TRUE(refused(bad)) << "a hash that no empty file has";
  EXPECT_TRUE(refused({}));
  put({{"model", "m"}});
  bad = good;
  bad.files[0].size_bytes = 5;
  EXPECT_TRUE(refused(bad)) << "a size that the hash has not";
}

TEST_F(StoreTest, AFileAndAFolderOfOneNameAreRefusedWithoutAMess) {
  std::unique_ptr<Store::Upload> upload;
  const std::vector<NamedContent> files{{"model", "m"}, {"a", "1"}, {"a/b", "2"}};
  state(files, &upload);
  for (const auto& [name, content] : files) append(*upload, content, 0, content.size()).value();
  std::unique_ptr<Store::Upload> again;
  const auto state = store_->state(manifest_of(files), again);
  EXPECT_FALSE(state);
  EXPECT_EQ(store_->totals().models, 0u);
  EXPECT_TRUE(fs::is_empty(folder_ / "store/partial"));
}

TEST_F(StoreTest, TheLeastRecentlyUsedGoesFirstNeverOneInUse) {
  open(100);
  const std::string forty(40, 'a'), other(40, 'b'), third(40, 'c'), fourth(40, 'd');
  const Sha256 a = put({{"model", forty}}), b = put({{"model", other}});
  const auto pin = store_->pin(a);
  ASSERT_TRUE(pin);
  const Sha256 c = put({{"model", third}});
  EXPECT_NE(path_of(a), "") << "pinned";
  EXPECT_EQ(path_of(b), "") << "evicted";
  EXPECT_NE(path_of(c), "");
  EXPECT_LE(store_->totals().used_bytes, 100u);

  const auto pin_c = store_->pin(c);
  std::unique_ptr<Store::Upload> upload;
  state({{"model", fourth}}, &upload);
  const auto full = append(*upload, fourth, 0, 40);
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().kind, ErrorKind::kOverloaded);
  EXPECT_LE(store_->totals().used_bytes, 100u);
}

TEST_F(StoreTest, AModelLargerThanTheStoreIsRefusedAtOnce) {
  open(10);
  std::unique_ptr<Store::Upload> upload;
  const auto state = store_->state(manifest_of({{"model", "more than ten bytes"}}), upload);
  ASSERT_FALSE(state);
  EXPECT_EQ(state.error().kind, ErrorKind::kRefused);
}

TEST_F(StoreTest, WhatNobodyFinishedMakesRoom) {
  open(100);
  std::unique_ptr<Store::Upload> upload;
  const std::string half(60, 'x'), whole(80, 'y');
  state({{"model", half}}, &upload);
  append(*upload, half, 0, 50).value();
  {
    std::unique_ptr<Store::Upload> second;
    state({{"model", whole}}, &second);
    EXPECT_EQ(append(*second, whole, 0, 80).error().kind, ErrorKind::kOverloaded)
        << "as long as its client is there";
  }
  upload.reset();
  EXPECT_EQ(store_->totals().used_bytes, 50u) << "only what came is kept";
  put({{"model", whole}});
  EXPECT_EQ(state({{"model", half}}).have_bytes[0], 0u);
}

TEST_F(StoreTest, ALowerLimitHoldsFromTheNextStart) {
  put({{"model", std::string(600, 'a')}});
  put({{"model", std::string(300, 'b')}});
  open(400);
  EXPECT_LE(store_->totals().used_bytes, 400u);
  EXPECT_EQ(store_->totals().models, 1u);
}

TEST_F(StoreTest, TwoClientsUploadOneFileAtOnce) {
  std::string content(1u << 20, '\0');
  for (std::size_t i = 0; i < content.size(); ++i) content[i] = static_cast<char>(i * 7 + i / 256);
  open(std::uint64_t{4} << 20);
  const auto client = [&] {
    std::unique_ptr<Store::Upload> upload;
    std::uint64_t have = state({{"model", content}}, &upload).have_bytes[0];
    while (upload && have < content.size()) {
      const auto now =
          append(*upload, content, have, std::min<std::size_t>(4096, content.size() - have));
      ASSERT_TRUE(now) << now.error().message;
      ASSERT_GT(*now, have);
      have = *now;
    }
  };
  std::vector<std::thread> clients;
  for (int i = 0; i < 4; ++i) clients.emplace_back(client);
  for (std::thread& thread : clients) thread.join();
  EXPECT_TRUE(state({{"model", content}}).complete);
  EXPECT_EQ(content_of(path_of(manifest_of({{"model", content}}).id())), content);
  EXPECT_EQ(store_->totals().used_bytes, content.size());
}

TEST_F(StoreTest, ASecondServerIsToldSo) {
  const auto second = Store::open({.folder = folder_ / "store"});
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().kind, ErrorKind::kInvalid);
  EXPECT_NE(second.error().message.find("in use by another server"), std::string::npos);
}

TEST_F(StoreTest, AStartClearsWhatACrashOrAHandLeft) {
  const Sha256 whole = put({{"model", "whole"}});
  const Sha256 broken = put({{"model", "broken"}, {"w", "weights"}});
  store_.reset();
  const fs::path store = folder_ / "store";
  fs::remove(store / "models" / broken.hex() / "files" / "w");
  fs::create_directories(store / "partial" / ("model-" + broken.hex()) / "files");
  fs::create_directories(store / "models" / "not a model");
  std::ofstream(store / "blobs" / "garbage") << "?";
  open();
  EXPECT_NE(path_of(whole), "");
  EXPECT_EQ(path_of(broken), "");
  EXPECT_TRUE(fs::is_empty(store / "partial"));
  EXPECT_FALSE(fs::exists(store / "blobs" / "garbage"));
  EXPECT_FALSE(fs::exists(store / "models" / "not a model"));
  put({{"model", "broken"}, {"w", "weights"}});
  EXPECT_NE(path_of(broken), "");
}

TEST_F(StoreTest, AFolderThatCannotBeMadeIsSaid) {
  std::ofstream(folder_ / "file") << "x";
  const auto store = Store::open({.folder = folder_ / "file/store"});
  ASSERT_FALSE(store);
  EXPECT_NE(store.error().message.find("file/store"), std::string::npos);
}

}  // namespace
}  // namespace outboard::serve
