#include "core/model/expert_mask.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <set>

#include "core/base/error.h"
#include "core/ops/elementwise.h"

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
  for (const configs::TagExperts& tag : table.tag()) {
    const std::vector<std::int32_t> own = parse_experts(tag.experts(), moe.experts());
    std::vector<std::int32_t> both;
    std::ranges::set_union(own, open, std::back_inserter(both));
    forbidden_.push_back(complement(both, entries));
    allowed_.push_back(std::move(both));
  }
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

void ExpertMask::apply(const TensorView& tags, const TensorView& z) const {
  WITAN_CHECK(tags.size() == z.rows(), "the experts depend on the tokens' tags: ", tags.size(),
              " tags for ", z.rows(), " tokens");
  const auto* tag = tags.as<std::int32_t>();
  dispatch_float(z.dtype, "allowed experts", [&](auto zero) {
    using T = decltype(zero);
    const std::int64_t experts = z.cols();
    for (std::int64_t t = 0; t < z.rows(); ++t) {
      T* row = z.as<T>() + t * experts;
      for (const std::int32_t e : forbidden_.at(static_cast<std::size_t>(tag[t]))) {
        row[e] = -std::numeric_limits<T>::infinity();
      }
    }
  });
}

std::vector<double> ExpertMask::even_counts(std::span<const std::int64_t> counts) const {
  const std::size_t experts = counts.size() / allowed_.size();
  std::vector<double> even(experts, 0.0);
  for (std::size_t tag = 0; tag < allowed_.size(); ++tag) {
    std::int64_t pairs = 0;
    for (const std::int64_t n : counts.subspan(tag * experts, experts)) pairs += n;
    const double share = static_cast<double>(pairs) / static_cast<double>(allowed_[tag].size());
    for (const std::int32_t e : allowed_[tag]) even[static_cast<std::size_t>(e)] += share;
  }
  return even;
}

void mask_like(const TensorView& z, const TensorView& x) {
  dispatch_float(z.dtype, "allowed experts", [&](auto of_z) {
    const auto* logit = z.as<decltype(of_z)>();
    dispatch_float(x.dtype, "allowed experts", [&](auto of_x) {
      using T = decltype(of_x);
      T* value = x.as<T>();
      for (std::int64_t i = 0; i < x.size(); ++i) {
        if (logit[i] == -std::numeric_limits<decltype(of_z)>::infinity()) {
          value[i] = -std::numeric_limits<T>::infinity();
        }
      }
    });
  });
}

TensorView ranked_scores(const Context& ctx, bool masked, const TensorView& z, const TensorView& s,
                         Arena& arena) {
  if (!masked) return s;
  const TensorView ranked = arena.allocate(s.shape, s.dtype, "allowed experts");
  ops::copy(ctx, s, ranked);
  mask_like(z, ranked);
  return ranked;
}

}  // namespace witan
