#include "core/model/moe_figures.h"

#include <algorithm>

#include "core/base/profile.h"
#include "core/ops/elementwise.h"
#include "core/ops/topk.h"

namespace witan {
namespace {

constexpr std::int64_t kRouterFigures = 4;  // of ops::add_router_figures

}  // namespace

MoeFigures::MoeFigures(std::int64_t experts, std::int64_t tags, std::size_t losses)
    : stats_(experts, tags, losses), batch_counts_(static_cast<std::size_t>(experts), 0) {}

void MoeFigures::count(const Context& ctx, const Batch& batch, RouterSaved& saved) {
  const ProfileScope profile("expert load");
  settle_choice();
  std::span<const std::int32_t> tags;
  if (!batch.tags.empty()) {
    tags = {batch.tags_on_host().as<std::int32_t>(), static_cast<std::size_t>(batch.tags.size())};
  }
  stats_.tokens += saved.z.rows();
  if (!saved.on_device()) {
    saved.indices_copy = saved.kept_copy = nullptr;
    count_choice(saved.indices, saved.kept, tags);
    double sums[kRouterFigures] = {stats_.lse, stats_.logit_square, stats_.top_weight, 0.0};
    ops::add_router_figures({}, saved.masked, saved.z, saved.lse, saved.weights,
                            view_of(sums, {kRouterFigures}));
    stats_.lse = sums[0];
    stats_.logit_square = sums[1];
    stats_.top_weight = sums[2];
    stats_.logits += static_cast<std::int64_t>(sums[3]);
    return;
  }
  ctx_ = ctx;
  choice_.begin(ctx, saved.indices);
  drops_ = saved.drops();
  if (drops_) kept_.begin(ctx, saved.kept);
  saved.indices_copy = &choice_;
  saved.kept_copy = drops_ ? &kept_ : &choice_;
  choice_open_ = true;
  tags_.assign(tags.begin(), tags.end());
  if (sums_.empty()) {
    const auto losses = static_cast<std::int64_t>(stats_.losses.size());
    sums_ = Tensor({kRouterFigures + losses}, DType::kFloat64, ctx.device);
    ops::fill(ctx, sums_, 0.0);
  }
  ops::add_router_figures(ctx, saved.masked, saved.z, saved.lse, saved.weights,
                          sums_.view().slice_rows(0, kRouterFigures));
  sums_open_ = true;
}

void MoeFigures::count_rounds(std::int64_t rounds) {
  ++stats_.micro_batches;
  stats_.rounds += rounds;
}

TensorView MoeFigures::device_loss(std::size_t balancer) {
  sums_open_ = true;
  return sums_.view().slice_rows(kRouterFigures + static_cast<std::int64_t>(balancer), 1);
}

std::span<const std::int64_t> MoeFigures::batch_counts() {
  settle_choice();
  return batch_counts_;
}

std::span<const std::int64_t> MoeFigures::counts() {
  settle_choice();
  return stats_.counts;
}

MoeStats& MoeFigures::stats() {
  settle_choice();
  begin_reading();
  finish_reading();
  return stats_;
}

void MoeFigures::begin_reading() {
  if (!sums_open_) return;
  finish_reading();
  read_sums_.begin(ctx_, sums_);
  ops::fill(ctx_, sums_, 0.0);
  sums_open_ = false;
  reading_ = true;
}

void MoeFigures::finish_reading() {
  if (!reading_) return;
  reading_ = false;
  const auto* sums = read_sums_.wait().as<double>();
  stats_.lse += sums[0];
  stats_.logit_square += sums[1];
  stats_.top_weight += sums[2];
  stats_.logits += static_cast<std::int64_t>(sums[3]);
  for (std::size_t i = 0; i < stats_.losses.size(); ++i) {
    stats_.losses[i] += sums[static_cast<std::size_t>(kRouterFigures) + i];
  }
}

void MoeFigures::settle_choice() {
  if (!choice_open_) return;
  choice_open_ = false;
  const TensorView& indices = choice_.wait();
  count_choice(indices, drops_ ? kept_.wait() : indices, tags_);
}

void MoeFigures::count_choice(const TensorView& indices, const TensorView& kept,
                              std::span<const std::int32_t> tags) {
  const std::int64_t tokens = indices.rows();
  const std::int64_t top_k = indices.cols();
  const auto* index = indices.as<std::int32_t>();
  const auto* stays = kept.as<std::int32_t>();
  std::fill(batch_counts_.begin(), batch_counts_.end(), 0);
  for (std::int64_t t = 0; t < tokens; ++t) {
    const std::int64_t tag = tags.empty() ? 0 : tags[static_cast<std::size_t>(t)];
    const std::int64_t row = std::min(tag, stats_.tags - 1);
    for (std::int64_t j = 0; j < top_k; ++j) {
      const std::int32_t expert = index[t * top_k + j];
      if (expert == ops::kNoChoice) continue;
      stats_.dropped += stays[t * top_k + j] == ops::kNoChoice ? 1 : 0;
      ++batch_counts_[static_cast<std::size_t>(expert)];
      ++stats_.counts[static_cast<std::size_t>(row * stats_.experts + expert)];
    }
  }
}

}  // namespace witan
