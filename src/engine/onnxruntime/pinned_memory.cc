// SPDX-License-Identifier: Apache-2.0
#include "engine/onnxruntime/pinned_memory.h"

#include <cstring>
#include <string_view>
#include <utility>

namespace outboard::engine {
namespace {

using namespace std::string_view_literals;

// An ONNX model (IR 8, opset 13) that hands through one float: y = Identity(x).
constexpr std::string_view kIdentity =
    "\x08\x08"                                                           // ir_version
    "\x3a\x37"                                                           // graph
    "\x0a\x10\x0a\x01x\x12\x01y\x22\x08Identity"                         // node
    "\x12\x01g"                                                          // name
    "\x5a\x0f\x0a\x01x\x12\x0a\x0a\x08\x08\x01\x12\x04\x0a\x02\x08\x01"  // input: float [1]
    "\x62\x0f\x0a\x01y\x12\x0a\x0a\x08\x08\x01\x12\x04\x0a\x02\x08\x01"  // output
    "\x42\x04\x0a\x00\x10\x0d"sv;                                        // opset_import

}  // namespace

PinnedMemory::PinnedMemory(std::shared_ptr<const Library> library)
    : library_(std::move(library)),
      session_(library_->api().ReleaseSession),
      info_(library_->api().ReleaseMemoryInfo),
      allocator_(library_->api().ReleaseAllocator) {}

Result<std::shared_ptr<PinnedMemory>> PinnedMemory::make(std::shared_ptr<const Library> library,
                                                         const Device& device) {
  std::shared_ptr<PinnedMemory> memory(new PinnedMemory(std::move(library)));
  const Library& from = *memory->library_;
  const OrtApi& api = from.api();
  OB_TRY(const auto settings, make_session_options(from, device, {}));
  OB_CHECK_OK(from.check(api.CreateSessionFromArray(from.env(), kIdentity.data(), kIdentity.size(),
                                                    settings.get(), memory->session_.out())));
  OB_CHECK_OK(from.check(api.CreateMemoryInfo("CudaPinned", OrtDeviceAllocator, device.index,
                                              OrtMemTypeCPUOutput, memory->info_.out())));
  OB_CHECK_OK(from.check(
      api.CreateAllocator(memory->session_.get(), memory->info_.get(), memory->allocator_.out())));
  return memory;
}

Result<std::shared_ptr<std::byte>> PinnedMemory::take(std::uint64_t size_bytes) {
  void* bytes = nullptr;
  OB_CHECK_OK(
      library_->check(library_->api().AllocatorAlloc(allocator_.get(), size_bytes, &bytes)));
  if (bytes == nullptr)
    return error(ErrorKind::kOverloaded, "there is no page-locked memory ({} bytes)", size_bytes);
  std::memset(bytes, 0, size_bytes);
  return std::shared_ptr<std::byte>(static_cast<std::byte*>(bytes), [self = shared_from_this()](
                                                                        std::byte* taken) {
    (void)self->library_->check(self->library_->api().AllocatorFree(self->allocator_.get(), taken));
  });
}

}  // namespace outboard::engine
