// SPDX-License-Identifier: Apache-2.0
// A client whose server says anything: it lives inside somebody else's process, which must outlive
// it. The input is all that the server says on one connection.
#include <cstdint>
#include <string>

#include "tests/fuzz/script_stream.h"
#include "wire/client.h"

namespace outboard::wire {
namespace {

class AnySink final : public OutputSink {
 public:
  Result<std::span<std::byte>> allocate(std::size_t, const TensorHeader& header) override {
    if (header.data_bytes > (1u << 20))
      return error(ErrorKind::kRefused, "too large for this test");
    bytes_.resize(header.data_bytes);
    return std::span(bytes_);
  }
  Result<void> strings(std::size_t, const TensorHeader&,
                       std::span<const std::string_view> elements) override {
    for (const std::string_view element : elements) length_ += element.size();
    return {};
  }

 private:
  std::vector<std::byte> bytes_;
  std::size_t length_ = 0;
};

}  // namespace
}  // namespace outboard::wire

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace outboard::wire;
  const std::string says(reinterpret_cast<const char*>(data), size);
  bool is_first = true;
  ClientOptions options;
  options.connect = [&]() -> outboard::Result<std::unique_ptr<Stream>> {
    if (!std::exchange(is_first, false))
      return outboard::error(outboard::ErrorKind::kDisconnected, "one connection is all there is");
    return std::make_unique<ScriptStream>(says);
  };
  Client client(Access{}, std::move(options));
  ModelManifest manifest;
  manifest.files = {{"model", 4, {}}};
  (void)client.query(manifest);
  const auto session = client.open(manifest.id(), {});
  if (session) {
    AnySink sink;
    const std::uint32_t output = 0;
    (void)(*session)->run(std::span(&output, 1), {}, sink);
  }
  (void)client.status();
  return 0;
}
