// Text generation with a key-value cache. The samples are split over the ranks, which exchange
// tokens with the experts' ranks as in training: also a rank without a sample takes part in every
// step.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "launch/engine.h"
#include "launch/sampler.h"

namespace witan {

struct GenerateOptions {
  SamplingOptions sampling;
  std::int64_t samples = 1;
  std::int64_t max_tokens = 200;  // new tokens per sample
  std::int64_t context =
      0;  // tokens the model sees at once (model.max_seq_len); at least the prompt
  std::int32_t end_of_document = -1;  // ends a sample; -1: none does
  std::int32_t tag = 0;               // of every token (Batch.tags)
};

struct GeneratedSample {
  std::vector<std::int32_t> tokens;  // behind the prompt, without the end-of-document token
  bool ended = false;                // by end-of-document, not by max_tokens
};

// All samples at rank 0, none elsewhere. The random number of a token is addressed by (seed,
// sample, position), so that the text does not depend on the number of ranks but for rounding. A
// text longer than `context` goes on behind its newest half: the older tokens are dropped and
// positions start anew. `prompt` is not empty. Collective.
std::vector<GeneratedSample> generate(Engine& engine, std::span<const std::int32_t> prompt,
                                      const GenerateOptions& options);

}  // namespace witan
