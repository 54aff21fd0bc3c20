// SPDX-License-Identifier: Apache-2.0
// Files of bands and weights: found again, shared, damaged in every way, too many, nowhere to put
// them.
#include "split/exec/band_store.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <sys/stat.h>

#include <thread>

#include "base/log.h"
#include "tests/split/exec/own_folder.h"

namespace outboard::split::exec {
namespace {

namespace fs = std::filesystem;
using testing::OwnFolder;

Sha256 hash_of(const std::string& text) { return sha256(std::as_bytes(std::span(text))); }

std::shared_ptr<BandStore> open_store(const std::string& folder,
                                      std::uint64_t limit_bytes = 1u << 30) {
  auto store = BandStore::open({.folder = folder, .limit_bytes = limit_bytes});
  EXPECT_TRUE(store) << store.error().message;
  return store ? *std::move(store) : nullptr;
}

BandStore::Weight keep(BandStore& store, const std::string& bytes) {
  auto kept = store.keep(std::as_bytes(std::span(bytes)));
  EXPECT_TRUE(kept) << kept.error().message;
  return kept ? *std::move(kept) : BandStore::Weight{};
}

std::string text_of(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

// A band of these weights.
StoredBand band_of(BandStore& store, const std::vector<std::string>& weights) {
  StoredBand band{"a model", true, {}};
  for (const auto& bytes : weights) {
    const auto kept = keep(store, bytes);
    band.tensors.push_back({"w" + std::to_string(band.tensors.size()),
                            2,
                            {1, static_cast<std::int64_t>(bytes.size())},
                            kept.hash,
                            kept.file});
  }
  return band;
}

void expect_same(const StoredBand& got, const StoredBand& want) {
  EXPECT_EQ(got.model, want.model);
  EXPECT_EQ(got.optimised, want.optimised);
  ASSERT_EQ(got.tensors.size(), want.tensors.size());
  for (std::size_t i = 0; i < want.tensors.size(); ++i) {
    EXPECT_EQ(got.tensors[i].name, want.tensors[i].name);
    EXPECT_EQ(got.tensors[i].element_type, want.tensors[i].element_type);
    EXPECT_EQ(got.tensors[i].dims, want.tensors[i].dims);
    EXPECT_EQ(got.tensors[i].hash, want.tensors[i].hash);
    EXPECT_EQ(text_of(*got.tensors[i].weight), text_of(*want.tensors[i].weight));
  }
}

TEST(BandStore, FindsAfterAStartWhatAnotherOneAdded) {
  const OwnFolder folder;
  const Sha256 key = hash_of("key");
  const auto first = open_store(folder.path());
  const StoredBand band = band_of(*first, {"weights", std::string(5000, 'x')});
  EXPECT_FALSE(first->find(key));
  ASSERT_TRUE(first->add(key, band));
  const auto found = open_store(folder.path())->find(key);
  ASSERT_TRUE(found);
  expect_same(*found, band);
  EXPECT_FALSE(first->find(hash_of("another key")));
}

TEST(BandStore, HasAWeightOnceHoweverManyUseIt) {
  const OwnFolder folder;
  const auto store = open_store(folder.path());
  auto a = keep(*store, "weights");
  const auto b = keep(*store, "weights");
  EXPECT_EQ(a.file.get(), b.file.get());
  EXPECT_EQ(store->totals().weights, 1u);
  const auto other = keep(*store, "other weights");
  EXPECT_EQ(store->totals().weights, 2u);
  EXPECT_EQ(store->totals().weight_bytes, 20u);
  EXPECT_EQ(folder.files().size(), 2u);
  a = {};
  EXPECT_EQ(store->totals().weights, 2u);
  EXPECT_EQ(keep(*store, "weights").file.get(), b.file.get());
}

TEST(BandStore, LetsGoOfAWeightWithItsLastUser) {
  const OwnFolder folder;
  const auto store = open_store(folder.path());
  keep(*store, "weights");
  EXPECT_EQ(store->totals().weights, 0u);
  EXPECT_EQ(folder.files().size(), 1u);
}

TEST(BandStore, IsThisUsersAlone) {
  const OwnFolder folder;
  const std::string path = folder.path() + "/new/bands";
  const auto store = open_store(path);
  ASSERT_TRUE(store->add(hash_of("key"), band_of(*store, {"weights"})));
  for (const auto& entry : fs::recursive_directory_iterator(path)) {
    struct stat status{};
    ASSERT_EQ(::stat(entry.path().c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 077, 0u) << entry.path();
  }
  // One that others could write to is closed before anything of it is believed.
  ASSERT_EQ(::chmod(path.c_str(), 0777), 0);
  open_store(path);
  struct stat status{};
  ASSERT_EQ(::stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0700u);
}

TEST(BandStore, SaysWhyAFolderCannotBeUsed) {
  const OwnFolder folder;
  std::ofstream(folder.path() + "/file") << "no folder";
  const auto store = BandStore::open({.folder = folder.path() + "/file"});
  ASSERT_FALSE(store);
  EXPECT_NE(store.error().message.find("/file"), std::string::npos);
  EXPECT_FALSE(BandStore::open({.folder = folder.path() + "/file/below"}));
}

TEST(BandStore, FailsToKeepWhereItCannotWrite) {
  const OwnFolder folder;
  const auto store = open_store(folder.path());
  fs::remove_all(folder.path() + "/weights");
  std::ofstream(folder.path() + "/weights") << "no folder";
  const std::string bytes = "weights";
  EXPECT_FALSE(store->keep(std::as_bytes(std::span(bytes))));
}

// Any byte of any file, and any file cut off anywhere.
RC_GTEST_PROP(BandStoreFiles, AreNeverBelievedWhenDamaged, ()) {
  set_log_sink([](LogLevel, std::string_view) {});  // a line for each
  const OwnFolder folder;
  const Sha256 key = hash_of("key");
  StoredBand band;
  {
    const auto store = open_store(folder.path());
    band = band_of(*store, {"some weights", std::string(100, 'x')});
    RC_ASSERT(store->add(key, band).has_value());
  }
  const auto files = folder.files();
  const auto& path = files[*rc::gen::inRange<std::size_t>(0, files.size())];
  const auto size = fs::file_size(path);
  const auto place = *rc::gen::inRange<std::uintmax_t>(0, size);
  if (*rc::gen::arbitrary<bool>()) {
    fs::resize_file(path, place);
  } else {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(static_cast<std::streamoff>(place));
    const int was = file.get();
    file.seekp(static_cast<std::streamoff>(place));
    file.put(static_cast<char>(was ^ *rc::gen::inRange(1, 256)));
  }
  band = {};  // nothing of it is in use
  const auto store = open_store(folder.path());
  RC_ASSERT(!store->find(key));
  RC_ASSERT(!fs::exists(path));
  // Made anew it is there again.
  RC_ASSERT(store->add(key, band_of(*store, {"some weights", std::string(100, 'x')})).has_value());
  const auto found = open_store(folder.path())->find(key);
  RC_ASSERT(found.has_value());
  RC_ASSERT(text_of(*found->tensors[0].weight) == "some weights");
}

TEST(BandStore, ReadsAFileAgainThatWasChangedMeanwhile) {
  const OwnFolder folder;
  const auto store = open_store(folder.path());
  const Sha256 hash = keep(*store, "weights").hash;
  testing::damage(folder.path() + "/" + BandStore::location(hash));
  EXPECT_EQ(text_of(*keep(*store, "weights").file), "weights");
}

TEST(BandStore, DoesNotTakeOneBandForAnother) {
  const OwnFolder folder;
  const auto store = open_store(folder.path());
  ASSERT_TRUE(store->add(hash_of("a"), band_of(*store, {"weights"})));
  fs::rename(folder.path() + "/bands/" + hash_of("a").hex(),
             folder.path() + "/bands/" + hash_of("b").hex());
  EXPECT_FALSE(store->find(hash_of("b")));
}

TEST(BandStore, StaysWithinItsLimitAndTheOldestGoesFirst) {
  const OwnFolder folder;
  constexpr std::uint64_t kLimit = 20'000;
  const auto store = open_store(folder.path(), kLimit);
  const auto age = [&](const Sha256& weight, int hours) {
    fs::last_write_time(folder.path() + "/" + BandStore::location(weight),
                        fs::file_time_type::clock::now() - std::chrono::hours(hours));
  };
  for (char c = 'a'; c < 'd'; ++c) age(keep(*store, std::string(6000, c)).hash, 'e' - c);
  EXPECT_EQ(folder.size_bytes(), 18'000u);
  keep(*store, std::string(6000, 'a'));  // used again: now the youngest
  for (char c = 'd'; c < 'h'; ++c) {
    keep(*store, std::string(6000, c));
    EXPECT_LE(folder.size_bytes(), kLimit);
    EXPECT_LE(store->totals().folder_bytes, kLimit);
  }
  const auto is_there = [&](char c) {
    return fs::exists(folder.path() + "/" + BandStore::location(hash_of(std::string(6000, c))));
  };
  EXPECT_FALSE(is_there('b'));
  EXPECT_FALSE(is_there('c'));
  EXPECT_TRUE(is_there('g'));
}

TEST(BandStore, NeverRemovesWhatIsInUse) {
  const OwnFolder folder;
  const auto store = open_store(folder.path(), 20'000);
  const auto used = keep(*store, std::string(12'000, 'a'));
  keep(*store, std::string(6'000, 'b'));
  const std::string large(9'000, 'c');
  const auto kept = store->keep(std::as_bytes(std::span(large)));
  ASSERT_FALSE(kept);  // 'b' would go, and that is not enough
  EXPECT_EQ(kept.error().kind, ErrorKind::kOverloaded);
  EXPECT_TRUE(fs::exists(folder.path() + "/" + BandStore::location(used.hash)));
  EXPECT_EQ(text_of(*used.file), std::string(12'000, 'a'));
}

TEST(BandStore, HoldsALimitThatWasLowered) {
  const OwnFolder folder;
  {
    const auto store = open_store(folder.path());
    for (char c = 'a'; c < 'f'; ++c) keep(*store, std::string(1000, c));
  }
  open_store(folder.path(), 2'500);
  EXPECT_EQ(folder.size_bytes(), 2'000u);
}

TEST(BandStore, PutsBackWhatAnotherProcessRemovedWhileItIsInUse) {
  const OwnFolder folder;
  const auto store = open_store(folder.path());
  const auto used = keep(*store, "weights");
  const std::string path = folder.path() + "/" + BandStore::location(used.hash);
  fs::remove(path);
  EXPECT_EQ(keep(*store, "weights").file.get(), used.file.get());
  EXPECT_TRUE(fs::exists(path));
}

TEST(BandStore, TakesTheSameBytesFromManyThreads) {
  const OwnFolder folder;
  const auto store = open_store(folder.path());
  const auto other = open_store(folder.path());  // as another process would be
  std::vector<std::thread> threads;
  std::vector<BandStore::Weight> kept(8);
  for (std::size_t i = 0; i < kept.size(); ++i)
    threads.emplace_back([&, i] { kept[i] = keep(i % 2 == 0 ? *store : *other, "weights"); });
  for (auto& thread : threads) thread.join();
  for (const auto& one : kept) EXPECT_EQ(text_of(*one.file), "weights");
  EXPECT_EQ(store->totals().weights, 1u);
  EXPECT_EQ(folder.files().size(), 1u);
}

}  // namespace
}  // namespace outboard::split::exec
