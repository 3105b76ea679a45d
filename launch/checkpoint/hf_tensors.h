// The tensors of a folder, by the names `transformers` gives them, and the part of ours that each
// holds. Read off the ParamTable: no list of names stands anywhere else.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/model/param_table.h"

namespace witan {

struct HfTensor {
  std::string name;          // "model.layers.3.block_sparse_moe.experts.5.w1.weight"
  int id = -1;               // in the ParamTable
  std::int64_t expert = -1;  // global id; -1: not of an expert
  std::vector<std::int64_t> shape;
  // Where it begins in our tensor, or in this expert's slice of it; elements.
  std::int64_t begin = 0;
  std::int64_t elements = 0;
};

// Of one tensor: a dense one as a whole, an expert tensor for experts [first_expert,
// first_expert + experts), expert by expert.
std::vector<HfTensor> hf_tensors_of(const ParamTable& table, int id, std::int64_t first_expert,
                                    std::int64_t experts);

// The trained tensors of the whole model, in table order: all that have gradients and moments.
std::vector<HfTensor> hf_tensors_of(const ParamTable& table);

// The same with the state that has a name there (DeepSeek-V3's e_score_correction_bias): all that a
// folder of weights holds.
std::vector<HfTensor> hf_weights_of(const ParamTable& table);

// DeepSeek-V3 stores the embedding and the head, which its modules of multi-token prediction share
// with the main model, once more with each of them. Ours have no tensor of that kind.
struct MtpCopy {
  std::string name;
  bool of_head = false;  // else of the embedding
};
// Those of the module whose layer is `layer`.
std::vector<MtpCopy> mtp_copies(std::int64_t layer);

// The element of a rank's part of the tensor, which begins at `first_expert`, where `tensor`
// begins.
std::int64_t local_offset(const ParamTable& table, const HfTensor& tensor,
                          std::int64_t first_expert);

}  // namespace witan
