// SPDX-License-Identifier: Apache-2.0
#include "serve/fair_order.h"

#include <algorithm>
#include <tuple>

namespace outboard::serve {
namespace {

// How quickly the estimate follows; a flow with a large and a small model has something between.
constexpr double kNewest = 0.25;

}  // namespace

bool FairFlow::Sooner::operator()(const FairEntry* a, const FairEntry* b) const {
  return std::tie(a->deadline, a->sequence_) < std::tie(b->deadline, b->sequence_);
}

void FairOrder::push(FairEntry& entry) {
  FairFlow& flow = *entry.flow;
  entry.sequence_ = next_sequence_++;
  if (flow.waiting_.empty()) {
    come_back(flow);
    flows_.insert(&flow);
  }
  flow.waiting_.insert(&entry);
}

void FairOrder::start(FairEntry& entry) {
  FairFlow& flow = *entry.flow;
  come_back(flow);
  virtual_ns_ = std::max(virtual_ns_, flow.tag_ns_);
  charge(entry);
}

void FairOrder::come_back(FairFlow& flow) const {
  flow.tag_ns_ = std::max(flow.tag_ns_, virtual_ns_ - static_cast<double>(kCredit.count()));
}

void FairOrder::charge(FairEntry& entry) {
  FairFlow& flow = *entry.flow;
  entry.charged_ns_ = flow.mean_cost_ns_;
  entry.charged_weight_ = flow.weight_;
  flow.tag_ns_ += entry.charged_ns_ / entry.charged_weight_;
  highest_tag_ns_ = std::max(highest_tag_ns_, flow.tag_ns_);
  ++flow.in_service_;
  ++in_service_;
}

FairEntry* FairOrder::pop() {
  if (flows_.empty()) return nullptr;
  const auto before = [](const FairFlow* a, const FairFlow* b) {
    if (a->tag_ns_ != b->tag_ns_) return a->tag_ns_ < b->tag_ns_;
    if (a->in_service_ != b->in_service_) return a->in_service_ < b->in_service_;
    return (*a->waiting_.begin())->sequence_ < (*b->waiting_.begin())->sequence_;
  };
  FairFlow& flow = **std::min_element(flows_.begin(), flows_.end(), before);
  FairEntry* entry = *flow.waiting_.begin();
  flow.waiting_.erase(flow.waiting_.begin());
  if (flow.waiting_.empty()) flows_.erase(&flow);
  virtual_ns_ = std::max(virtual_ns_, flow.tag_ns_);
  charge(*entry);
  return entry;
}

void FairOrder::remove(FairEntry& entry) {
  FairFlow& flow = *entry.flow;
  flow.waiting_.erase(&entry);
  if (flow.waiting_.empty()) flows_.erase(&flow);
}

void FairOrder::finish(FairEntry& entry, Nanoseconds cost) {
  FairFlow& flow = *entry.flow;
  const auto cost_ns = static_cast<double>(cost.count());
  --flow.in_service_;
  flow.tag_ns_ += (cost_ns - entry.charged_ns_) / entry.charged_weight_;
  highest_tag_ns_ = std::max(highest_tag_ns_, flow.tag_ns_);
  if (--in_service_ == 0 && flows_.empty())  // nobody wants it: whoever comes has all its credit
    virtual_ns_ = highest_tag_ns_ + static_cast<double>(kCredit.count());
  flow.mean_cost_ns_ = flow.mean_cost_ns_ == 0
                           ? cost_ns
                           : flow.mean_cost_ns_ + kNewest * (cost_ns - flow.mean_cost_ns_);
}

}  // namespace outboard::serve
