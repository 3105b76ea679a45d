// Attention on random operands: sequences, documents, shapes of heads.
#pragma once

#include <cmath>
#include <vector>

#include "core/ops/attention.h"
#include "tests/support/op_case.h"

namespace witan::test {

// first_key of documents of uneven lengths that end inside tiles; 0 everywhere without documents.
inline std::vector<std::int32_t> document_starts(std::int64_t batch, std::int64_t seq_len,
                                                 bool documents) {
  std::vector<std::int32_t> first(static_cast<std::size_t>(batch * seq_len), 0);
  for (std::int64_t b = 0; b < batch && documents; ++b) {
    std::int64_t start = 0;
    std::int64_t length = 3 + b;
    for (std::int64_t t = 0; t < seq_len; ++t) {
      if (t == start + length) {
        start = t;
        length = length * 5 % 97 + 1;
      }
      first[static_cast<std::size_t>(b * seq_len + t)] = static_cast<std::int32_t>(start);
    }
  }
  return first;
}

struct AttentionCase {
  std::int64_t batch;
  std::int64_t seq_len;
  std::int64_t heads;
  std::int64_t kv_heads;
  std::int64_t head_dim;
  bool documents;
  double sharpness = 1.0;
  std::int64_t v_dim = head_dim;

  std::int64_t tokens = batch * seq_len;
  std::int64_t width = (heads + kv_heads) * head_dim + kv_heads * v_dim;
  std::int64_t out_width = heads * v_dim;
  Values qkv = random_normal(tokens * width, 1, sharpness);
  Values projection = random_normal(tokens * out_width, 2);
  std::vector<std::int32_t> first_key = document_starts(batch, seq_len, documents);
  Products products = Products::kFull;

  ops::AttentionShape shape() const {
    return {batch, seq_len, heads, kv_heads, head_dim, 1.0 / std::sqrt(double(head_dim)), v_dim};
  }

  void forward(const Tensor& out, const Tensor& lse) const {
    ops::attention({{}, {}, products}, shape(), tensor_of(qkv, {tokens, width}, out.view().dtype),
                   tensor_of(first_key, {tokens}), out, lse);
  }
  Values forward() const {
    const Tensor out = unwritten({tokens, out_width}, DType::kFloat64);
    forward(out, unwritten({tokens, heads}, DType::kFloat64));
    return values_of(out);
  }

  Outputs run(DType dtype) const {
    const Tensor out = unwritten({tokens, out_width}, dtype);
    const Tensor lse = unwritten({tokens, heads}, dtype);
    forward(out, lse);
    const Tensor dqkv = unwritten({tokens, width}, dtype);
    ops::attention_backward({{}, {}, products}, shape(),
                            tensor_of(projection, {tokens, out_width}, dtype),
                            tensor_of(qkv, {tokens, width}, dtype), tensor_of(first_key, {tokens}),
                            out, lse, unwritten({tokens, heads}, dtype), dqkv);
    return {{"out", values_of(out)}, {"lse", values_of(lse)}, {"dqkv", values_of(dqkv)}};
  }
};

// Around the tiles of 64 queries and keys, and over several of them.
inline std::vector<AttentionCase> tile_cases() {
  return {{1, 63, 2, 1, 32, false},       {1, 64, 2, 1, 17, true},
          {2, 65, 4, 2, 16, false},       {1, 200, 6, 2, 40, false},
          {1, 333, 2, 1, 64, true},       {3, 130, 1, 1, 128, true},
          {1, 130, 2, 1, 24, false, 4.0}, {1, 130, 2, 2, 40, true, 1.0, 17}};
}

inline std::vector<AttentionCase> small_cases() {
  return {{1, 1, 1, 1, 1, false},  {2, 5, 4, 2, 3, false},        {2, 11, 3, 1, 6, true},
          {1, 19, 2, 2, 18, true}, {2, 7, 4, 2, 5, true, 1.0, 3}, {1, 9, 2, 1, 3, false, 1.0, 20}};
}

}  // namespace witan::test
