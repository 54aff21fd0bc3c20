// SPDX-License-Identifier: Apache-2.0
#include "wire/model_package.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "base/cursor.h"

namespace outboard::wire {
namespace {

namespace fs = std::filesystem;

std::string varint(std::size_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<char>(value | 0x80));
  out.push_back(static_cast<char>(value));
  return out;
}
std::string field(unsigned number, const std::string& body) {
  return varint(number << 3 | 2) + varint(body.size()) + body;
}
std::string model_with_external(const std::string& location) {
  return field(7, field(5, field(13, field(1, "location") + field(2, location))));
}

class PackageTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "outboard-package-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder = name;
  }
  void TearDown() override { fs::remove_all(folder); }
  std::string write(const std::string& name, const std::string& content) {
    const fs::path path = folder / name;
    fs::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary | std::ios::trunc) << content;
    return path.string();
  }
  static std::string content(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  fs::path folder;
};

TEST_F(PackageTest, SameContentSameName) {
  const auto one = ModelPackage::from_path(write("a.onnx", "content")).value();
  const auto two = ModelPackage::from_path(write("b.onnx", "content")).value();
  const auto three = ModelPackage::from_bytes(as_byte_span("content"), Spool::kMemory).value();
  EXPECT_EQ(one->id(), two->id());
  EXPECT_EQ(one->id(), three->id());
  EXPECT_NE(one->id(), ModelPackage::from_path(write("c.onnx", "other")).value()->id());
}

TEST_F(PackageTest, ExternalDataBelongsToTheModel) {
  write("data/w.bin", "weights");
  const auto package =
      ModelPackage::from_path(write("m.onnx", model_with_external("./data/w.bin"))).value();
  ASSERT_EQ(package->manifest().files.size(), 2u);
  EXPECT_EQ(package->manifest().files[1].name, "data/w.bin");
  EXPECT_EQ(package->total_bytes(), package->manifest().files[0].size_bytes + 7);
  std::array<std::byte, 16> bytes{};
  EXPECT_EQ(package->read_at(1, 3, bytes).value(), 4u);
  write("data/w.bin", "WEIGHTS");
  EXPECT_NE(ModelPackage::from_path(folder / "m.onnx").value()->id(), package->id());
}

TEST_F(PackageTest, ExternalDataOutsideTheFolderIsRefused) {
  for (const char* location : {"../up.bin", "/etc/hostname"}) {
    const auto result = ModelPackage::from_path(write("m.onnx", model_with_external(location)));
    ASSERT_FALSE(result) << location;
    EXPECT_EQ(result.error().kind, ErrorKind::kInvalid);
  }
}

TEST_F(PackageTest, MissingFilesAreNamed) {
  EXPECT_EQ(ModelPackage::from_path((folder / "none.onnx").string()).error().kind,
            ErrorKind::kNotFound);
  const auto result = ModelPackage::from_path(write("m.onnx", model_with_external("gone.bin")));
  EXPECT_EQ(result.error().kind, ErrorKind::kNotFound);
  EXPECT_NE(result.error().message.find("gone.bin"), std::string::npos);
}

TEST_F(PackageTest, AFolderIsNoModel) {
  EXPECT_NE(ModelPackage::from_path(folder.string()).error().message.find("regular file"),
            std::string::npos);
}

TEST_F(PackageTest, AnUnlinkedModelCanStillBeOpened) {
  const std::string path = write("m.onnx", "content");
  const auto package = ModelPackage::from_path(path).value();
  EXPECT_EQ(package->path_for_local_open().value(), path);
  fs::remove(path);
  EXPECT_EQ(content(package->path_for_local_open().value()), "content");
  write("m.onnx", "another");  // a new file at the old path
  EXPECT_EQ(content(package->path_for_local_open().value()), "content");
}

TEST_F(PackageTest, AModelRewrittenInPlaceIsNoticed) {
  const std::string path = write("m.onnx", "content");
  const auto package = ModelPackage::from_path(path).value();
  write("m.onnx", "CONTENT");
  EXPECT_NE(package->path_for_local_open().error().message.find("has changed"), std::string::npos);
  write("m.onnx", "content");  // the same bytes again
  EXPECT_TRUE(package->path_for_local_open());
}

class SpoolTest : public ::testing::TestWithParam<Spool> {};
INSTANTIATE_TEST_SUITE_P(All, SpoolTest, ::testing::Values(Spool::kDisk, Spool::kMemory));

TEST_P(SpoolTest, BytesAreKept) {
  std::string model(100'000, 'x');
  const auto package = ModelPackage::from_bytes(as_byte_span(model), GetParam()).value();
  model.assign(model.size(), 'y');  // the caller's memory is its own again
  std::ifstream in(package->path_for_local_open().value());
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(in), {}), std::string(100'000, 'x'));
}

TEST(Spool, NoneBorrowsUntilForgotten) {
  const std::string model = "content";
  const auto package = ModelPackage::from_bytes(as_byte_span(model), Spool::kNone).value();
  EXPECT_FALSE(package->can_open_locally());
  std::array<std::byte, 16> bytes{};
  EXPECT_EQ(package->read_at(0, 2, bytes).value(), 5u);
  package->forget_bytes();
  EXPECT_NE(package->read_at(0, 2, bytes).error().message.find("spool none"), std::string::npos);
  EXPECT_FALSE(package->path_for_local_open());
}

}  // namespace
}  // namespace outboard::wire
