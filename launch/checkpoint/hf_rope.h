// The rotary embedding in config.json: rope_theta and rope_scaling (transformers 4) or
// rope_parameters (transformers 5).
#pragma once

#include <nlohmann/json.hpp>

#include "configs/schema/model.pb.h"
#include "launch/checkpoint/hf_config_reader.h"

namespace witan {

// `absent`: the class's default of rope_theta. Reads kinds default, linear, yarn and llama3; any
// other kind, and any key that is not of the kind, is a problem of `in`. model.max_seq_len must be
// set: it stands for an absent original_max_position_embeddings.
void read_hf_rope(HfConfigReader& in, double absent, configs::ModelConfig& model);

// Sets rope_theta, rope_parameters and, where frequencies are stretched, rope_scaling.
void write_hf_rope(const configs::ModelConfig& model, nlohmann::ordered_json& json);

}  // namespace witan
