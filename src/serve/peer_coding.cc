// SPDX-License-Identifier: Apache-2.0
// Coded and known tensors of a Run, as far as they are not in its frame.
#include <array>
#include <cstring>

#include "serve/peer.h"

namespace outboard::serve {

using wire::FrameHeader;
using wire::FrameKind;

// Data that cannot be read is a feature declined. Where memory is shared there is nothing to code.
void Peer::agree_on_coding(const wire::Hello& hello, wire::HelloReply& answer) {
  const wire::Feature* offer = wire::find_feature(hello.features, wire::kFeatureTensorCoding);
  if (offer == nullptr || shared_link_ || !shared_.settings.tensor_coding) return;
  const auto client = wire::decode_coding_offer(std::as_bytes(std::span(offer->data)));
  if (!client) return;
  coder_ = std::make_unique<wire::TensorCoder>(connection_, shared_.speed_meter, *client);
  answer.features.push_back(
      {wire::kFeatureTensorCoding, wire::encode(wire::make_offer(shared_.speed_meter))});
  const std::uint64_t limit = shared_.settings.known_bytes_per_connection;
  if (wire::find_feature(hello.features, wire::kFeatureKnownTensors) == nullptr || limit == 0)
    return;
  known_ = std::make_unique<wire::KnownTensors>(limit, shared_.statistics.known_bytes,
                                                shared_.settings.max_known_bytes);
  answer.features.push_back({wire::kFeatureKnownTensors, wire::encode_known_limit(limit)});
}

Result<void> Peer::handle_hint(const FrameHeader& header) {
  OB_TRY(const std::string payload, read_payload(header));
  OB_TRY(hint_, wire::decode_coding_hint(std::as_bytes(std::span(payload))));
  return {};
}

// Forms that were not agreed on end the connection.
Result<void> Peer::check_forms(const wire::RunRequest& request) const {
  for (const wire::TensorHeader& input : request.inputs) {
    if ((input.in_chunks && !coder_) || ((input.known || input.keep) && !known_))
      return error(ErrorKind::kInvalid, "an input came in a form which was not agreed on");
  }
  return {};
}

// What this connection sent before, for inputs that came as a hash; the positions of the others.
std::vector<std::uint32_t> Peer::find_known(const wire::RunRequest& request, KnownInputs& found) {
  std::vector<std::uint32_t> missing;
  found.resize(request.inputs.size());
  for (std::uint32_t i = 0; i < request.inputs.size(); ++i) {
    const wire::TensorHeader& input = request.inputs[i];
    if (!input.known) continue;
    found[i] = known_->find(*input.known, input.data_bytes);
    auto& counter = found[i] ? shared_.statistics.known_hits : shared_.statistics.known_misses;
    counter.fetch_add(1, std::memory_order_relaxed);
    if (!found[i]) missing.push_back(i);
  }
  return missing;
}

// The inputs that follow the Run's frame, into `places`: those in chunks, then those that the
// client took to be here and that have to be asked for.
Result<Result<void>> Peer::receive_coded(const wire::RunRequest& request,
                                         std::span<const std::uint32_t> missing,
                                         std::span<const std::span<std::byte>> places,
                                         const std::function<bool(std::uint64_t)>& grow) {
  bool cancelled = false;
  Result<void> answer;
  const auto receive = [&](std::uint32_t i) -> Result<void> {
    std::span<std::byte> rest = places[i];
    while (!rest.empty() && answer) {
      OB_TRY(const std::size_t size,
             coder_->receive_chunk(request_id_, request.inputs[i], rest, cancelled));
      rest = rest.subspan(size);
      if (!grow(size))
        answer = error(ErrorKind::kOverloaded,
                       "the server holds as many bytes of Runs under way as it may");
    }
    return {};
  };
  for (std::uint32_t i = 0; i < request.inputs.size() && answer; ++i)
    if (request.inputs[i].in_chunks) OB_CHECK_OK(receive(i));
  if (!missing.empty() && answer) {
    const std::string list = wire::encode_tensors_wanted(missing);
    OB_CHECK_OK(
        connection_.send({.kind = FrameKind::kTensorsWanted, .request_id = request_id_}, list));
    for (const std::uint32_t i : missing)
      if (answer) OB_CHECK_OK(receive(i));
  }
  for (std::uint32_t i = 0; i < request.inputs.size() && answer; ++i)
    if (request.inputs[i].keep) known_->keep(places[i]);
  if (answer && cancelled) answer = error(ErrorKind::kCancelled, "the Run was cancelled");
  return answer;
}

// How an output travels; kRaw: in the result's frame.
wire::Coding Peer::choose_coding(const wire::RunRequest& request, std::size_t index,
                                 const wire::TensorHeader& header,
                                 std::span<const std::byte> data) {
  if (!coder_ || header.shared_offset) return wire::Coding::kRaw;
  return coder_
      ->choose(std::uint64_t{request.session} << 32 | request.outputs[index], header, data,
               static_cast<double>(hint_.down_bytes_per_s), hint_.mode)
      .coding;
}

Result<void> Peer::send_coded(const wire::RunRequest& request, const wire::RunResult& result,
                              const engine::RunOutputs& outputs,
                              std::span<const wire::Coding> codings) {
  for (std::size_t i = 0; i < result.outputs.size(); ++i) {
    if (!result.outputs[i].in_chunks) continue;
    OB_CHECK_OK(coder_->send(request_id_, std::uint64_t{request.session} << 32 | request.outputs[i],
                             codings[i], result.outputs[i], outputs.values()[i].data));
  }
  return {};
}

void Peer::count_coding() {
  if (!coder_) return;
  const wire::CodingAccount account = coder_->take_account();
  shared_.statistics.coded_tensor_bytes.fetch_add(
      account.tensor_bytes_sent + account.tensor_bytes_received, std::memory_order_relaxed);
  shared_.statistics.coded_chunk_bytes.fetch_add(
      account.chunk_bytes_sent + account.chunk_bytes_received, std::memory_order_relaxed);
}

}  // namespace outboard::serve
