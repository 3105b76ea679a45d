// A small good config for the tests; line numbers in them refer to it.
#pragma once

#include <string>

namespace witan::configs {

inline const std::string kGoodConfig = R"(name: "tiny"
model {
  vocab_size: 257
  d_model: 32
  layers: 2
  attention { heads: 4 }
  moe {
    experts: 8
    d_ff: 16
    router { top_k { k: 2 } }
    balance { switch_aux { coefficient: 0.02 } }
    balance { z_loss {} }
  }
}
)";

// kGoodConfig with the first `from` replaced by `to`.
inline std::string good_config_with(const std::string& from, const std::string& to) {
  std::string text = kGoodConfig;
  return text.replace(text.find(from), from.size(), to);
}

}  // namespace witan::configs
