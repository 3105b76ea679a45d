#include "launch/verify/reduced_config.h"

#include <fnmatch.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <map>

#include "core/model/check_model.h"
#include "core/model/expert_mask.h"
#include "core/model/param_table.h"
#include "core/model/rounds.h"
#include "parallel/mesh.h"

namespace witan {
namespace {

using configs::RunConfig;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

constexpr std::int64_t kSequencesPerMicroBatch = 2;
constexpr std::int64_t kSteps = 12;

// Every explicitly set scalar by its dotted path.
void collect(const Message& message, const std::string& path,
             std::map<std::string, std::string>& out) {
  std::vector<const FieldDescriptor*> fields;
  message.GetReflection()->ListFields(message, &fields);
  for (const FieldDescriptor* field : fields) {
    const int count = field->is_repeated() ? message.GetReflection()->FieldSize(message, field) : 1;
    for (int i = 0; i < count; ++i) {
      std::string name = path + (path.empty() ? "" : ".") + field->name();
      if (field->is_repeated()) name += "[" + std::to_string(i) + "]";
      if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
        collect(field->is_repeated()
                    ? message.GetReflection()->GetRepeatedMessage(message, field, i)
                    : message.GetReflection()->GetMessage(message, field),
                name, out);
      } else {
        google::protobuf::TextFormat::PrintFieldValueToString(
            message, field, field->is_repeated() ? i : -1, &out[name]);
      }
    }
  }
}

std::vector<Reduction> differences(const RunConfig& before, const RunConfig& after) {
  std::map<std::string, std::string> from, to;
  collect(before, "", from);
  collect(after, "", to);
  std::vector<Reduction> changes;
  for (const auto& [field, value] : from) {
    const auto found = to.find(field);
    const std::string now = found == to.end() ? "absent" : found->second;
    if (now != value) changes.push_back({field, value, now});
  }
  for (const auto& [field, value] : to) {
    if (!from.contains(field)) changes.push_back({field, "absent", value});
  }
  return changes;
}

// Ranks and heads of latent attention; an odd rotary part cannot come of an even one.
void reduce_latent(const ReducedLimits& limits, configs::AttentionConfig& attention) {
  configs::LatentAttention& latent = *attention.mutable_latent();
  attention.set_heads(std::min(attention.heads(), limits.heads));
  latent.set_q_lora_rank(std::min(latent.q_lora_rank(), limits.d_model / 2));
  latent.set_kv_lora_rank(std::min(latent.kv_lora_rank(), limits.d_model / 2));
  latent.set_nope_head_dim(std::min(latent.nope_head_dim(), limits.head_dim));
  latent.set_rope_head_dim(std::min(latent.rope_head_dim(), limits.head_dim / 2 / 2 * 2));
  latent.set_v_head_dim(std::min(latent.v_head_dim(), limits.head_dim));
}

void reduce_attention(std::int64_t d_model, const ReducedLimits& limits,
                      configs::AttentionConfig& attention) {
  if (attention.has_latent()) return reduce_latent(limits, attention);
  const std::int64_t heads = attention.heads();
  const std::int64_t kv_heads = attention.has_kv_heads() ? attention.kv_heads() : heads;
  const std::int64_t head_dim = attention.has_head_dim() ? attention.head_dim() : d_model / heads;
  if (head_dim > limits.head_dim || attention.has_head_dim()) {
    attention.set_head_dim(std::min(head_dim, limits.head_dim));
  }
  if (heads <= limits.heads) return;
  // Grouped queries stay grouped, and several key heads several.
  const std::int64_t group = std::min(heads / kv_heads, limits.heads);
  const std::int64_t new_kv_heads = std::max<std::int64_t>(1, limits.heads / group);
  attention.set_heads(group * std::min(new_kv_heads, kv_heads));
  if (attention.has_kv_heads()) attention.set_kv_heads(std::min(new_kv_heads, kv_heads));
}

// The first run of layers that has dense and MoE layers if the model has.
std::int64_t first_kept_layer(const std::vector<bool>& is_moe, std::int64_t kept) {
  const auto begin = is_moe.begin();
  for (std::int64_t first = 0; first + kept <= static_cast<std::int64_t>(is_moe.size()); ++first) {
    const auto moe = std::count(begin + first, begin + first + kept, true);
    if (moe > 0 && moe < kept) return first;
  }
  return 0;
}

void reduce_layers(const ReducedLimits& limits, configs::ModelConfig& model) {
  if (model.layers() <= limits.layers) return;
  const std::vector<bool> is_moe = ModelDims(model).is_moe;
  const std::int64_t first = first_kept_layer(is_moe, limits.layers);
  const auto begin = is_moe.begin() + first;
  const std::vector<bool> kept(begin, begin + limits.layers);
  model.set_layers(limits.layers);
  if (!model.has_moe() || ModelDims(model).is_moe == kept) return;
  configs::LayerPattern& pattern = *model.mutable_moe()->mutable_pattern();
  pattern.Clear();
  for (std::int64_t i = 0; i < limits.layers; ++i) {
    if (kept[static_cast<std::size_t>(i)]) pattern.add_list(i);
  }
}

bool consistent(const configs::ModelConfig& model) {
  bool good = true;
  check_model(model, [&good](const std::string&, const std::string&) { good = false; });
  return good;
}

// As divisible by the ranks as before; as many as before where the router would not have fewer.
void reduce_experts(int ranks, const ReducedLimits& limits, configs::ModelConfig& model) {
  const std::int64_t experts = model.moe().experts();
  const std::int64_t fewest = std::max(limits.experts, 2 * ModelDims(model).top_k);
  if (experts <= fewest) return;
  std::int64_t step = 1;
  for (std::int64_t divisor = 2; divisor <= ranks; ++divisor) {
    if (ranks % divisor == 0 && experts % divisor == 0) step = divisor;
  }
  model.mutable_moe()->set_experts(std::min(experts, (fewest + step - 1) / step * step));
  if (!consistent(model)) model.mutable_moe()->set_experts(experts);
}

// A window that hides something goes on doing so.
void reduce_window(std::int64_t seq_len, RunConfig& small) {
  configs::AttentionConfig& attention = *small.mutable_model()->mutable_attention();
  if (!attention.has_sliding_window() || attention.sliding_window() >= seq_len) return;
  attention.set_sliding_window(
      std::clamp<std::int64_t>(attention.sliding_window(), 1, (small.data().seq_len() + 1) / 2));
}

void reduce_moe(const ReducedLimits& limits, configs::MoeConfig& moe) {
  moe.set_d_ff(std::min(moe.d_ff(), limits.expert_ff));
  if (moe.shared_d_ff() > 0) moe.set_shared_d_ff(std::min(moe.shared_d_ff(), limits.shared_ff));
}

void reduce_model(int ranks, const ReducedLimits& limits, configs::ModelConfig& model) {
  reduce_attention(model.d_model(), limits, *model.mutable_attention());
  if (model.d_model() > limits.d_model) {
    // Without head_dim the heads divide the width.
    if (!model.attention().has_head_dim() && !model.attention().has_latent()) {
      model.mutable_attention()->set_head_dim(
          std::min(model.d_model() / model.attention().heads(), limits.head_dim));
    }
    model.set_d_model(limits.d_model);
  }
  if (model.has_ffn()) {
    model.mutable_ffn()->set_d_ff(std::min(model.ffn().d_ff(), limits.dense_ff));
  }
  reduce_layers(limits, model);
  if (!model.has_moe()) return;
  reduce_moe(limits, *model.mutable_moe());
  reduce_experts(ranks, limits, model);
}

// Before the batch is changed: whether the config takes several micro-batches a step.
bool accumulates(const RunConfig& run, int ranks) {
  return run.train().has_micro_batch() &&
         run.train().micro_batch() * ranks < run.train().global_batch();
}

void fix_counts(bool several, configs::MoeConfig& moe) {
  for (configs::BalancerConfig& balancer : *moe.mutable_balance()) {
    if (!balancer.has_switch_aux()) continue;
    configs::SwitchAux& aux = *balancer.mutable_switch_aux();
    if (aux.scope() != configs::SwitchAux::GLOBAL_BATCH || aux.has_counts()) continue;
    aux.set_counts(several ? configs::SwitchAux::PREVIOUS_STEP : configs::SwitchAux::EXACT);
  }
}

bool expert_parallel_fits(const RunConfig& run, int ranks) {
  const std::int64_t ep = run.parallel().expert();
  const std::int64_t experts = run.model().moe().experts();
  return ranks % ep == 0 && (run.model().has_moe() ? experts % ep == 0 : ep == 1);
}

// At any expert-parallel size: few tokens shall still make several rounds.
std::int64_t fewest_rows(const RunConfig& run, int ranks) {
  const std::int64_t experts = run.model().moe().experts();
  std::int64_t fewest = 1;
  for (std::int64_t ep = 1; ep <= ranks; ++ep) {
    if (ranks % ep != 0 || experts % ep != 0) continue;
    fewest = std::max(fewest, fewest_max_rows(ModelDims(run.model()).choices, experts, ep));
  }
  return fewest;
}

void reduce_training(int ranks, bool several, RunConfig& run) {
  configs::TrainConfig& train = *run.mutable_train();
  train.set_micro_batch(kSequencesPerMicroBatch);
  train.set_global_batch(kSequencesPerMicroBatch * (several ? 2 : 1) * ranks);
  train.set_steps(kSteps);
  train.clear_init_from();
  train.clear_output();
  train.mutable_routing()->clear_record();
  train.mutable_routing()->clear_replay();
  if (run.optimizer().schedule().warmup_steps() > 1) {
    run.mutable_optimizer()->mutable_schedule()->set_warmup_steps(1);
  }
  run.mutable_checkpoint()->clear_optimizer_state();
  if (run.parallel().exchange().max_rows() > 0 && run.model().has_moe()) {
    run.mutable_parallel()->mutable_exchange()->set_max_rows(2 * fewest_rows(run, ranks));
  }
  if (run.parallel().has_expert() && !expert_parallel_fits(run, ranks)) {
    run.mutable_parallel()->clear_expert();
  }
}

// Rules that name layers which are no longer there.
void drop_rules(RunConfig& run) {
  const ParamTable table(run.model());
  auto& rules = *run.mutable_optimizer()->mutable_rule();
  for (int i = rules.size(); i-- > 0;) {
    const bool matches =
        std::any_of(table.params().begin(), table.params().end(), [&](const ParamInfo& info) {
          return info.trained() && fnmatch(rules[i].pattern().c_str(), info.name.c_str(), 0) == 0;
        });
    if (!matches) rules.DeleteSubrange(i, 1);
  }
}

void use_synthetic_data(const std::string& folder, RunConfig& run) {
  configs::DataConfig& data = *run.mutable_data();
  if (data.train_size() == 0) {
    const std::vector<std::string> tags = tag_names(run.model());
    data.add_train()->set_name(tags.empty() ? "synthetic" : tags.front());
  }
  for (int i = 0; i < data.train_size(); ++i) {
    data.mutable_train(i)->set_path(folder + "/synthetic-" + std::to_string(i));
  }
  data.clear_validation();
  data.set_validation_share(0.0);
  data.set_tokenizer("none");
  data.set_end_of_document(0);
}

}  // namespace

ReducedRun reduce_config(const RunConfig& run, int ranks, bool own_data,
                         const std::string& synthetic_folder, const ReducedLimits& limits) {
  ReducedRun reduced;
  reduced.run = run;
  RunConfig& small = reduced.run;
  const bool several = accumulates(run, ranks);
  reduce_model(ranks, limits, *small.mutable_model());
  reduced.own_data = own_data && run.model().vocab_size() <= limits.vocab;
  small.mutable_model()->set_vocab_size(std::min(run.model().vocab_size(), limits.vocab));
  small.mutable_data()->set_seq_len(std::min(run.data().seq_len(), limits.seq_len));
  reduce_window(run.data().seq_len(), small);
  if (!reduced.own_data) use_synthetic_data(synthetic_folder, small);
  if (small.model().has_moe()) fix_counts(several, *small.mutable_model()->mutable_moe());
  reduce_training(ranks, several, small);
  drop_rules(small);
  reduced.changes = differences(run, small);
  return reduced;
}

}  // namespace witan
