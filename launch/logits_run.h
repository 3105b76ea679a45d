// Logits, loss and gradients of given tokens: how a model is compared with another implementation.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "launch/engine.h"

namespace witan {

// input_ids [sequences, seq_len], row-major.
struct InputIds {
  std::int64_t sequences = 0;
  std::int64_t seq_len = 0;
  std::vector<std::int32_t> ids;
  int tag = 0;  // of every token (Batch.tags)
};

// From the tensor "input_ids" (I64 or I32) of a safetensors file. UserError: dtype, shape (at least
// one sequence of two tokens), ids outside of the vocabulary, or a tensor beside it that would have
// to change the result (attention_mask, position_ids, labels).
InputIds read_input_ids(const std::string& path, std::int64_t vocab);

struct LogitsFiles {
  std::string tokens;     // where the ids came from: a note in `logits`
  std::string logits;     // logits [sequences, seq_len, vocab] and loss [1], F32
  std::string gradients;  // empty: none
};

// Positions 0 .. seq_len - 1, nothing masked. Returns the loss, the mean over all sequences
// (seq_len - 1) next tokens, without balancing losses: the engine's model must have none, and
// gradients if a file for them is given. The sequences are dealt to the ranks, of which some may
// have none. Collective.
double compute_logits(Engine& engine, const InputIds& input, const LogitsFiles& files);

// Takes the losses out of a model's balancing and leaves what changes the choice of experts.
void remove_balancing_losses(configs::ModelConfig& model);

}  // namespace witan
