// Which experts a token may use, by its tag (language, domain, modality): the table of
// model.moe.allowed_experts. docs/numerics.md, section "Router".
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "configs/schema/model.pb.h"
#include "core/base/context.h"
#include "core/model/batch.h"
#include "core/ops/expert_mask.h"
#include "core/tensor/arena.h"
#include "core/tensor/tensor.h"
#include "core/tensor/tensor_view.h"

namespace witan {

class ExpertMask {
 public:
  ExpertMask() = default;  // every token may use every expert
  // Of a config that check_model accepts. Every tag may use the zero-computation experts.
  explicit ExpertMask(const configs::MoeConfig& moe);

  bool empty() const { return tags_ == 0; }
  std::int64_t tags() const { return tags_; }
  // Ascending.
  std::span<const std::int32_t> experts(std::int64_t tag) const;

  // What ops read where ctx stands; the copy for a device is made at the first use, which waits.
  ops::TagExperts table(const Context& ctx) const;
  // z [tokens, experts] becomes minus infinity where a token may not go, by the tags of the batch.
  void apply(const Context& ctx, const Batch& batch, const TensorView& z) const;

  // What each expert would get if every tag's choices fell evenly on the experts it allows, from
  // counts [tags, experts].
  std::vector<double> even_counts(std::span<const std::int64_t> counts) const;

 private:
  std::int64_t tags_ = 0, experts_ = 0;
  std::vector<std::int32_t> table_;  // order [tags, experts] and count [tags] of ops::TagExperts
  mutable std::shared_ptr<const Tensor> device_table_;
};

// Scores for a selection to compare: s itself, or with `masked` a copy from `arena` that is minus
// infinity where z is. A masked score is 0, which an expert bias or underflow could lift above an
// allowed one.
TensorView ranked_scores(const Context& ctx, bool masked, const TensorView& z, const TensorView& s,
                         Arena& arena);

// The names of the tags; a token's tag is an index into them. Empty: the model has no table.
std::vector<std::string> tag_names(const configs::ModelConfig& model);

// Experts that no tag may use; none without a table.
std::vector<std::int32_t> experts_without_tag(const configs::MoeConfig& moe);

// Experts of a list like "0-3,8", each once and ascending. UserError where it is not such a list or
// names an expert that is not below `experts`.
std::vector<std::int32_t> parse_experts(const std::string& text, std::int64_t experts);

}  // namespace witan
