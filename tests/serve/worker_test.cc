// SPDX-License-Identifier: Apache-2.0
// Worker processes with the fake engine: this program, called as `worker`, is one.
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <optional>
#include <thread>

#include "base/log.h"
#include "engine/forwarding.h"
#include "serve/worker/inside.h"
#include "serve/worker/workers.h"
#include "tests/serve/escape.h"
#include "tests/serve/support.h"
#include "wire/frame.h"
#include "wire/transport/socket.h"

namespace outboard::serve {
namespace {

using std::chrono::milliseconds;

// A server whose tenants all have workers.
class Isolated {
 public:
  explicit Isolated(const std::function<void(Workers::Options&)>& change = {}) {
    Workers::Options options;
    options.command = {"/proc/self/exe", "worker"};
    options.memory_bytes = std::uint64_t{1} << 30;
    if (change) change(options);
    auto made = Workers::start(options);
    EXPECT_TRUE(made) << made.error().message;
    workers = *made;
    ServerOptions server_options;
    server_options.store = {.folder = folder / "store"};
    server_options.settings.slots = 4;
    server_options.workers = workers;
    server_options.has_share = [shares = workers->share_cpu()](const TenantSpec&) {
      return shares;
    };
    server_options.isolate = [workers = workers](const TenantSpec& tenant) {
      return workers->engine_for(tenant);
    };
    auto started = Server::start(workers->facts(), std::move(server_options));
    EXPECT_TRUE(started) << started.error().message;
    server = std::move(*started);
  }
  // Connected as the tenant, with a model open under handle 1.
  std::unique_ptr<RawClient> client(const std::string& word, const std::string& tenant = "local") {
    auto [here, there] = wire::make_stream_pair();
    Tenant* who = &server->tenants().local();
    if (tenant != "local") who = *server->tenants().get({tenant, 1, {}});
    server->serve(std::move(there), *who);
    auto made = std::make_unique<RawClient>(std::move(here));
    made->hello();
    made->upload({{"model", word}});
    return made;
  }
  std::unique_ptr<RawClient> client_with(const std::string& word,
                                         const std::string& tenant = "local") {
    auto made = client(word, tenant);
    const auto opened = made->open(1, {{"model", word}});
    EXPECT_TRUE(opened) << opened.error().message;
    return made;
  }
  std::int64_t pid_of(const std::string& tenant) const {
    for (const Workers::Row& row : workers->rows())
      if (row.tenant == tenant) return row.pid;
    return 0;
  }
  void wait_until(const std::function<bool()>& condition) const {
    while (!condition()) std::this_thread::yield();
  }

  TemporaryFolder folder;
  std::shared_ptr<Workers> workers;
  std::unique_ptr<Server> server;
};

Result<std::vector<float>> run(RawClient& client, const std::vector<float>& x,
                               std::uint32_t deadline_us = 0) {
  client.send(wire::FrameKind::kRun, RawClient::run(1, x), deadline_us);
  OB_TRY(const std::string payload, client.receive());
  std::uint32_t size = 0;
  std::memcpy(&size, payload.data(), sizeof size);
  std::vector<float> y((payload.size() - size) / sizeof(float));
  std::memcpy(y.data(), payload.data() + size, y.size() * sizeof(float));
  return y;
}

const std::vector<float> kX = {1, 2, 3};

void expect_runs(RawClient& client) {
  const auto y = run(client, kX);
  ASSERT_TRUE(y) << y.error().message;
  EXPECT_EQ(*y, kX);
}

TEST(Worker, ComputesInAProcessOfItsOwnForEachTenant) {
  Isolated isolated;
  const auto alice = isolated.client_with("echo", "alice"),
             bob = isolated.client_with("echo", "bob");
  expect_runs(*alice);
  expect_runs(*bob);
  const std::int64_t a = isolated.pid_of("alice"), b = isolated.pid_of("bob");
  EXPECT_GT(a, 0);
  EXPECT_GT(b, 0);
  EXPECT_NE(a, b);
  EXPECT_NE(a, ::getpid());
  EXPECT_EQ(isolated.server->shared().engine->name(), "fake");
  EXPECT_EQ(isolated.server->shared().engine->version(), "1.0");
}

TEST(Worker, ACrashingModelEndsItsTenantsWorkerAndNobodyElses) {
  Isolated isolated;
  const auto good = isolated.client_with("echo", "alice"),
             bob = isolated.client_with("echo", "bob");
  const auto bad = isolated.client_with("crash", "alice");
  const std::int64_t a = isolated.pid_of("alice"), b = isolated.pid_of("bob");
  const auto failed = run(*bad, kX);
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().kind, ErrorKind::kInternal);
  EXPECT_NE(failed.error().message.find("signal 11"), std::string::npos) << failed.error().message;
  // The connection goes on, the others notice nothing, a session of the same tenant finds itself
  // open in a new process.
  expect_runs(*bob);
  EXPECT_EQ(isolated.pid_of("bob"), b);
  expect_runs(*good);
  EXPECT_NE(isolated.pid_of("alice"), a);
  EXPECT_EQ(isolated.workers->failed(), 2u);  // it was given a second chance
}

TEST(Worker, ARunThatDiedOfAnothersIsMadeOnceMore) {
  Isolated isolated;
  const auto good = isolated.client_with("block", "alice"),
             other = isolated.client_with("echo", "alice");
  good->send(wire::FrameKind::kRun, RawClient::run(1, kX), 2'000'000);
  isolated.wait_until([&] { return isolated.server->shared().queue.depth() == 1; });
  const std::int64_t before = isolated.pid_of("alice");
  ASSERT_EQ(::kill(static_cast<pid_t>(before), SIGKILL), 0);
  isolated.wait_until([&] {
    const std::int64_t pid = isolated.pid_of("alice");
    return pid != 0 && pid != before;
  });
  expect_runs(*other);
  const auto ended = good->receive();  // by its deadline, in the next worker
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().kind, ErrorKind::kTimeout) << ended.error().message;
  EXPECT_EQ(isolated.workers->failed(), 1u);
}

TEST(Worker, AModelThatCrashesWhileItIsOpenedIsAnErrorOfOpening) {
  Isolated isolated;
  const auto client = isolated.client("crash-open");
  const auto opened = client->open(1, {{"model", "crash-open"}});
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().kind, ErrorKind::kInternal);
  EXPECT_NE(opened.error().message.find("opened (signal 6"), std::string::npos)
      << opened.error().message;
}

TEST(Worker, AnOpeningThatDiedOfAnothersIsMadeOnceMore) {
  Isolated isolated;
  const auto client = isolated.client("hang-open");
  client->send(wire::FrameKind::kSessionOpen,
               wire::encode(wire::SessionOpen{1, manifest_of({{"model", "hang-open"}}).id(), {}}));
  std::int64_t first = 0, second = 0;
  isolated.wait_until([&] { return (first = isolated.pid_of("local")) != 0; });
  ASSERT_EQ(::kill(static_cast<pid_t>(first), SIGKILL), 0);
  isolated.wait_until([&] {
    second = isolated.pid_of("local");
    return second != 0 && second != first;
  });
  ASSERT_EQ(::kill(static_cast<pid_t>(second), SIGKILL), 0);
  const auto opened = client->receive();  // once
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().kind, ErrorKind::kInternal) << opened.error().message;
  EXPECT_EQ(isolated.workers->failed(), 2u);
}

TEST(Worker, WhoseModelsKeepCrashingWaitsForTheNextOne) {
  Isolated isolated;
  const auto client = isolated.client("crash-open");
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(client->open(1, {{"model", "crash-open"}}));
  const auto opened = client->open(1, {{"model", "crash-open"}});
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().kind, ErrorKind::kOverloaded);
  EXPECT_NE(opened.error().message.find("3 times in a row"), std::string::npos)
      << opened.error().message;
}

TEST(Worker, AHangingRunEndsIt) {
  Isolated isolated([](Workers::Options& options) { options.run_limit = milliseconds(1000); });
  const auto good = isolated.client_with("echo"), bad = isolated.client_with("hang");
  const auto failed = run(*bad, kX);
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().kind, ErrorKind::kInternal);
  EXPECT_NE(failed.error().message.find("a Run took longer than it may"), std::string::npos)
      << failed.error().message;
  expect_runs(*good);
}

TEST(Worker, AHangingOpenEndsIt) {
  Isolated isolated([](Workers::Options& options) { options.open_limit = milliseconds(1000); });
  const auto client = isolated.client("hang-open");
  const auto opened = client->open(1, {{"model", "hang-open"}});
  ASSERT_FALSE(opened);
  EXPECT_NE(opened.error().message.find("opening a model took longer"), std::string::npos)
      << opened.error().message;
}

TEST(Worker, IsKeptFromEverythingButItsWork) {
  Isolated isolated;
  const auto client = isolated.client_with("escape");
  const auto results = run(*client, kX);
  ASSERT_TRUE(results) << results.error().message;
  const auto attempts = escape_attempts();
  ASSERT_EQ(results->size(), attempts.size());
  for (std::size_t i = 0; i < attempts.size(); ++i)
    EXPECT_EQ((*results)[i], EPERM) << attempts[i].name;
  // The same attempts do not all fail where nothing forbids them.
  EXPECT_EQ(attempts.front().make(), 0);
}

TEST(Worker, SeesACancel) {
  Isolated isolated;
  const auto client = isolated.client_with("block");
  client->send(wire::FrameKind::kRun, RawClient::run(1, kX));
  isolated.wait_until([&] { return isolated.server->shared().queue.depth() == 1; });
  ASSERT_TRUE(
      client->connection.send({.kind = wire::FrameKind::kCancel, .request_id = client->request}));
  const auto ended = client->receive();
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().kind, ErrorKind::kCancelled);
  const std::int64_t before = isolated.pid_of("local");
  const auto again = isolated.client_with("echo");
  expect_runs(*again);
  EXPECT_EQ(isolated.pid_of("local"), before);
}

TEST(Worker, EndsARunAtItsDeadline) {
  Isolated isolated;
  const auto client = isolated.client_with("block");
  const auto ended = run(*client, kX, 50'000);
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().kind, ErrorKind::kTimeout);
}

TEST(Worker, PassesTheEnginesOwnErrorsOn) {
  Isolated isolated;
  const auto client = isolated.client_with("fail");
  const auto failed = run(*client, kX);
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().kind, ErrorKind::kEngine);
  EXPECT_EQ(failed.error().native_code, 6);
  const auto rejected = isolated.client("reject")->open(1, {{"model", "reject"}});
  ASSERT_FALSE(rejected);
  EXPECT_EQ(rejected.error().native_code, 7);
}

TEST(Worker, HasTheModelsExternalData) {
  Isolated isolated;
  const std::string data(reinterpret_cast<const char*>(kX.data()), kX.size() * sizeof(float));
  const auto client = isolated.client("echo");
  const std::vector<NamedContent> files = {{"model", "external"}, {"weights/w.bin", data}};
  client->upload(files);
  ASSERT_TRUE(client->open(1, files));
  const auto y = run(*client, {0});
  ASSERT_TRUE(y) << y.error().message;
  EXPECT_EQ(*y, kX);
}

TEST(Worker, TensorsOfAnySize) {
  Isolated isolated;
  const auto client = isolated.client_with("echo");
  for (const std::size_t count :
       {std::size_t{0}, std::size_t{1}, std::size_t{5000}, std::size_t{4} << 20}) {
    std::vector<float> x(count);
    for (std::size_t i = 0; i < count; ++i) x[i] = static_cast<float>(i % 1000);
    const auto y = run(*client, x);
    ASSERT_TRUE(y) << y.error().message;
    EXPECT_EQ(*y, x);
  }
}

TEST(Worker, ClaimsNoMoreOfTheServersMemoryThanItMayHave) {
  Isolated isolated([](Workers::Options& options) { options.memory_bytes = 64u << 20; });
  const auto client = isolated.client_with("big");
  ASSERT_TRUE(run(*client, {1, 2}));
  const auto refused = run(*client, std::vector<float>(100));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kRefused);
  ASSERT_TRUE(run(*client, {1, 2}));
}

TEST(Worker, ClaimsNoMoreByManySmallStrings) {
  Isolated isolated([](Workers::Options& options) { options.memory_bytes = 32u << 20; });
  const auto client = isolated.client_with("texts");
  ASSERT_TRUE(run(*client, {1}));
  const auto refused = run(*client, {1, 2, 3, 4});  // 4 MiB of lengths, and 48 of elements
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kRefused);
  ASSERT_TRUE(run(*client, {1}));
}

TEST(Worker, ManyRunsAtOnce) {
  Isolated isolated;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&isolated, t] {
      const auto client = isolated.client_with("echo", t % 2 == 0 ? "alice" : "bob");
      for (int i = 0; i < 100; ++i) {
        const std::vector<float> x(static_cast<std::size_t>(1 + i * 50), static_cast<float>(t));
        const auto y = run(*client, x);
        ASSERT_TRUE(y) << y.error().message;
        ASSERT_EQ(*y, x);
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(isolated.workers->failed(), 0u);
}

TEST(Worker, KilledFromOutsideItIsReplaced) {
  Isolated isolated;
  const auto client = isolated.client_with("echo");
  const std::int64_t before = isolated.pid_of("local");
  ASSERT_EQ(::kill(static_cast<pid_t>(before), SIGKILL), 0);
  isolated.wait_until([&] { return isolated.pid_of("local") != before; });
  expect_runs(*client);
  EXPECT_NE(isolated.pid_of("local"), before);
}

TEST(Worker, IsReapedThoughItsOutputIsHeldOpen) {
  Isolated isolated([](Workers::Options& options) { options.command.push_back("--hands-out"); });
  const auto client = isolated.client_with("escape");
  const auto handed = run(*client, kX);
  ASSERT_TRUE(handed) << handed.error().message;
  ASSERT_GE(handed->at(0), 1);
  const std::int64_t before = isolated.pid_of("local");
  ASSERT_EQ(::kill(static_cast<pid_t>(before), SIGKILL), 0);
  isolated.wait_until([&] { return isolated.pid_of("local") != before; });
  const auto next = isolated.client_with("echo");
  expect_runs(*next);
}

std::atomic<int> lines_said{0};

TEST(Worker, FillsNoLog) {
  lines_said = 0;
  set_log_sink([](LogLevel, std::string_view line) {
    if (line.starts_with("worker says")) ++lines_said;
  });
  const Nanoseconds begin = Clock::monotonic().now();
  {
    Isolated isolated([](Workers::Options& options) { options.command.push_back("--chatters"); });
    const auto client = isolated.client_with("escape");
    EXPECT_TRUE(run(*client, kX));
  }
  set_log_sink(nullptr);
  const auto looks = (Clock::monotonic().now() - begin) / milliseconds(100) + 1;
  EXPECT_GT(lines_said, 0);
  EXPECT_LE(lines_said, 20 * looks);
}

TEST(Worker, EndsWhenItIsNotNeeded) {
  Isolated isolated([](Workers::Options& options) { options.idle_time = milliseconds(1); });
  {
    auto worker = isolated.workers->make({"idle", 1, {}});
    ASSERT_TRUE(worker);
    EXPECT_FALSE((*worker)->retire_if_quiet(true));  // it was entered a moment ago
    (*worker)->leave();
    isolated.wait_until([&] { return (*worker)->has_ended(); });
    EXPECT_TRUE((*worker)->how_it_ended({})->expected);
  }
  EXPECT_EQ(isolated.workers->failed(), 0u);
  const auto client = isolated.client_with("echo");  // and another comes when one is
  expect_runs(*client);
}

TEST(Worker, OneTooManyTakesThePlaceOfOneThatIsQuiet) {
  Isolated isolated([](Workers::Options& options) { options.most = 1; });
  const auto alice = isolated.client_with("block", "alice");
  const auto bob = isolated.client_with("echo", "bob");
  expect_runs(*bob);
  EXPECT_EQ(isolated.pid_of("alice"), 0);
  alice->send(wire::FrameKind::kRun, RawClient::run(1, kX));
  isolated.wait_until([&] {
    const auto rows = isolated.workers->rows();
    return rows.size() == 1 && rows[0].tenant == "alice" &&
           isolated.server->shared().queue.depth() == 1;
  });
  // The other one is at work now, or in a moment, when its model is open.
  Result<std::vector<float>> full;
  isolated.wait_until([&] { return !(full = run(*bob, kX)); });
  EXPECT_EQ(full.error().kind, ErrorKind::kOverloaded);
}

TEST(Worker, AServerDoesNotStartWithoutOne) {
  Workers::Options options;
  options.command = {"/proc/self/exe", "worker", "--refuse"};
  const auto started = Workers::start(options);
  ASSERT_FALSE(started);
  EXPECT_NE(started.error().message.find("this worker refuses"), std::string::npos)
      << started.error().message;
  options.command = {"/no/such/program"};
  EXPECT_FALSE(Workers::start(options));
}

// ---- models that are shown (FakeEngine computes nothing: it says what a test asks it to)

class ShownModels : public testing::Test {
 protected:
  Result<std::string> show(const std::string& word) {
    auto* const optimiser = dynamic_cast<engine::ModelOptimiser*>(engine_.get());
    EXPECT_NE(optimiser, nullptr);
    return optimiser->optimise(std::as_bytes(std::span(word)), {});
  }
  Isolated isolated_{[](Workers::Options& options) { options.command.push_back("--shows"); }};
  std::unique_ptr<engine::Engine> engine_ = isolated_.workers->engine_for({"shows", 1, {}});
};

TEST_F(ShownModels, ComeWhole) {
  for (const std::size_t size : {std::size_t{0}, std::size_t{100'000}, std::size_t{20} << 20}) {
    const std::string word = "echo " + std::string(size, 'm');
    const auto shown = show(word);
    ASSERT_TRUE(shown) << shown.error().message;
    EXPECT_EQ(*shown, "optimised " + word);
  }
}

TEST_F(ShownModels, AreNoLargerThanAModelBecomes) {
  const auto vast = show("vast");
  ASSERT_FALSE(vast);
  EXPECT_EQ(vast.error().kind, ErrorKind::kInvalid);
  EXPECT_NE(vast.error().message.find("no model of (4) bytes"), std::string::npos)
      << vast.error().message;
  EXPECT_FALSE(show("nothing"));
  EXPECT_TRUE(show("echo"));  // in the same worker
  EXPECT_EQ(isolated_.workers->failed(), 0u);
}

TEST_F(ShownModels, AreAnErrorWhereTheWorkerEnds) {
  const auto crashed = show("crash-open");
  ASSERT_FALSE(crashed);
  EXPECT_EQ(crashed.error().kind, ErrorKind::kInternal) << crashed.error().message;
  EXPECT_TRUE(show("echo"));  // in the next one
}

TEST(Worker, ShowsNothingWhereItsEngineShowsNothing) {
  Isolated isolated;
  const auto engine = isolated.workers->engine_for({"shows", 1, {}});
  const std::string word = "echo";
  const auto shown =
      dynamic_cast<engine::ModelOptimiser&>(*engine).optimise(std::as_bytes(std::span(word)), {});
  ASSERT_FALSE(shown);
  EXPECT_EQ(shown.error().kind, ErrorKind::kUnimplemented) << shown.error().message;
}

TEST(Worker, HasTheExternalDataOfBytes) {
  Isolated isolated;
  const auto engine = isolated.workers->engine_for({"bytes", 1, {}});
  const std::string word = "external";
  engine::OpenOptions options;
  options.external_files = {{"w.bin", std::as_bytes(std::span(kX))}};
  const auto session = engine->open_bytes(std::as_bytes(std::span(word)), options);
  ASSERT_TRUE(session) << session.error().message;
  const std::vector<float> x = {0};
  const std::int64_t size = 1;
  const engine::InputView input{
      engine::ElementType::kFloat, std::span(&size, 1), std::as_bytes(std::span(x)), {}};
  const engine::OutputWanted wanted{};
  const auto y = (*session)->run(std::span(&input, 1), std::span(&wanted, 1));
  ASSERT_TRUE(y) << y.error().message;
  const auto got = (*y)->values()[0].data, sent = std::as_bytes(std::span(kX));
  EXPECT_TRUE(std::equal(got.begin(), got.end(), sent.begin(), sent.end()));
}

// ---- tensors in memory that both have

class InPlace : public testing::Test {
 protected:
  static constexpr std::size_t kCount = 65536;  // of the model "fixed"

  void SetUp() override {
    auto taken = dynamic_cast<engine::MemorySource&>(*engine_).take_memory(3 * kBytes);
    ASSERT_TRUE(taken) << taken.error().message;
    memory_ = std::move(*taken);
    const std::string word = "fixed";
    auto opened = engine_->open_bytes(std::as_bytes(std::span(word)), {});
    ASSERT_TRUE(opened) << opened.error().message;
    session_ = std::move(*opened);
  }
  std::span<float> floats(std::size_t third) {
    return {reinterpret_cast<float*>(memory_.get() + third * kBytes), kCount};
  }
  // Whether the second third is now what the first one is.
  bool run() {
    std::iota(floats(0).begin(), floats(0).end(), ++first_);
    const std::int64_t size = kCount;
    const engine::InputView input{
        engine::ElementType::kFloat, std::span(&size, 1), std::as_bytes(floats(0)), {}};
    const engine::OutputBuffer buffer{engine::ElementType::kFloat, std::span(&size, 1),
                                      std::as_writable_bytes(floats(1))};
    const engine::OutputWanted wanted{0, &buffer};
    const auto done = session_->run(std::span(&input, 1), std::span(&wanted, 1));
    EXPECT_TRUE(done) << done.error().message;
    return done && (*done)->values().at(0).data.data() == buffer.data.data() &&
           std::ranges::equal(floats(0), floats(1));
  }

  static constexpr std::size_t kBytes = kCount * sizeof(float);
  Isolated isolated_;
  std::unique_ptr<engine::Engine> engine_ = isolated_.workers->engine_for({"place", 1, {}});
  std::shared_ptr<std::byte> memory_;
  std::shared_ptr<engine::Session> session_;
  float first_ = 0;
};

TEST_F(InPlace, TensorsAreComputedWhereTheyAre) {
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(run());
  EXPECT_TRUE(std::ranges::all_of(floats(2), [](float x) { return x == 0; }));
}

TEST_F(InPlace, TheNextWorkerHasTheMemoryToo) {
  EXPECT_TRUE(run());
  const std::int64_t before = isolated_.pid_of("place");
  ASSERT_EQ(::kill(static_cast<pid_t>(before), SIGKILL), 0);
  isolated_.wait_until([&] { return isolated_.pid_of("place") != before; });
  EXPECT_TRUE(run());
  EXPECT_NE(isolated_.pid_of("place"), before);
}

TEST_F(InPlace, MemoryComesAndGoesAndMayOutliveItsEngine) {
  EXPECT_TRUE(run());
  for (int i = 0; i < 5; ++i) {
    auto taken = dynamic_cast<engine::MemorySource&>(*engine_).take_memory(3 * kBytes);
    ASSERT_TRUE(taken);
    memory_ = std::move(*taken);
    EXPECT_TRUE(run());
  }
  session_.reset();
  engine_.reset();
  memory_.get()[0] = std::byte{1};
}

TEST(RestartDelay, GrowsWhileItEndsAtOnceAndBeginsAnewAfterALongLife) {
  using std::chrono::seconds;
  RestartDelay delay;
  Nanoseconds now = seconds(100);
  for (int i = 0; i < RestartDelay::kAtOnce; ++i) {
    delay.ended(now, seconds(1));
    EXPECT_EQ(delay.left(now), Nanoseconds::zero());
  }
  std::vector<Nanoseconds> waits;
  for (int i = 0; i < 8; ++i) {
    delay.ended(now, seconds(1));
    waits.push_back(delay.left(now));
    now += delay.left(now);
    EXPECT_EQ(delay.left(now), Nanoseconds::zero());
  }
  EXPECT_EQ(waits, (std::vector<Nanoseconds>{seconds(1), seconds(2), seconds(4), seconds(8),
                                             seconds(16), seconds(32), seconds(60), seconds(60)}));
  delay.ended(now, std::chrono::hours(1));
  EXPECT_EQ(delay.left(now), Nanoseconds::zero());
}

// What the kernel says of every thread of a process, or nullopt where they differ.
std::optional<int> of_all_threads(std::int64_t pid, const std::function<int(pid_t)>& ask) {
  std::optional<int> found;
  std::error_code ignored;
  for (const auto& task :
       std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/task", ignored)) {
    errno = 0;
    const int said = ask(std::stoi(task.path().filename().string()));
    if (errno != 0) continue;  // it has ended
    if (found.value_or(said) != said) return std::nullopt;
    found = said;
  }
  return found;
}
std::optional<int> nice_of_process(std::int64_t pid) {
  return of_all_threads(
      pid, [](pid_t thread) { return ::getpriority(PRIO_PROCESS, static_cast<id_t>(thread)); });
}
std::optional<int> policy_of_process(std::int64_t pid) {
  return of_all_threads(pid, ::sched_getscheduler);
}

TEST(Worker, ANewWeightIsItsPriorityAtOnceAndItsSuccessors) {
  Isolated isolated;
  const auto client = isolated.client_with("echo", "asks");
  expect_runs(*client);
  const std::int64_t before = isolated.pid_of("asks");
  EXPECT_EQ(nice_of_process(before), nice_of(1));
  isolated.server->tenants().update({"asks", 0.1, {}});
  EXPECT_EQ(nice_of_process(before), nice_of(0.1));
  ASSERT_EQ(::kill(static_cast<pid_t>(before), SIGKILL), 0);
  isolated.wait_until([&] { return isolated.pid_of("asks") != before; });
  expect_runs(*client);
  EXPECT_EQ(nice_of_process(isolated.pid_of("asks")), nice_of(0.1));
}

// Those that flood, until they are let go.
class Flood {
 public:
  Flood(Isolated& isolated, const std::string& word, int callers) {
    for (int i = 0; i < callers; ++i)
      threads_.emplace_back([this, &isolated, word] {
        const auto client = isolated.client_with(word, "floods");
        while (on_) expect_runs(*client);
      });
  }
  ~Flood() {
    on_ = false;
    for (std::thread& thread : threads_) thread.join();
  }

 private:
  std::atomic<bool> on_{true};
  std::vector<std::thread> threads_;
};

class Shares : public testing::Test {
 protected:
  void SetUp() override {
    if (!isolated_.workers->share_cpu())
      GTEST_SKIP() << "NOT TESTED: this user may not raise a process's priority again";
  }
  Isolated isolated_{[](Workers::Options& options) {
    options.share_cpu = true;
    options.cores = 2;
  }};
};

TEST_F(Shares, NobodyWaitsForAnothersRuns) {
  std::vector<std::unique_ptr<RawClient>> flood;
  for (int i = 0; i < 8; ++i) {  // twice as many as slots, and none ends
    flood.push_back(isolated_.client_with("block", "floods"));
    flood.back()->send(wire::FrameKind::kRun, RawClient::run(1, kX));
  }
  isolated_.wait_until([&] { return isolated_.server->shared().tenants.queue_depth() == 8; });
  const auto other = isolated_.client_with("echo", "asks");
  expect_runs(*other);
  EXPECT_EQ(isolated_.server->shared().tenants.queue_depth(), 8u);
}

TEST_F(Shares, WhoFloodsGoesDownAndComesUpAgain) {
  const auto other = isolated_.client_with("echo", "asks");
  expect_runs(*other);
  std::int64_t flooder = 0;
  {
    const Flood flood(isolated_, "burn20", 4);
    isolated_.wait_until([&] { return (flooder = isolated_.pid_of("floods")) != 0; });
    isolated_.wait_until([&] {
      return nice_of_process(flooder) == kLowestNice && policy_of_process(flooder) == SCHED_IDLE;
    });
    EXPECT_EQ(nice_of_process(isolated_.pid_of("asks")), nice_of(1));
    EXPECT_EQ(policy_of_process(isolated_.pid_of("asks")), SCHED_OTHER);
    expect_runs(*other);
  }
  isolated_.wait_until([&] {
    return nice_of_process(flooder) == nice_of(1) && policy_of_process(flooder) == SCHED_OTHER;
  });
}

TEST_F(Shares, AreByTheNewWeightAtOnce) {
  const auto client = isolated_.client_with("echo", "asks");
  expect_runs(*client);
  for (const double weight : {0.2, 3.06}) {
    isolated_.server->tenants().update({"asks", weight, {}});
    EXPECT_EQ(nice_of_process(isolated_.pid_of("asks")), nice_of(weight));
  }
}

double cpu_ms_of(std::int64_t pid) {
  clockid_t clock{};
  timespec time{};
  EXPECT_EQ(::clock_getcpuclockid(static_cast<pid_t>(pid), &clock), 0);
  ::clock_gettime(clock, &time);
  return static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_nsec) / 1e6;
}

// All threads that there are, and those that they make, to one core: none of a flood's is beside.
void put_on_one_core(std::int64_t pid) {
  cpu_set_t allowed, one;
  CPU_ZERO(&one);
  ASSERT_EQ(::sched_getaffinity(0, sizeof allowed, &allowed), 0);
  for (int core = CPU_SETSIZE - 1; core >= 0 && CPU_COUNT(&one) == 0; --core)
    if (CPU_ISSET(core, &allowed)) CPU_SET(core, &one);
  const std::string folder = "/proc/" + std::to_string(pid) + "/task";
  for (int round = 0; round < 2; ++round)  // those that were just being made
    for (const auto& task : std::filesystem::directory_iterator(folder))
      (void)::sched_setaffinity(std::stoi(task.path().filename().string()), sizeof one, &one);
}

// What threads of a process waited for a core although they had something to do.
double waited_ms_of(std::int64_t pid) {
  double waited_ms = 0;
  std::error_code ignored;
  for (const auto& task :
       std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/task", ignored)) {
    double ran_ns = 0, waited_ns = 0;
    std::ifstream(task.path() / "schedstat") >> ran_ns >> waited_ns;
    waited_ms += waited_ns / 1e6;
  }
  return waited_ms;
}

// What a flood costs another: at most as much again. Both workers are on one core. What the flood
// took of a Run's time is what it had of the core meanwhile, and no more than the Run's worker
// waited for it; both are the kernel's to say. So what anybody else takes makes Runs slower, here
// as everywhere, but is not in what is asserted.
TEST_F(Shares, AFloodTakesAtMostAsMuchAgain) {
  constexpr int kRuns = 40;
  const auto client = isolated_.client_with("burn8", "asks"),
             first = isolated_.client_with("burn60", "floods");
  expect_runs(*client);
  expect_runs(*first);
  const std::int64_t asker = isolated_.pid_of("asks"), flooder = isolated_.pid_of("floods");
  for (const std::int64_t pid : {asker, flooder}) put_on_one_core(pid);
  struct Took {
    std::vector<double> own_ms, flood_ms, both_ms, wall_ms;
    double others_ms = 0;
  };
  const auto measure = [&] {
    Took took;
    for (int i = 0; i < kRuns; ++i) {
      std::this_thread::sleep_for(milliseconds(20));
      const Nanoseconds begin = Clock::monotonic().now();
      const double own = cpu_ms_of(asker), flood = cpu_ms_of(flooder), waited = waited_ms_of(asker);
      expect_runs(*client);
      const double wait_ms = waited_ms_of(asker) - waited;
      took.flood_ms.push_back(std::min(cpu_ms_of(flooder) - flood, wait_ms));
      took.others_ms += wait_ms - took.flood_ms.back();
      took.own_ms.push_back(cpu_ms_of(asker) - own);
      took.both_ms.push_back(took.own_ms.back() + took.flood_ms.back());
      took.wall_ms.push_back(
          std::chrono::duration<double, std::milli>(Clock::monotonic().now() - begin).count());
    }
    return took;
  };
  const auto p95 = [](std::vector<double> values) {
    std::ranges::sort(values);
    return values[values.size() * 95 / 100];
  };
  const auto sum = [](const std::vector<double>& values) {
    return std::accumulate(values.begin(), values.end(), 0.0);
  };
  const Took alone = measure();
  Took beside;
  {
    const Flood flood(isolated_, "burn60", 6);
    isolated_.wait_until([&] { return policy_of_process(flooder) == SCHED_IDLE; });
    beside = measure();
  }
  std::printf(
      "    Runs of 8 ms of a core, beside services of 60 ms: the flood took %.0f %% as much again; "
      "p95 of both %.1f ms (alone %.1f), on the clock %.1f ms (alone %.1f); others took %.0f %%\n",
      100 * sum(beside.flood_ms) / sum(beside.own_ms), p95(beside.both_ms), p95(alone.both_ms),
      p95(beside.wall_ms), p95(alone.wall_ms), 100 * beside.others_ms / sum(beside.own_ms));
  ASSERT_GT(sum(beside.flood_ms), 0) << "they share a core";
  EXPECT_LE(sum(beside.flood_ms), sum(beside.own_ms));
  // A single Run is judged where nobody else had much of the core.
  if (beside.others_ms < sum(beside.own_ms) / 4) {
    EXPECT_LE(p95(beside.both_ms), 2 * p95(alone.both_ms));
  } else {
    std::printf("    p95 NOT ASSERTED, the mean is: others wanted the core, too\n");
  }
}

std::vector<int> niced(CpuShares& shares, std::vector<CpuShares::Worker>& workers,
                       const std::vector<double>& cores, int steps, Nanoseconds& now) {
  std::vector<int> result;
  for (int step = 0; step < steps; ++step) {
    now += milliseconds(100);
    for (std::size_t i = 0; i < workers.size(); ++i)
      workers[i].cpu_time += Nanoseconds(static_cast<std::int64_t>(cores[i] * 1e8));
    result.clear();
    for (const auto& priority : shares.look(workers, now)) result.push_back(priority.nice);
  }
  return result;
}

TEST(CpuShares, OneAloneKeepsItsPriority) {
  CpuShares shares(2);
  std::vector<CpuShares::Worker> workers = {{.pid = 1, .weight = 1}};
  Nanoseconds now{};
  EXPECT_EQ(niced(shares, workers, {2}, 50, now), std::vector<int>{5});
}

TEST(CpuShares, WhoUsesMoreThanItsShareGoesDownWithinASecondOrTwo) {
  CpuShares shares(2);
  std::vector<CpuShares::Worker> workers = {{.pid = 1, .weight = 1}, {.pid = 2, .weight = 1}};
  Nanoseconds now{};
  EXPECT_EQ(niced(shares, workers, {1.8, 0.2}, 1, now), (std::vector<int>{5, 5}));
  EXPECT_EQ(niced(shares, workers, {1.8, 0.2}, 10, now), (std::vector<int>{19, 5}));
  EXPECT_EQ(niced(shares, workers, {0, 0.2}, 25, now), (std::vector<int>{5, 5}));
}

TEST(CpuShares, SharesAreByWeight) {
  CpuShares shares(4);
  std::vector<CpuShares::Worker> workers = {{.pid = 1, .weight = 3}, {.pid = 2, .weight = 1}};
  Nanoseconds now{};
  EXPECT_EQ(niced(shares, workers, {3, 1}, 50, now), (std::vector<int>{0, 5}));
  EXPECT_EQ(niced(shares, workers, {2, 2}, 50, now), (std::vector<int>{0, 19}));
}

// Two that flood `cores` cores, which the kernel shares out as their priorities say, ever after the
// first was there alone: what the first has, in the mean of the last ten seconds.
double settled(CpuShares& shares, double cores, double weight) {
  std::vector<CpuShares::Worker> workers = {{.pid = 1, .weight = weight}, {.pid = 2, .weight = 1}};
  const auto of_kernel = [](const CpuShares::Priority& priority) {
    return priority.yields ? 3 : 1024 * std::pow(1.25, -priority.nice);
  };
  Nanoseconds now{};
  double first = cores, sum = 0;
  for (int step = 0; step < 300; ++step) {
    now += milliseconds(100);
    workers[0].cpu_time += Nanoseconds(static_cast<std::int64_t>(first * 1e8));
    workers[1].cpu_time += Nanoseconds(static_cast<std::int64_t>((cores - first) * 1e8));
    const auto given = shares.look(workers, now);
    if (step == 29) {
      EXPECT_TRUE(given[0].yields);
      EXPECT_FALSE(given[1].yields);
    }
    if (step >= 30) first = cores / (1 + of_kernel(given[1]) / of_kernel(given[0]));
    if (step >= 200) sum += first;
  }
  return sum / 100;
}

TEST(CpuShares, TwoThatFloodSettleWhereEachHasItsShare) {
  CpuShares even(2), weighted(2);
  EXPECT_NEAR(settled(even, 2, 1), 1, 0.1);
  EXPECT_NEAR(settled(weighted, 2, 3), 1.5, 0.15);
}

TEST(CpuShares, WhoFloodsIsBelowWhoAsksAlsoBesideManyThatAreIdle) {
  CpuShares shares(1);
  std::vector<CpuShares::Worker> workers = {{.pid = 1, .weight = 1}, {.pid = 2, .weight = 1}};
  std::vector<double> uses = {0.7, 0.3};
  for (std::int64_t pid = 3; pid <= 12; ++pid) {
    workers.push_back({.pid = pid, .weight = 1});
    uses.push_back(0);
  }
  Nanoseconds now{};
  const auto nice = niced(shares, workers, uses, 20, now);
  EXPECT_EQ(nice[0], 19);
  EXPECT_LE(nice[1], 19 - 7);
  EXPECT_EQ(nice[2], 5);
}

TEST(CpuShares, ALittleUseIsNobodysLoss) {
  CpuShares shares(8);
  std::vector<CpuShares::Worker> workers = {{.pid = 1, .weight = 1}, {.pid = 2, .weight = 1}};
  Nanoseconds now{};
  EXPECT_EQ(niced(shares, workers, {0.95, 0.1}, 50, now), (std::vector<int>{5, 5}));
}

TEST(NiceOf, WeightsAreStepsOfTheKernels) {
  EXPECT_EQ(nice_of(1), 5);
  EXPECT_EQ(nice_of(3.06), 0);
  EXPECT_EQ(nice_of(1000), 0);
  EXPECT_EQ(nice_of(1 / 1.25), 6);
  EXPECT_EQ(nice_of(0.001), 19);
}

// Shows its models, in a worker.
class Showing final : public engine::ForwardingEngine {
 public:
  using ForwardingEngine::ForwardingEngine;
  Result<std::string> optimise(std::span<const std::byte> model,
                               const engine::OpenOptions& options) override {
    OB_TRY(const auto session, open_bytes(model, options));
    const std::string word(reinterpret_cast<const char*>(model.data()), model.size());
    if (word == "nothing") return std::string();
    return word == "vast" ? std::string(std::size_t{100} << 20, 'v') : "optimised " + word;
  }
};

// Sends its standard output, with a heartbeat, over every connection that it has.
std::vector<float> hand_out_output() {
  float times = 0;
  for (int fd = 3; fd < 256; ++fd) {
    int type = 0;
    socklen_t size = sizeof type;
    if (::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) != 0 || type != SOCK_STREAM) continue;
    wire::Stream* const stream = wire::make_socket_stream(fd).release();  // it is another's
    auto frame = wire::encode(wire::FrameHeader{.kind = wire::FrameKind::kHeartbeat});
    iovec part{frame.data(), frame.size()};
    times += stream->descriptors()->write_all_with(std::span(&part, 1), STDOUT_FILENO) ? 1 : 0;
  }
  return {times};
}

std::vector<float> chatter() {
  constexpr std::string_view kLine = "outboard: warning: this worker talks and talks\n";
  for (int i = 0; i < 10'000; ++i)
    if (::write(STDOUT_FILENO, kLine.data(), kLine.size()) < 0) return {};
  return {1};
}

std::vector<float> try_to_escape() {
  std::vector<float> results;
  for (const Attempt& attempt : escape_attempts())
    results.push_back(static_cast<float>(attempt.make()));
  return results;
}

}  // namespace
}  // namespace outboard::serve

int main(int argc, char** argv) {
  using namespace outboard;
  if (argc < 2 || std::string_view(argv[1]) != "worker") {
    testing::InitGoogleTest(&argc, argv);
    return RUN_ALL_TESTS();
  }
  auto escape = serve::try_to_escape;
  int nice = 0;
  bool shows = false;
  for (int i = 2; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--nice" && i + 1 < argc) nice = std::stoi(argv[i + 1]);
    if (argument == "--hands-out") escape = serve::hand_out_output;
    if (argument == "--chatters") escape = serve::chatter;
    if (argument == "--shows") shows = true;
    if (argument != "--refuse") continue;
    std::fprintf(stderr, "this worker refuses\n");
    return 1;
  }
  const auto worked = serve::run_worker({.library = argv[0], .nice = nice}, [=] {
    auto engine = std::make_unique<serve::FakeEngine>();
    engine->stage->escape = escape;
    using Made = Result<std::unique_ptr<engine::Engine>>;
    return shows ? Made(std::make_unique<serve::Showing>(std::move(engine)))
                 : Made(std::move(engine));
  });
  std::fprintf(stderr, "%s\n", worked.error().message.c_str());
  return 1;
}
