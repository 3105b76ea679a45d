// More experts for a new domain: what the model computes for the old ones stays bit for bit.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "launch/grow/grown_checkpoint.h"

namespace witan {

struct AddExpertsOptions {
  std::int64_t add = 0;      // experts more in every MoE layer, behind the old ones
  std::int64_t copy_of = 0;  // the expert whose weights and router row the new ones begin with
  std::string tag;           // the new domain; its tokens may use ...
  std::string allow;         // ... these experts ("0-3,8"); empty: all, old and new
  // The tags of the old domains, where the model has no table of tags yet. Empty: those of the
  // data the checkpoint was trained on.
  std::vector<std::string> old_tags;
  // As UpcycleOptions::noise, on the new experts' weights. Their router rows are exact copies:
  // their scores are those of the expert they copy, and ties go to the lower index until training
  // (balancing, first of all) sets them apart.
  double noise = 0.0;
  std::uint64_t seed = 1;
};

// Grows the MoE model of `from` and writes a checkpoint of weights to `to`, which must not exist.
// Tokens of the old tags may use the experts that they could before (model.moe.allowed_experts),
// and evaluating them gives the same bits. UserError where that cannot be had: a dense model, a
// selection that counts on the number of experts (hash, expert_choice, hierarchical), groups that
// the new experts do not fill; and for a tag that is there already, and whatever the model's own
// checks refuse.
GrowReport add_experts(const std::string& from, const std::string& to,
                       const AddExpertsOptions& options);

}  // namespace witan
