// SPDX-License-Identifier: Apache-2.0
// The peers of bench/run offload: the same ONNX Runtime behind gRPC, by a service written by hand
// and by the Open Inference Protocol.
//
//   bench_grpc_server LIBRARY THREADS sync|callback ADDRESS[,ADDRESS...] NAME=MODEL...
//
// As gRPC's performance documentation advises: one server and one channel reused, no limit on
// message sizes, tensors as `bytes` that the engine reads where they were received; the synchronous
// and the callback interface are both here, and the benchmark takes the quicker one. Prints "ready"
// and a port for each address.
#include <grpcpp/grpcpp.h>

#include <csignal>
#include <cstdio>
#include <map>
#include <string>

#include "engine/onnxruntime/engine.h"
#include "oip.grpc.pb.h"
#include "own.grpc.pb.h"

namespace {

using namespace outboard;
using grpc::Status;

[[noreturn]] void die(const std::string& message) {
  std::fprintf(stderr, "bench_grpc_server: %s\n", message.c_str());
  std::exit(1);
}

using Sessions = std::map<std::string, std::shared_ptr<engine::Session>, std::less<>>;

Status failure(const Error& error) { return {grpc::StatusCode::INTERNAL, error.message}; }

Result<std::unique_ptr<engine::RunOutputs>> compute(engine::Session& session,
                                                    std::span<const engine::InputView> inputs) {
  std::vector<engine::OutputWanted> wanted;
  for (std::uint32_t i = 0; i < session.info().outputs.size(); ++i) wanted.push_back({.index = i});
  return session.run(inputs, wanted);
}

engine::InputView view(engine::ElementType type, const auto& dims, const std::string& data) {
  return {.type = type,
          .dims = {dims.data(), static_cast<std::size_t>(dims.size())},
          .data = std::as_bytes(std::span(data))};
}

void put(const engine::OutputView& output, auto& dims, std::string& data) {
  dims.Add(output.dims.begin(), output.dims.end());
  data.assign(reinterpret_cast<const char*>(output.data.data()), output.data.size());
}

Status run_own(const Sessions& sessions, const bench::RunRequest& request, bench::RunReply& reply) {
  const auto found = sessions.find(request.model());
  if (found == sessions.end()) return {grpc::StatusCode::NOT_FOUND, request.model()};
  std::vector<engine::InputView> inputs;
  for (const bench::Tensor& tensor : request.inputs())
    inputs.push_back(
        view(static_cast<engine::ElementType>(tensor.type()), tensor.dims(), tensor.data()));
  const auto outputs = compute(*found->second, inputs);
  if (!outputs) return failure(outputs.error());
  for (const engine::OutputView& output : (*outputs)->values()) {
    bench::Tensor& tensor = *reply.add_outputs();
    tensor.set_type(static_cast<int>(output.type));
    put(output, *tensor.mutable_dims(), *tensor.mutable_data());
  }
  return Status::OK;
}

const char* datatype(engine::ElementType type) {
  return type == engine::ElementType::kFloat   ? "FP32"
         : type == engine::ElementType::kInt64 ? "INT64"
                                               : "BYTES";
}
engine::ElementType element_type(std::string_view datatype) {
  return datatype == "FP32"    ? engine::ElementType::kFloat
         : datatype == "INT64" ? engine::ElementType::kInt64
                               : engine::ElementType::kUndefined;
}

Status describe(const Sessions& sessions, const inference::ModelMetadataRequest& request,
                inference::ModelMetadataResponse& reply) {
  const auto found = sessions.find(request.name());
  if (found == sessions.end()) return {grpc::StatusCode::NOT_FOUND, request.name()};
  const engine::ModelInfo& info = found->second->info();
  reply.set_name(request.name());
  reply.set_platform("onnxruntime_onnx");
  const auto fill = [](const engine::ValueInfo& value, auto& metadata) {
    metadata.set_name(value.name);
    metadata.set_datatype(datatype(value.type));
    metadata.mutable_shape()->Add(value.dims.begin(), value.dims.end());
  };
  for (const auto& input : info.inputs) fill(input, *reply.add_inputs());
  for (const auto& output : info.outputs) fill(output, *reply.add_outputs());
  return Status::OK;
}

Status infer(const Sessions& sessions, const inference::ModelInferRequest& request,
             inference::ModelInferResponse& reply) {
  const auto found = sessions.find(request.model_name());
  if (found == sessions.end()) return {grpc::StatusCode::NOT_FOUND, request.model_name()};
  if (request.raw_input_contents_size() != request.inputs_size())
    return {grpc::StatusCode::INVALID_ARGUMENT, "raw tensors only"};
  std::vector<engine::InputView> inputs;
  for (int i = 0; i < request.inputs_size(); ++i)
    inputs.push_back(view(element_type(request.inputs(i).datatype()), request.inputs(i).shape(),
                          request.raw_input_contents(i)));
  const auto outputs = compute(*found->second, inputs);
  if (!outputs) return failure(outputs.error());
  reply.set_model_name(request.model_name());
  reply.set_model_version("1");
  reply.set_id(request.id());
  const auto& declared = found->second->info().outputs;
  for (std::size_t i = 0; i < declared.size(); ++i) {
    const engine::OutputView& output = (*outputs)->values()[i];
    auto& tensor = *reply.add_outputs();
    tensor.set_name(declared[i].name);
    tensor.set_datatype(datatype(output.type));
    put(output, *tensor.mutable_shape(), *reply.add_raw_output_contents());
  }
  return Status::OK;
}

// ---- the synchronous interface -----------------------------------------------------------------

struct OwnSync final : bench::Runner::Service {
  explicit OwnSync(const Sessions& s) : sessions(s) {}
  Status Run(grpc::ServerContext*, const bench::RunRequest* request,
             bench::RunReply* reply) override {
    return run_own(sessions, *request, *reply);
  }
  Status RunMany(grpc::ServerContext*,
                 grpc::ServerReaderWriter<bench::RunReply, bench::RunRequest>* stream) override {
    bench::RunRequest request;  // reused: so are its buffers
    bench::RunReply reply;
    while (stream->Read(&request)) {
      reply.Clear();
      if (Status status = run_own(sessions, request, reply); !status.ok()) return status;
      if (!stream->Write(reply)) break;
    }
    return Status::OK;
  }
  const Sessions& sessions;
};

struct OipSync final : inference::GRPCInferenceService::Service {
  explicit OipSync(const Sessions& s) : sessions(s) {}
  Status ModelMetadata(grpc::ServerContext*, const inference::ModelMetadataRequest* request,
                       inference::ModelMetadataResponse* reply) override {
    return describe(sessions, *request, *reply);
  }
  Status ModelInfer(grpc::ServerContext*, const inference::ModelInferRequest* request,
                    inference::ModelInferResponse* reply) override {
    return infer(sessions, *request, *reply);
  }
  const Sessions& sessions;
};

// ---- the callback interface --------------------------------------------------------------------

grpc::ServerUnaryReactor* finish(grpc::CallbackServerContext* context, const Status& status) {
  auto* reactor = context->DefaultReactor();
  reactor->Finish(status);
  return reactor;
}

struct OwnCallback final : bench::Runner::CallbackService {
  explicit OwnCallback(const Sessions& s) : sessions(s) {}
  grpc::ServerUnaryReactor* Run(grpc::CallbackServerContext* context,
                                const bench::RunRequest* request, bench::RunReply* reply) override {
    return finish(context, run_own(sessions, *request, *reply));
  }
  const Sessions& sessions;
};

struct OipCallback final : inference::GRPCInferenceService::CallbackService {
  explicit OipCallback(const Sessions& s) : sessions(s) {}
  grpc::ServerUnaryReactor* ModelMetadata(grpc::CallbackServerContext* context,
                                          const inference::ModelMetadataRequest* request,
                                          inference::ModelMetadataResponse* reply) override {
    return finish(context, describe(sessions, *request, *reply));
  }
  grpc::ServerUnaryReactor* ModelInfer(grpc::CallbackServerContext* context,
                                       const inference::ModelInferRequest* request,
                                       inference::ModelInferResponse* reply) override {
    return finish(context, infer(sessions, *request, *reply));
  }
  const Sessions& sessions;
};

Sessions open_models(engine::Engine& engine, std::span<char*> arguments) {
  Sessions sessions;
  for (const std::string_view argument : arguments) {
    const auto equals = argument.find('=');
    if (equals == std::string_view::npos) die("a model must be NAME=PATH");
    auto session = engine.open(std::string(argument.substr(equals + 1)), {});
    if (!session) die(session.error().message);
    sessions.emplace(argument.substr(0, equals), *session);
  }
  return sessions;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 6)
    die("usage: bench_grpc_server LIBRARY THREADS sync|callback ADDRESS,... NAME=MODEL...");
  sigset_t signals;  // before any thread is made
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  auto engine = engine::load_onnxruntime(
      {.library = argv[1], .shared_threads = true, .threads = std::atoi(argv[2])});
  if (!engine) die(engine.error().message);
  const Sessions sessions = open_models(**engine, std::span(argv + 5, argv + argc));
  OwnSync own_sync(sessions);
  OipSync oip_sync(sessions);
  OwnCallback own_callback(sessions);
  OipCallback oip_callback(sessions);
  const bool callback = std::string_view(argv[3]) == "callback";
  grpc::ServerBuilder builder;
  builder.SetMaxReceiveMessageSize(-1);
  builder.SetMaxSendMessageSize(-1);
  builder.RegisterService(callback ? static_cast<grpc::Service*>(&own_callback) : &own_sync);
  builder.RegisterService(callback ? static_cast<grpc::Service*>(&oip_callback) : &oip_sync);
  std::vector<int> ports(8, 0);  // the builder writes them when it starts
  std::size_t count = 0;
  std::string addresses = argv[4];
  for (std::size_t at = 0; at < addresses.size() && count < ports.size();) {
    const std::size_t comma = std::min(addresses.find(',', at), addresses.size());
    const std::string address = addresses.substr(at, comma - at);
    builder.AddListeningPort(address, grpc::InsecureServerCredentials(), &ports[count++]);
    at = comma + 1;
  }
  const auto server = builder.BuildAndStart();
  if (!server) die("the addresses (" + addresses + ") cannot be listened on");
  std::printf("ready");
  for (std::size_t i = 0; i < count; ++i) std::printf(" %d", ports[i]);
  std::printf("\n");
  std::fflush(stdout);
  int signal = 0;
  sigwait(&signals, &signal);
  server->Shutdown(std::chrono::system_clock::now());
  return 0;
}
