// SPDX-License-Identifier: Apache-2.0
#include "cli/profile_report.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "profile/json/cluster.h"
#include "profile/json/link.h"

namespace outboard::cli {
namespace {

using nlohmann::json;

// Over 10 MB/s and 1 ms each way, 1 MB there and 500 kB back, 20 ms of compute and 0.3 ms of calls.
ModelReport remote_model(double call_us) {
  ModelReport model;
  model.path = "models/vgg.onnx";
  model.profile.model = "vgg";
  model.profile.device_kind = "cpu";
  model.inputs = {{"image", "float", {1, 3, 8, 8}}};
  model.load_us = {150'000};
  for (int i = 0; i < 20; ++i) {
    RunTimes run;
    run.compute_us = 20'000 + i;
    run.queue_us = 10;
    run.request_bytes = 1'000'000;
    run.reply_bytes = 500'000;
    run.server_receive_us = 100'000;
    run.receive_us = 50'000;
    run.total_us = 2'000 + 150'000 + run.queue_us + run.compute_us + call_us;
    model.measurement.runs.push_back(run);
  }
  return model;
}

LinkReport slow_link() {
  return {"10.0.0.7:7070",
          {.up = {.delay_us = 1000, .rate_bytes_per_s = 99}, .down = {.delay_us = 1000}},
          profile::Distribution::constant(2000)};
}

TEST(Conclude, RatesComeFromLargeTransfersAndTheRestIsTheCall) {
  ModelReport model = remote_model(300);
  LinkReport link = slow_link();
  conclude(model, &link);
  EXPECT_DOUBLE_EQ(10e6, link.link.up.rate_bytes_per_s);
  EXPECT_DOUBLE_EQ(10e6, link.link.down.rate_bytes_per_s);
  EXPECT_NEAR(300, model.call_us, 1e-6);
  EXPECT_NEAR(20'009.5, model.profile.service.mean_us(), 1e-6);
  EXPECT_DOUBLE_EQ(150'000, model.profile.load.mean_us());
}

TEST(Conclude, SmallTransfersLeaveTheEchoesRates) {
  ModelReport model = remote_model(300);
  for (RunTimes& run : model.measurement.runs) run.request_bytes = run.reply_bytes = 1000;
  LinkReport link = slow_link();
  conclude(model, &link);
  EXPECT_DOUBLE_EQ(99, link.link.up.rate_bytes_per_s);
  EXPECT_DOUBLE_EQ(0, link.link.down.rate_bytes_per_s);
}

TEST(AsJson, DevicesModelsAndLinksAreThoseOfAClusterFile) {
  ProfileReport report;
  report.engine = "onnxruntime 1.31.1";
  report.device.name = "10.0.0.7:7070";
  report.device.kind = "cpu";
  report.link = slow_link();
  report.models.push_back(remote_model(300));
  conclude(report.models.back(), &*report.link);

  const json root = json::parse(as_json_text(report));
  const auto device = profile::device_from_json(root["devices"][0], "devices[0]");
  ASSERT_TRUE(device.has_value()) << device.error().message;
  EXPECT_EQ(report.device, *device);
  const auto model = profile::model_from_json(root["models"][0], "models[0]");
  ASSERT_TRUE(model.has_value()) << model.error().message;
  EXPECT_NEAR(report.models[0].profile.service.mean_us(), model->service.mean_us(), 1e-6);
  const auto link = profile::link_from_json(root["links"][0], "links[0]");
  ASSERT_TRUE(link.has_value()) << link.error().message;
  EXPECT_EQ("10.0.0.7:7070", link->to);
  EXPECT_DOUBLE_EQ(10e6, link->link.down.rate_bytes_per_s);

  // `outboard manage` takes the whole file.
  const auto cluster = profile::cluster_from_text(as_json_text(report), "profile.json");
  ASSERT_TRUE(cluster.has_value()) << cluster.error().message;
  EXPECT_EQ(1u, cluster->models.size());

  const json& measured = root["measurements"][0];
  EXPECT_EQ(20, measured["runs"]);
  EXPECT_EQ(1'000'000, measured["request_bytes"]);
  EXPECT_NEAR(0.3, measured["call_ms"].get<double>(), 1e-9);
  EXPECT_NEAR(20.0095, measured["compute_ms"]["mean"].get<double>(), 1e-9);
  EXPECT_NEAR(20.018, measured["compute_ms"]["p95"].get<double>(), 1e-9);
}

TEST(AsJson, AModelWithoutARunIsNoProfile) {
  ProfileReport report;
  report.device.name = report.device.kind = "cpu";
  ModelReport model;
  model.profile.model = "x";
  model.measurement.interrupted = true;
  model.measurement.failure = Error{ErrorKind::kEngine, "it broke", 0};
  conclude(model, nullptr);
  report.models.push_back(model);
  const json root = json::parse(as_json_text(report));
  EXPECT_TRUE(root["models"].empty());
  EXPECT_EQ("it broke", root["measurements"][0]["failure"]);
  EXPECT_FALSE(as_table(report).empty());
}

TEST(LinkJson, SaysWhereItIsWrong) {
  const auto message = [](const char* text) {
    const auto link = profile::link_from_json(json::parse(text), "links[1]");
    return link ? "" : link.error().message;
  };
  EXPECT_EQ("", message(R"({"to": "a", "up": {"delay_ms": 1}, "down": {"delay_ms": 0}})"));
  EXPECT_NE(std::string::npos,
            message(R"({"to": "a", "up": {"delay_ms": -1}, "down": {"delay_ms": 0}})")
                .find("links[1].up.delay_ms (-1)"));
  EXPECT_NE(std::string::npos,
            message(R"({"to": "a", "up": {"delay_ms": 1}})").find("links[1].down is missing"));
  EXPECT_NE(std::string::npos,
            message(R"({"to": "a", "up": {"delay_ms": 1, "rate": 5}, "down": {"delay_ms": 0}})")
                .find("links[1].up.rate"));
}

}  // namespace
}  // namespace outboard::cli
