// Between config.json of `transformers` and ModelConfig; hf_architecture.h lists the architectures.
// The other direction, hf_config_json(), is declared in checkpoint.h.
#pragma once

#include <string>

#include "configs/schema/model.pb.h"
#include "launch/checkpoint/safetensors.h"

namespace witan {

// The model that config.json in `text` describes; `path` names the file in messages. Keys that only
// say how to train or to generate (dropout aside) are not looked at. What Witan cannot compute is
// one UserError that lists each key, its value and what would be right.
configs::ModelConfig model_from_hf_config(const std::string& text, const std::string& path);

// The model types that are known, each in quotes.
std::string hf_model_types();

// The modules of multi-token prediction that config.json of `folder` names
// (num_nextn_predict_layers of DeepSeek-V3). UserError if that is not 1 to 16, or another
// architecture.
std::int64_t read_hf_mtp_depth(const std::string& folder);

// `config_json` with the dtype of the weights beside it.
std::string with_dtype(const std::string& config_json, StDType dtype);

}  // namespace witan
