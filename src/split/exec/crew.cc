// SPDX-License-Identifier: Apache-2.0
#include "split/exec/crew.h"

#include <sys/random.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>

#include "base/check.h"
#include "base/cursor.h"
#include "base/own_thread.h"

namespace outboard::split::exec {
namespace {

std::size_t at(int i) { return static_cast<std::size_t>(i); }

PlanId random_id() {
  PlanId id{};
  OB_CHECK(::getrandom(id.data(), sizeof id, 0) == static_cast<ssize_t>(sizeof id));
  return id;
}

}  // namespace

Result<void> provide_model(wire::Client& client, const wire::ModelPackage& package) {
  OB_TRY(const auto state, client.query(package.manifest()));
  if (state.complete) return {};
  return client.upload(package);
}

Result<std::unique_ptr<Crew>> Crew::set_up(engine::Engine& engine,
                                           const std::shared_ptr<const Graph>& graph,
                                           const wire::ModelPackage* package,
                                           const Program& program, std::span<const Member> members,
                                           int host, const CrewOptions& options, int* culprit) {
  int nobody = -1;
  int& blamed = culprit == nullptr ? nobody : *culprit;
  blamed = -1;
  const Nanoseconds begin = Clock::monotonic().now();
  std::unique_ptr<Crew> crew(new Crew(program));
  const int n = program.size();
  Assignment a;
  a.id = random_id();
  a.contexts = options.contexts;
  a.block_channels = options.block_channels;
  a.engine = name_and_version(engine);
  a.program = program;
  a.host = -1;
  for (int i = 0; i < n; ++i) {
    const Member& m = members[at(program.participants[at(i)])];
    a.program.participants[at(i)] = i;
    a.members.push_back(m.address);
    if (program.participants[at(i)] == host) a.host = i;
  }
  if (a.host < 0) return error(ErrorKind::kInternal, "the host takes no part in the plan");
  if (n > 1 && package == nullptr)
    return error(ErrorKind::kInternal, "a plan over several nodes needs the model's package");
  if (package != nullptr) a.model = package->id();
  a.input_shapes = input_shapes(*graph);
  a.layout = fingerprint(*graph, layout_of(*graph, a.program, a.host));

  // All nodes build at the same time; a thread for each, as its connection waits for the reply.
  crew->connections_.resize(at(n));
  crew->build_ms_.resize(at(n));
  std::vector<std::optional<Error>> failures(at(n));
  std::vector<std::thread> threads;
  for (int i = 0; i < n; ++i) {
    if (i == a.host) continue;
    threads.emplace_back([&, i] {
      const Member& m = members[at(program.participants[at(i)])];
      Assignment mine = a;
      mine.participant = i;
      mine.pace = m.pace;
      const auto assign = [&]() -> Result<void> {
        OB_CHECK_OK(provide_model(*m.client, *package));
        OB_TRY(crew->connections_[at(i)], m.client->dedicate());
        OB_TRY(const std::string reply,
               exchange(*crew->connections_[at(i)], wire::FrameKind::kSplitAssign, encode(mine),
                        wire::FrameKind::kSplitReady));
        OB_TRY(const Ready ready, decode_ready(as_byte_span(reply)));
        crew->build_ms_[at(i)] = ready.build_ms;
        return {};
      };
      if (auto done = assign(); !done)
        failures[at(i)] =
            std::move(done).error().while_doing("giving its part to the node (" + m.name + ")");
    });
  }
  auto part = on_own_thread([&] {
    return Part::build(engine, graph, a.program, a.host, a.host,
                       {.contexts = options.contexts,
                        .threads = options.threads,
                        .block_channels = options.block_channels,
                        .bands = package == nullptr ? nullptr : options.bands,
                        .model = a.model,
                        .niceness = options.niceness,
                        .first_frame_niceness = options.first_frame_niceness,
                        .pace = members[at(host)].pace});
  });
  for (auto& t : threads) t.join();
  for (int i = 0; i < n; ++i) {
    auto& failure = failures[at(i)];
    if (!failure) continue;
    blamed = program.participants[at(i)];
    return tl::make_unexpected(*std::move(failure));
  }
  if (!part) return tl::make_unexpected(std::move(part).error());
  crew->part_ = *std::move(part);
  crew->build_ms_[at(a.host)] = crew->part_->build_ms();

  for (const bool last : {false, true})
    for (int i = 0; i < n; ++i) {
      if (i == a.host) continue;
      auto done = exchange(*crew->connections_[at(i)],
                           last ? wire::FrameKind::kSplitJoin : wire::FrameKind::kSplitConnect,
                           last ? encode(Join{a.id, a.host}) : encode(a.id),
                           last ? wire::FrameKind::kSplitJoined : wire::FrameKind::kSplitConnected);
      if (!done) {
        blamed = program.participants[at(i)];
        return tl::make_unexpected(std::move(done).error().while_doing(
            "linking up the node (" + members[at(blamed)].name + ")"));
      }
      if (last) OB_CHECK_OK(crew->part_->attach(i, crew->connections_[at(i)]));
    }
  crew->part_->start();
  crew->set_up_ms_ =
      std::chrono::duration<double, std::milli>(Clock::monotonic().now() - begin).count();
  return crew;
}

Crew::~Crew() {
  if (part_) part_->fail({ErrorKind::kCancelled, "the plan has ended", 0});
}

Result<Crew::Outputs> Crew::run(std::span<const engine::InputView> inputs, Deadline deadline,
                                FramePatience patience) {
  OB_TRY(const auto frame, part_->begin(inputs, deadline));
  auto views = part_->wait(frame, deadline, patience);
  if (views) return Outputs{*std::move(views), frame};
  part_->abandon(frame);
  return tl::make_unexpected(std::move(views).error());
}

void Crew::say_alive() {
  for (const auto& c : connections_)
    if (c)
      (void)c->try_send({.kind = wire::FrameKind::kHeartbeat},
                        std::string_view("\0\0\0\0\0\0\0\0", 8));
}

int Crew::lost_member() const {
  const int lost = part_->lost();
  return lost < 0 ? -1 : program_.participants[at(lost)];
}

double difference(const Graph& graph, std::span<const std::span<const std::byte>> a,
                  std::span<const std::span<const std::byte>> b) {
  double worst = a.size() == b.size() ? 0 : std::numeric_limits<double>::infinity();
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    if (a[i].size() != b[i].size()) return std::numeric_limits<double>::infinity();
    if (std::equal(a[i].begin(), a[i].end(), b[i].begin())) continue;
    const Tensor& t = graph.tensors[at(graph.outputs[i])];
    if (t.element_type != static_cast<int>(engine::ElementType::kFloat))
      return std::numeric_limits<double>::infinity();
    double largest = std::numeric_limits<double>::min(), off = 0;
    for (std::size_t k = 0; k + sizeof(float) <= a[i].size(); k += sizeof(float)) {
      float x = 0, y = 0;
      std::memcpy(&x, a[i].data() + k, sizeof x);
      std::memcpy(&y, b[i].data() + k, sizeof y);
      if (std::isnan(x) && std::isnan(y)) continue;
      const double d = std::abs(double{x} - double{y});
      off = std::isnan(d) ? std::numeric_limits<double>::infinity() : std::max(off, d);
      largest = std::max(largest, std::abs(double{y}));
    }
    worst = std::max(worst, off / largest);
  }
  return worst;
}

}  // namespace outboard::split::exec
