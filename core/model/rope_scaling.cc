#include "core/model/rope_scaling.h"

namespace witan {
namespace {

double attention_factor_of(const configs::YarnRopeScaling& yarn) {
  if (yarn.has_attention_factor()) return yarn.attention_factor();
  if (yarn.mscale() > 0.0 && yarn.mscale_all_dim() > 0.0) {
    return ops::yarn_mscale(yarn.factor(), yarn.mscale()) /
           ops::yarn_mscale(yarn.factor(), yarn.mscale_all_dim());
  }
  return ops::yarn_mscale(yarn.factor(), 1.0);
}

}  // namespace

ops::RopeScaling rope_scaling_of(const configs::AttentionConfig& attention) {
  using Kind = ops::RopeScaling::Kind;
  const configs::RopeScaling& config = attention.rope_scaling();
  ops::RopeScaling scaling;
  switch (config.kind_case()) {
    case configs::RopeScaling::kLinear:
      scaling.kind = Kind::kLinear;
      scaling.factor = config.linear().factor();
      break;
    case configs::RopeScaling::kYarn:
      scaling.kind = Kind::kYarn;
      scaling.factor = config.yarn().factor();
      scaling.original_length = static_cast<double>(config.yarn().original_max_seq_len());
      scaling.fast = config.yarn().beta_fast();
      scaling.slow = config.yarn().beta_slow();
      scaling.truncate = config.yarn().truncate();
      scaling.attention_factor = attention_factor_of(config.yarn());
      break;
    case configs::RopeScaling::kLlama3:
      scaling.kind = Kind::kLlama3;
      scaling.factor = config.llama3().factor();
      scaling.original_length = static_cast<double>(config.llama3().original_max_seq_len());
      scaling.fast = config.llama3().high_freq_factor();
      scaling.slow = config.llama3().low_freq_factor();
      break;
    case configs::RopeScaling::KIND_NOT_SET: break;
  }
  return scaling;
}

double latent_scale_factor(const configs::AttentionConfig& attention) {
  const configs::YarnRopeScaling& yarn = attention.rope_scaling().yarn();
  if (!attention.rope_scaling().has_yarn() || yarn.mscale_all_dim() <= 0.0) return 1.0;
  const double mscale = ops::yarn_mscale(yarn.factor(), yarn.mscale_all_dim());
  return mscale * mscale;
}

}  // namespace witan
