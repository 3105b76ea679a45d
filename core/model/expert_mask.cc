#include "core/model/expert_mask.h"

#include <algorithm>
#include <charconv>
#include <set>

#include "core/base/error.h"
#include "core/ops/elementwise.h"
#include "core/tensor/transfer.h"

namespace witan {
namespace {

[[noreturn]] void refuse(const std::string& text) {
  throw_user_error("found \"", text, "\"; expected numbers and ranges like \"0-3,8\"");
}

// A number at `at`, which moves behind it and the blanks around it.
std::int64_t take_number(const std::string& text, const char*& at, const char* end) {
  while (at != end && *at == ' ') ++at;
  std::int64_t number = 0;
  const auto [rest, error] = std::from_chars(at, end, number);
  if (error != std::errc() || number < 0) refuse(text);
  at = rest;
  while (at != end && *at == ' ') ++at;
  return number;
}

std::vector<std::int32_t> complement(const std::vector<std::int32_t>& experts, std::int64_t all) {
  std::vector<std::int32_t> rest;
  for (std::int32_t e = 0; e < all; ++e) {
    if (!std::ranges::binary_search(experts, e)) rest.push_back(e);
  }
  return rest;
}

}  // namespace

std::vector<std::int32_t> parse_experts(const std::string& text, std::int64_t experts) {
  std::set<std::int32_t> found;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at != end) {
    const std::int64_t first = take_number(text, at, end);
    std::int64_t last = first;
    if (at != end && *at == '-') last = take_number(text, ++at, end);
    if (last < first) refuse(text);
    if (last >= experts) {
      throw_user_error("found \"", text, "\"; the last expert is ", experts - 1);
    }
    for (std::int64_t e = first; e <= last; ++e) found.insert(static_cast<std::int32_t>(e));
    if (at != end && (*at != ',' || ++at == end)) refuse(text);
  }
  return {found.begin(), found.end()};
}

std::vector<std::string> tag_names(const configs::ModelConfig& model) {
  std::vector<std::string> names;
  for (const configs::TagExperts& tag : model.moe().allowed_experts().tag()) {
    names.push_back(tag.name());
  }
  return names;
}

ExpertMask::ExpertMask(const configs::MoeConfig& moe) {
  const configs::AllowedExperts& table = moe.allowed_experts();
  const configs::ZeroComputationExperts& zero = moe.zero_computation();
  const std::int64_t entries = moe.experts() + zero.zero() + zero.copy() + zero.constant();
  std::vector<std::int32_t> open = parse_experts(table.open_to_all(), moe.experts());
  for (std::int64_t e = moe.experts(); e < entries; ++e) {
    open.push_back(static_cast<std::int32_t>(e));
  }
  tags_ = table.tag_size();
  experts_ = entries;
  std::vector<std::int32_t> counts;
  for (const configs::TagExperts& tag : table.tag()) {
    const std::vector<std::int32_t> own = parse_experts(tag.experts(), moe.experts());
    std::vector<std::int32_t> both;
    std::ranges::set_union(own, open, std::back_inserter(both));
    counts.push_back(static_cast<std::int32_t>(both.size()));
    table_.insert(table_.end(), both.begin(), both.end());
    std::ranges::copy(complement(both, entries), std::back_inserter(table_));
  }
  table_.insert(table_.end(), counts.begin(), counts.end());
}

std::span<const std::int32_t> ExpertMask::experts(std::int64_t tag) const {
  WITAN_CHECK(tag >= 0 && tag < tags_, "tag ", tag, " of ", tags_);
  const std::int32_t count = table_[static_cast<std::size_t>(tags_ * experts_ + tag)];
  return {table_.data() + tag * experts_, static_cast<std::size_t>(count)};
}

ops::TagExperts ExpertMask::table(const Context& ctx) const {
  TensorView all = view_of(table_.data(), {tags_ * (experts_ + 1)});
  if (!ctx.device.is_cpu()) {
    if (!device_table_) {
      device_table_ = std::make_shared<const Tensor>(transferred(ctx, all, ctx.device));
    }
    all = *device_table_;
  }
  const std::int64_t pairs = tags_ * experts_;
  return {all.slice_rows(0, pairs).reshape({tags_, experts_}), all.slice_rows(pairs, tags_)};
}

std::vector<std::int32_t> experts_without_tag(const configs::MoeConfig& moe) {
  const ExpertMask mask(moe);
  std::vector<std::int32_t> used;
  for (std::int64_t tag = 0; tag < mask.tags(); ++tag) {
    std::vector<std::int32_t> both;
    std::ranges::set_union(used, mask.experts(tag), std::back_inserter(both));
    used = std::move(both);
  }
  return mask.empty() ? used : complement(used, moe.experts());
}

void ExpertMask::apply(const Context& ctx, const Batch& batch, const TensorView& z) const {
  ops::mask_experts(ctx, table(ctx), batch.tags_at(ctx.device), z);
}

std::vector<double> ExpertMask::even_counts(std::span<const std::int64_t> counts) const {
  const auto columns = counts.size() / static_cast<std::size_t>(tags_);
  std::vector<double> even(columns, 0.0);
  for (std::int64_t tag = 0; tag < tags_; ++tag) {
    std::int64_t pairs = 0;
    for (const std::int64_t n : counts.subspan(static_cast<std::size_t>(tag) * columns, columns)) {
      pairs += n;
    }
    const double share = static_cast<double>(pairs) / static_cast<double>(experts(tag).size());
    for (const std::int32_t e : experts(tag)) even[static_cast<std::size_t>(e)] += share;
  }
  return even;
}

TensorView ranked_scores(const Context& ctx, bool masked, const TensorView& z, const TensorView& s,
                         Arena& arena) {
  if (!masked) return s;
  const TensorView ranked = arena.allocate(s.shape, s.dtype, "allowed experts");
  ops::copy(ctx, s, ranked);
  ops::mask_like(ctx, z, ranked);
  return ranked;
}

}  // namespace witan
