// A Hugging Face folder to a checkpoint, and back.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "launch/checkpoint/safetensors.h"

namespace witan {

// Modules of multi-token prediction, which DeepSeek-V3 stores as layers behind the last.
enum class MtpTensors { kRefuse, kSkip, kKeep };

struct ConvertOptions {
  std::optional<StDType> dtype;  // F32 or BF16; none: each tensor keeps its own (fp8: BF16)
  // To a Hugging Face folder: its model_type where several compute the same; empty: the first.
  std::string architecture;
  MtpTensors mtp = MtpTensors::kRefuse;
  std::uint64_t max_shard_bytes = 5'000'000'000;
};

struct ConvertReport {
  bool to_checkpoint = false;  // else to a Hugging Face folder
  std::int64_t tensors = 0;
  std::int64_t parameters = 0;
  std::int64_t files = 0;   // of weights
  std::uint64_t bytes = 0;  // of weights
};

// `from` with witan.json becomes a Hugging Face folder, any other one a checkpoint without
// optimizer state. Tensor by tensor: the memory needed does not grow with the model. `to` must not
// exist; it is there whole or not at all. UserError on what is not supported, or does not fit.
ConvertReport convert_folder(const std::string& from, const std::string& to,
                             const ConvertOptions& options);

}  // namespace witan
