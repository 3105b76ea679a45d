// One rank's micro-batch, all int32; rows = sequences * seq_len tokens, sequence after sequence. On
// the run's device. A rank may have no sequences at all.
#pragma once

#include <cstdint>

#include "core/tensor/tensor_view.h"

namespace witan {

struct Batch {
  std::int64_t sequences = 0;
  std::int64_t seq_len = 0;
  std::int64_t first_token =
      0;  // global id of the first token in this step: first sequence's index in the step * seq_len
  std::int64_t loss_tokens = 0;  // targets that count
  bool even = false;             // every rank has as many rows in this micro-batch
  bool training = false;         // noise and jitter of the router are on ...
  std::uint64_t seed = 0;        // ... and addressed by this seed, the step and the global token
  std::int64_t step = 0;
  std::int64_t micro_batch = 0;  // of the step, counted from 0
  double progress = 0.0;         // of the run: 0 at its first step, 1 at its last
  TensorView tokens;             // [rows]
  TensorView targets;            // [rows]; -1: not counted
  TensorView positions;          // [rows], for RoPE
  TensorView first_key;          // [rows]: first position in its sequence a token may attend to
  TensorView tags;               // [rows]: index of the token's tag; empty if nothing reads it
  // [rows]: in host memory, where `tokens`, `targets` and `tags` are elsewhere
  TensorView host_tokens, host_targets, host_tags;

  std::int64_t rows() const { return sequences * seq_len; }
  const TensorView& tokens_on_host() const { return tokens.device.is_cpu() ? tokens : host_tokens; }
  const TensorView& targets_on_host() const {
    return targets.device.is_cpu() ? targets : host_targets;
  }
  const TensorView& tags_on_host() const { return tags.device.is_cpu() ? tags : host_tags; }
  // Those that work on the host, or on the run's device, reads.
  const TensorView& tags_at(Device device) const { return device.is_cpu() ? tags_on_host() : tags; }
};

}  // namespace witan
