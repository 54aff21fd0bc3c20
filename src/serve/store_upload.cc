// SPDX-License-Identifier: Apache-2.0
// Pieces of files, in order, from any number of clients at once.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/check.h"
#include "base/log.h"
#include "serve/store_internal.h"

namespace outboard::serve {
namespace {

constexpr std::size_t kReadStepBytes = 1u << 20;

// A hasher that has seen the file's first `count` bytes: what an earlier upload left.
Result<std::unique_ptr<Sha256Hasher>> hash_so_far(const File& file, const std::string& path,
                                                  std::uint64_t count) {
  auto hasher = std::make_unique<Sha256Hasher>();
  std::vector<std::byte> buffer(std::min<std::uint64_t>(count, kReadStepBytes));
  for (std::uint64_t done = 0; done < count;) {
    const auto step = std::span(buffer).first(std::min<std::uint64_t>(buffer.size(), count - done));
    OB_CHECK_OK(read_at(file, path, done, step));
    hasher->update(step);
    done += step.size();
  }
  return hasher;
}

}  // namespace

Result<std::uint64_t> Store::append(const Upload& upload, const wire::UploadChunk& chunk,
                                    std::span<const std::byte> bytes) {
  const auto& files = upload.manifest().files;
  const auto named = std::find_if(files.begin(), files.end(), [&](const wire::ModelFile& file) {
    return file.sha256 == chunk.file && file.size_bytes == chunk.file_bytes;
  });
  if (named == files.end())
    return error(
        ErrorKind::kInvalid,
        "the chunk's file ({}, {} bytes) must be one of a model that was asked for on this "
        "connection",
        chunk.file.hex().substr(0, 12), chunk.file_bytes);
  if (bytes.empty() || bytes.size() > chunk.file_bytes - std::min(chunk.offset, chunk.file_bytes))
    return error(ErrorKind::kInvalid, "the chunk's bytes ({} from {}) must lie in the file ({})",
                 bytes.size(), chunk.offset, chunk.file_bytes);
  std::shared_ptr<Blob> blob;
  {
    const std::lock_guard lock(mutex_);
    blob = blobs_.at(chunk.file);  // held by the upload
    if (!blob->complete) OB_CHECK_OK(reserve(*blob, chunk.file_bytes));
  }
  const std::lock_guard lock(blob->upload);
  return append_locked(*blob, chunk, bytes);
}

Result<std::uint64_t> Store::append_locked(Blob& blob, const wire::UploadChunk& chunk,
                                           std::span<const std::byte> bytes) {
  // `complete` changes only under both mutexes, and so may be read under either.
  if (blob.complete) return blob.have_bytes.load();
  const std::string path = partial_path(blob.hash);
  std::uint64_t have = blob.have_bytes;
  if (chunk.offset > have)
    return error(ErrorKind::kInvalid, "the chunk's offset ({}) must be what is there ({})",
                 chunk.offset, have);
  if (chunk.offset + bytes.size() <= have && have < chunk.file_bytes) return have;
  if (!blob.file.is_open()) {
    OB_TRY(blob.file, open_file(path, O_RDWR | O_CREAT));
    if (have > chunk.file_bytes) have = 0;  // a leftover that cannot be this file
    if (::ftruncate(blob.file.get(), static_cast<off_t>(have)) != 0)
      return file_error("resuming", path, errno);
    OB_TRY(blob.hasher, hash_so_far(blob.file, path, have));
    blob.have_bytes = have;
    if (chunk.offset > have)
      return error(ErrorKind::kInvalid, "the chunk's offset ({}) must be what is there ({})",
                   chunk.offset, have);
  }
  if (have < chunk.offset + bytes.size()) {
    const auto fresh = bytes.subspan(have - chunk.offset);
    OB_CHECK_OK(write_at(blob.file, path, have, fresh));
    blob.hasher->update(fresh);
    have += fresh.size();
    blob.have_bytes = have;
  }
  if (have == chunk.file_bytes) OB_CHECK_OK(finish(blob, chunk));
  return have;
}

// A file without bytes is never uploaded. Called with the store's mutex held.
Result<void> Store::complete_empty(Blob& blob) {
  if (blob.hash != sha256({}))
    return error(ErrorKind::kInvalid, "the hash ({}) must be that of an empty file",
                 blob.hash.hex().substr(0, 12));
  OB_CHECK_OK(open_file(blob_path(blob.hash), O_WRONLY | O_CREAT));
  blob.complete = true;
  return {};
}

// The last byte has come: verifies, makes durable, and moves the file to its place.
Result<void> Store::finish(Blob& blob, const wire::UploadChunk& chunk) {
  const std::string path = partial_path(blob.hash);
  const bool right = blob.hasher->finish() == blob.hash;
  blob.hasher.reset();
  const File file = std::move(blob.file);
  blob.file = File();
  if (!right) {
    blob.have_bytes = 0;
    ::unlink(path.c_str());
    return error(ErrorKind::kInvalid,
                 "the uploaded bytes do not have the file's hash ({}); the upload begins anew",
                 blob.hash.hex().substr(0, 12));
  }
  OB_CHECK_OK(sync_file(file, path));
  OB_CHECK_OK(rename_path(path, blob_path(blob.hash)));
  OB_CHECK_OK(sync_folder(options_.folder + "/blobs"));
  const std::lock_guard lock(mutex_);
  used_bytes_ -= blob.reserved_bytes - chunk.file_bytes;  // another size may have been claimed
  blob.reserved_bytes = chunk.file_bytes;
  blob.complete = true;
  return {};
}

}  // namespace outboard::serve
