// The rotary embedding that a config asks for.
#pragma once

#include "configs/schema/model.pb.h"
#include "core/ops/rope_scaling.h"

namespace witan {

ops::RopeScaling rope_scaling_of(const configs::AttentionConfig& attention);

// What latent attention multiplies the softmax scale by: m(mscale_all_dim)^2 with YaRN (DeepSeek),
// else 1.
double latent_scale_factor(const configs::AttentionConfig& attention);

}  // namespace witan
