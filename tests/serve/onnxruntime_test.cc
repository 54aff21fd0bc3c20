// SPDX-License-Identifier: Apache-2.0
// The whole way: the project's client, a transport, the server and the real ONNX Runtime.
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "base/limits.h"
#include "engine/onnxruntime/engine.h"
#include "tests/serve/support.h"
#include "wire/client.h"

namespace outboard::serve {
namespace {

using wire::ElementType;

std::string model_path(const std::string& name) {
  return std::string(std::getenv("OUTBOARD_BINARY_DIR")) + "/tests/models/" + name;
}

// Keeps what a Run gave.
struct Collected final : wire::OutputSink {
  struct Output {
    wire::TensorHeader header;
    std::vector<std::byte> data;
    std::vector<std::string> strings;
  };
  Result<std::span<std::byte>> allocate(std::size_t, const wire::TensorHeader& header) override {
    outputs.push_back({header, std::vector<std::byte>(header.data_bytes), {}});
    return std::span<std::byte>(outputs.back().data);
  }
  Result<void> strings(std::size_t, const wire::TensorHeader& header,
                       std::span<const std::string_view> elements) override {
    outputs.push_back({header, {}, {elements.begin(), elements.end()}});
    return {};
  }
  template <typename T>
  std::vector<T> values(std::size_t i) const {
    std::vector<T> result(outputs[i].data.size() / sizeof(T));
    std::memcpy(result.data(), outputs[i].data.data(), outputs[i].data.size());
    return result;
  }
  std::vector<Output> outputs;
};

template <typename T>
wire::InputTensor input(ElementType type, std::vector<std::int64_t> dims,
                        const std::vector<T>& values) {
  return {{type, std::move(dims), values.size() * sizeof(T)}, std::as_bytes(std::span(values))};
}

class Whole : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    engine::OnnxRuntimeOptions engine_options;
    engine_options.shared_threads = true;
    auto engine = engine::load_onnxruntime(engine_options);
    ASSERT_TRUE(engine) << engine.error().message;
    ServerOptions options;
    options.store.folder = folder_ / "store";
    if (GetParam() == "tcp") options.listen = {*wire::parse_endpoint("127.0.0.1:0")};
    if (GetParam() == "unix") options.listen = {*wire::parse_endpoint("unix:" + (folder_ / "s"))};
    auto server = Server::start(std::move(*engine), std::move(options));
    ASSERT_TRUE(server) << server.error().message;
    server_ = std::move(*server);
    wire::ClientOptions client_options;
    wire::Endpoint endpoint;
    if (GetParam() == "pair") {
      client_options.connect = [this]() -> Result<std::unique_ptr<wire::Stream>> {
        auto [here, there] = wire::make_stream_pair();
        server_->serve(std::move(there));
        return std::move(here);
      };
    } else {
      endpoint = server_->addresses()[0];
    }
    client_ = std::make_unique<wire::Client>(endpoint, client_options);
  }
  void TearDown() override { client_.reset(); }

  Result<std::shared_ptr<wire::RemoteSession>> open(const std::string& name,
                                                    const wire::SessionOptions& options = {}) {
    OB_TRY(const auto package, wire::ModelPackage::from_path(model_path(name)));
    OB_CHECK_OK(client_->upload(*package));
    return client_->open(package->id(), options);
  }
  // Opens and runs with all outputs.
  Result<Collected> run(const std::string& name, const std::vector<wire::InputTensor>& inputs) {
    OB_TRY(const auto session, open(name));
    std::vector<std::uint32_t> wanted(session->description().outputs.size());
    for (std::uint32_t i = 0; i < wanted.size(); ++i) wanted[i] = i;
    Collected sink;
    OB_CHECK_OK(session->run(wanted, inputs, sink));
    return sink;
  }

  TemporaryFolder folder_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<wire::Client> client_;
};

TEST_P(Whole, TheDescriptionIsTheRuntimesOwn) {
  const auto session = open("add.onnx");
  ASSERT_TRUE(session) << session.error().message;
  const auto& description = (*session)->description();
  EXPECT_EQ(description.inputs[0].name, "x");
  EXPECT_EQ(description.inputs[0].dims, (std::vector<std::int64_t>{-1, 3}));
  EXPECT_EQ(description.inputs[0].dim_names, (std::vector<std::string>{"batch", ""}));
  EXPECT_EQ(description.graph_name, "add one");
  EXPECT_EQ(description.version, 7);
  EXPECT_EQ(description.custom_metadata.at("author"), "tests");
}

TEST_P(Whole, ARunIsOneRoundTrip) {
  const auto session = open("add.onnx");
  ASSERT_TRUE(session) << session.error().message;
  const std::vector<float> x{1, 2, 3};
  const std::vector<std::uint32_t> wanted{0};
  const auto sent = client_->frames_sent(), received = client_->frames_received();
  for (int i = 0; i < 10; ++i) {
    Collected sink;
    const auto account =
        (*session)->run(wanted, std::array{input(ElementType::kFloat, {1, 3}, x)}, sink);
    ASSERT_TRUE(account) << account.error().message;
    EXPECT_EQ(sink.values<float>(0), (std::vector<float>{2, 3, 4}));
    EXPECT_GT(account->server.compute_ns, 0u);
    EXPECT_LE(account->server.compute_ns + account->server.queue_ns,
              account->send_ns + account->wait_ns + account->receive_ns);
  }
  EXPECT_EQ(client_->frames_sent() - sent, 10u);
  EXPECT_EQ(client_->frames_received() - received, 10u);
}

TEST_P(Whole, EveryElementType) {
  for (const auto type :
       {ElementType::kFloat, ElementType::kUint8, ElementType::kInt8, ElementType::kUint16,
        ElementType::kInt16, ElementType::kInt32, ElementType::kInt64, ElementType::kBool,
        ElementType::kFloat16, ElementType::kDouble, ElementType::kUint32, ElementType::kUint64,
        ElementType::kBfloat16}) {
    const std::vector<std::uint8_t> bytes(3 * wire::bits_of(type) / 8, 1);
    const auto result =
        run("identity_" + std::string(wire::name_of(type)) + ".onnx", {input(type, {3}, bytes)});
    ASSERT_TRUE(result) << wire::name_of(type) << ": " << result.error().message;
    EXPECT_EQ(result->outputs[0].header.type, type);
    EXPECT_EQ(result->values<std::uint8_t>(0), bytes) << wire::name_of(type);
  }
}

TEST_P(Whole, Strings) {
  using namespace std::string_view_literals;
  const std::vector<std::string_view> texts{"", "grün"sv, "with\0nul"sv};
  const std::string encoded = wire::encode_strings(texts);
  const wire::InputTensor tensor{{ElementType::kString, {3}, encoded.size()}, bytes_of(encoded)};
  const auto result = run("identity_string.onnx", {tensor});
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_EQ(result->outputs[0].strings, (std::vector<std::string>(texts.begin(), texts.end())));
}

TEST_P(Whole, ScalarsEmptyOnesNoInputsAndDynamicOutputs) {
  const std::vector<float> one{5}, none, some{0, 1, 0, 2};
  auto result = run("scalar.onnx", {input(ElementType::kFloat, {}, one)});
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_EQ(result->values<float>(0), one);
  EXPECT_TRUE(result->outputs[0].header.dims.empty());
  result = run("identity_float.onnx", {input(ElementType::kFloat, {0}, none)});
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_EQ(result->outputs[0].header.dims, (std::vector<std::int64_t>{0}));
  result = run("no_inputs.onnx", {});
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_EQ(result->values<std::int64_t>(0), (std::vector<std::int64_t>{4, 2}));
  result = run("nonzero.onnx", {input(ElementType::kFloat, {4}, some)});
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_EQ(result->values<std::int64_t>(0), (std::vector<std::int64_t>{1, 3}));
  result = run("shapeless.onnx", {input(ElementType::kFloat, {1, 1, 1}, one)});
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_EQ(result->outputs[0].header.dims, (std::vector<std::int64_t>{1, 1, 1}));
}

TEST_P(Whole, OnlyTheOutputsWanted) {
  const auto session = open("two_outputs.onnx");
  ASSERT_TRUE(session) << session.error().message;
  const std::vector<float> a{5, 7}, b{1, 2};
  Collected sink;
  ASSERT_TRUE((*session)->run(
      std::array{1u},
      std::array{input(ElementType::kFloat, {2}, a), input(ElementType::kFloat, {2}, b)}, sink));
  ASSERT_EQ(sink.outputs.size(), 1u);
  EXPECT_EQ(sink.values<float>(0), (std::vector<float>{4, 5}));
}

TEST_P(Whole, ExternalDataComesAlong) {
  const std::vector<float> x(128, 0.0f);
  const auto result = run("external/model.onnx", {input(ElementType::kFloat, {1, 128}, x)});
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_EQ(result->values<float>(0), x);
}

TEST_P(Whole, LargeTensors) {
  std::vector<float> x(std::size_t{4} << 20);  // 16 MB each way
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 1000);
  const auto result = run("identity_float.onnx",
                          {input(ElementType::kFloat, {static_cast<std::int64_t>(x.size())}, x)});
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_TRUE(result->values<float>(0) == x);
}

TEST_P(Whole, ErrorsAreTheRuntimesOwn) {
  auto session = open("unknown_operator.onnx");
  ASSERT_FALSE(session);
  EXPECT_EQ(session.error().kind, ErrorKind::kEngine);
  EXPECT_NE(session.error().native_code, 0);
  EXPECT_NE(session.error().message.find("NoSuchOperator"), std::string::npos);
  const std::vector<std::int64_t> index{99};
  const auto result = run("gather.onnx", {input(ElementType::kInt64, {1}, index)});
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, ErrorKind::kEngine);
  EXPECT_EQ(result.error().native_code, 2);
  session = open("sequence.onnx");
  ASSERT_FALSE(session);
  EXPECT_EQ(session.error().kind, ErrorKind::kUnimplemented);
  session = open("overridable.onnx");
  ASSERT_FALSE(session);
  EXPECT_EQ(session.error().kind, ErrorKind::kUnimplemented);
}

TEST_P(Whole, AFileThatIsNoModel) {
  const std::string path = folder_ / "garbage.onnx";
  std::ofstream(path) << "this is no model at all";
  const auto package = wire::ModelPackage::from_path(path);
  ASSERT_TRUE(package) << package.error().message;
  ASSERT_TRUE(client_->upload(**package));
  const auto session = client_->open((*package)->id(), {});
  ASSERT_FALSE(session);
  EXPECT_EQ(session.error().kind, ErrorKind::kEngine);
  EXPECT_EQ(session.error().native_code, 7) << "ORT_INVALID_PROTOBUF";
}

TEST_P(Whole, FreeDimensionsAndOptimisationLevel) {
  wire::SessionOptions options;
  options.graph_optimization_level = 0;
  options.free_dimensions_by_name["batch"] = 4;
  const auto session = open("add.onnx", options);
  ASSERT_TRUE(session) << session.error().message;
  EXPECT_EQ((*session)->description().inputs[0].dims, (std::vector<std::int64_t>{4, 3}));
}

TEST_P(Whole, ACancelEndsALongRun) {
  const auto session = open("slow.onnx");
  ASSERT_TRUE(session) << session.error().message;
  const std::vector<std::int64_t> forever{1'000'000'000}, once{1};
  wire::CancelToken token;
  std::thread canceller([&] {
    while (server_->shared().queue.depth() == 0) std::this_thread::yield();
    token.cancel();
  });
  Collected sink;
  const auto account = (*session)->run(
      std::array{0u}, std::array{input(ElementType::kInt64, {}, forever)}, sink, &token);
  canceller.join();
  ASSERT_FALSE(account);
  EXPECT_EQ(account.error().kind, ErrorKind::kCancelled);
  EXPECT_TRUE(
      (*session)->run(std::array{0u}, std::array{input(ElementType::kInt64, {}, once)}, sink));
}

TEST_P(Whole, ManyCallersAtOnce) {
  const auto session = open("dense.onnx");
  ASSERT_TRUE(session) << session.error().message;
  std::vector<std::thread> callers;
  std::atomic<int> right{0};
  for (int c = 0; c < 8; ++c)
    callers.emplace_back([&, c] {
      const std::vector<float> zeros(256, 0.0f), ones(256, 1.0f);
      for (int i = 0; i < 50; ++i) {
        Collected sink;
        const auto& x = (i + c) % 2 == 0 ? zeros : ones;
        const auto account = (*session)->run(
            std::array{0u}, std::array{input(ElementType::kFloat, {1, 256}, x)}, sink);
        ASSERT_TRUE(account) << account.error().message;
        const bool all_zero = sink.values<float>(0) == zeros;
        if (all_zero == ((i + c) % 2 == 0)) ++right;
      }
    });
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(right, 400);
  EXPECT_EQ(server_->shared().statistics.runs, 400u);
}

INSTANTIATE_TEST_SUITE_P(Transports, Whole, testing::Values("tcp", "unix", "pair"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace outboard::serve
