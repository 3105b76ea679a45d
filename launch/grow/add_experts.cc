#include "launch/grow/add_experts.h"

#include <algorithm>
#include <cstring>

#include "core/base/error.h"
#include "launch/checkpoint/checkpoint.h"

namespace witan {
namespace {

void check_source(const GrowSource& source, const AddExpertsOptions& options) {
  const configs::ModelConfig& model = source.run.model();
  if (ModelDims(model).moe_layers() == 0) {
    throw_user_error(source.folder,
                     ": is dense: it has no experts to add to; `witan grow upcycle` makes a "
                     "Mixture of Experts of it");
  }
  const configs::MoeConfig& moe = model.moe();
  if (options.copy_of < 0 || options.copy_of >= moe.experts()) {
    throw_user_error("copy-of: found ", options.copy_of, "; the model has the experts 0 to ",
                     moe.experts() - 1);
  }
  if (moe.router().has_hash()) {
    throw_user_error(source.folder,
                     ": the selection hash deals the token ids out to all experts: with more of "
                     "them every token would change its own");
  }
  if (moe.router().has_hierarchical()) {
    throw_user_error(source.folder,
                     ": with hierarchical a first gate chooses among groups of experts, which more "
                     "experts would cut anew");
  }
  if (moe.router().has_expert_choice()) {
    throw_user_error(source.folder,
                     ": with expert_choice the number of experts decides how many tokens each "
                     "one takes, so the old tokens would not stay as they are");
  }
}

std::string first_experts(std::int64_t count) {
  return count == 1 ? "0" : "0-" + std::to_string(count - 1);
}

std::vector<std::string> tags_of(const configs::DataConfig& data) {
  std::vector<std::string> tags;
  for (const auto* sets : {&data.train(), &data.validation()}) {
    for (const configs::Dataset& dataset : *sets) {
      const std::string& tag = dataset.has_tag() ? dataset.tag() : dataset.name();
      if (std::ranges::find(tags, tag) == tags.end()) tags.push_back(tag);
    }
  }
  return tags;
}

void add_tag(configs::AllowedExperts& table, const std::string& name, const std::string& experts) {
  configs::TagExperts& tag = *table.add_tag();
  tag.set_name(name);
  tag.set_experts(experts);
}

void allow_experts(const GrowSource& source, const AddExpertsOptions& options,
                   configs::MoeConfig& moe) {
  configs::AllowedExperts& table = *moe.mutable_allowed_experts();
  const std::int64_t old_experts = source.run.model().moe().experts();
  if (table.tag_size() > 0 && !options.old_tags.empty()) {
    throw_user_error("old-tag: found \"", options.old_tags.front(), "\", but ", source.folder,
                     " has a table of tags already (model.moe.allowed_experts); leave it out");
  }
  if (table.tag_size() == 0) {
    const std::vector<std::string> old =
        options.old_tags.empty() ? tags_of(source.run.data()) : options.old_tags;
    if (old.empty()) {
      throw_user_error(source.folder,
                       ": names no data, so nothing says what the tags of its tokens are; name "
                       "them with --old-tag");
    }
    for (const std::string& name : old) add_tag(table, name, first_experts(old_experts));
  }
  for (const configs::TagExperts& tag : table.tag()) {
    if (tag.name() != options.tag) continue;
    throw_user_error("tag: found \"", options.tag,
                     "\", which the model knows already; its tokens would change");
  }
  add_tag(table, options.tag,
          options.allow.empty() ? first_experts(old_experts + options.add) : options.allow);
}

// Groups keep their size, so that the old ones stay what they are.
void add_groups(const AddExpertsOptions& options, configs::MoeConfig& moe) {
  if (!moe.router().has_group_limited()) return;
  configs::GroupLimitedSelection& groups = *moe.mutable_router()->mutable_group_limited();
  const std::int64_t size = moe.experts() / groups.n_group();
  if (options.add % size != 0) {
    throw_user_error("add: found ", options.add, "; the experts are chosen by groups of ", size,
                     ", so it must be a multiple of that");
  }
  groups.set_n_group(groups.n_group() + options.add / size);
}

configs::ModelConfig grown_model(const GrowSource& source, const AddExpertsOptions& options) {
  configs::ModelConfig model = source.run.model();
  configs::MoeConfig& moe = *model.mutable_moe();
  allow_experts(source, options, moe);
  add_groups(options, moe);
  moe.set_experts(moe.experts() + options.add);
  return model;
}

// Axis 0 of both is the expert: the old ones, then copies of one of them, then what follows the
// experts (a router's rows of zero-computation experts).
void add_rows(const TensorView& old_rows, std::int64_t experts, std::int64_t copy_of,
              const TensorView& rows) {
  const std::size_t row = old_rows.bytes() / static_cast<std::size_t>(old_rows.shape[0]);
  const auto* from = static_cast<const std::byte*>(old_rows.data);
  auto* to = static_cast<std::byte*>(rows.data);
  const std::int64_t added = rows.shape[0] - old_rows.shape[0];
  for (std::int64_t e = 0; e < rows.shape[0]; ++e) {
    const std::int64_t source = e < experts ? e : e < experts + added ? copy_of : e - added;
    std::memcpy(to + static_cast<std::size_t>(e) * row,
                from + static_cast<std::size_t>(source) * row, row);
  }
}

void fill(const WholeModel& old, std::int64_t experts, const AddExpertsOptions& options,
          WholeModel& to) {
  copy_common(old, to);
  for (int id = 0; id < to.table.size(); ++id) {
    const ParamInfo& info = to.table[id];
    if (info.role == ParamRole::kDense) continue;
    const TensorView old_rows = old.params.value(info.name);
    const TensorView rows = to.params.value(id);
    add_rows(old_rows, experts, options.copy_of, rows);
    if (info.role != ParamRole::kExpert) continue;
    add_noise(options.noise, options.seed, info.name, rows.slice_rows(experts, options.add));
  }
}

}  // namespace

GrowReport add_experts(const std::string& from, const std::string& to,
                       const AddExpertsOptions& options) {
  check_output(to);
  const GrowSource source(from);
  check_source(source, options);
  const configs::RunConfig run =
      checked_run(grown_run(source, grown_model(source, options), to), "witan grow");
  WholeModel old(source.run.model(), source.dtype);
  load_weights(source.folder, old.params, old.mesh);
  WholeModel larger(run.model(), source.dtype);
  fill(old, source.run.model().moe().experts(), options, larger);
  return write_grown(source, old, larger, run, to);
}

}  // namespace witan
